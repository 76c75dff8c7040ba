"""The check of skipped tests that .ci/run ends with, and the one that a release begins with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PASSED = '<testcase classname="tests.a" name="one"/>'
SKIPPED = '<testcase classname="tests.a" name="two"><skipped message="{}"/></testcase>'


@pytest.mark.parametrize(
    ("cases", "status", "said"),
    [
        ([PASSED], 0, "1 tests ran, 0 were skipped"),
        ([PASSED, SKIPPED.format("needs a GPU")], 0, "1 tests ran, 1 were skipped"),
        ([PASSED, SKIPPED.format("needs a GPU or so")], 1, "tests.a.two was skipped: needs a GPU or so"),
        ([PASSED, SKIPPED.format("no weed here")], 1, "tests.a.two was skipped: no weed here"),
        ([SKIPPED.format("needs a GPU")], 1, "no test ran"),
        ([], 1, "no test ran"),
    ],
)
def test_only_listed_skips_pass(tmp_path: Path, cases: list[str], status: int, said: str) -> None:
    report, allowed = tmp_path / "report.xml", tmp_path / "allowed.txt"
    report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>", encoding="utf-8")
    allowed.write_text("# reasons\nneeds a GPU\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / ".ci" / "check_skips.py"), str(allowed), str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert said in done.stdout + done.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit, of version 1.2.0."""
    place = tmp_path / "checkout"
    (place / "dcod").mkdir(parents=True)
    (place / "dcod" / "__init__.py").write_text('"""dcod."""\n\n__version__ = "1.2.0"\n')
    (place / ".gitignore").write_text("/dist/\n")
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "one"]):
        git(place, *words)
    return place


def git(place: Path, *words: str) -> None:
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", *words]
    subprocess.run(command, cwd=place, env=os.environ | own, check=True, capture_output=True)


def released(place: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / ".ci" / "check_release.py"), *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr).count("\n") == 1
    return done.returncode, (done.stdout + done.stderr).strip()


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ([], "there is no tag at HEAD, dcod/__init__.py says 1.2.0: `git tag v1.2.0`"),
        (["v1.2.1"], "the tag is v1.2.1, dcod/__init__.py says 1.2.0: make them one"),
        (["v1.2.0", "v1.3.0"], "the tag is v1.2.0, v1.3.0, dcod/__init__.py says 1.2.0: make them one"),
        (["1.2.0"], "there is no tag at HEAD, dcod/__init__.py says 1.2.0: `git tag v1.2.0`"),
    ],
)
def test_what_is_not_tagged_by_its_version_is_no_release(checkout: Path, tags: list[str], told: str) -> None:
    for tag in tags:
        git(checkout, "tag", tag)
    assert released(checkout) == (1, told)


def test_a_release_is_what_was_tagged_and_nothing_else(checkout: Path) -> None:
    git(checkout, "tag", "--annotate", "--message", "the release", "v1.2.0")
    git(checkout, "tag", "verified")
    assert released(checkout) == (0, "the release is 1.2.0")
    (checkout / "new.py").touch()
    assert released(checkout) == (1, "changed since the tag v1.2.0: ?? new.py; commit it and move the tag")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "--message", "two")
    assert released(checkout)[1].startswith("there is no tag at HEAD")


def test_what_was_built_has_the_version(checkout: Path) -> None:
    git(checkout, "tag", "v1.2.0")
    (checkout / "dist").mkdir()
    wanted = "dcod-1.2.0-py3-none-any.whl, dcod-1.2.0.tar.gz"
    assert released(checkout, "dist") == (1, f"dist has nothing, a release has {wanted}")
    for name in wanted.split(", "):
        (checkout / "dist" / name).touch()
    assert released(checkout, "dist")[0] == 0
    (checkout / "dist" / "dcod-1.1.0.tar.gz").touch()
    assert released(checkout, "dist")[0] == 1


def test_an_archive_without_git_is_no_release(checkout: Path, tmp_path: Path) -> None:
    bare = Path((checkout / "dcod").rename(tmp_path / "dcod")).parent
    status, told = released(bare)
    assert status == 1
    assert told.startswith("a release is made in a git checkout, at a tag: fatal: not a git repository")


def test_the_tag_is_looked_at_before_anything_is_built() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    command = ["make", "--no-print-directory", "--dry-run", "release", "PYTHON=python-here"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "python-here .ci/check_release.py"
    (built,) = [place for place, line in enumerate(lines) if " -m build " in line]
    assert any(line.endswith("python-here .ci/check_release.py dist") for line in lines[built:])
