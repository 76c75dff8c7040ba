"""The committed pages of the second protocols are what their committed cells say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

from bench.pretrained.second import manner
from bench.study.second import beside, longer, stored
from bench.study.second.cells import Cell

ROOT = Path(__file__).resolve().parents[2]
STUDY, PRETRAINED = (ROOT / "bench" / name / "second" / "results" for name in ("study", "pretrained"))


def cells_of(committed: Path, into: Path) -> Path:
    """A folder with the cells and choices of another, and none of its pages."""
    return Path(shutil.copytree(committed, into, ignore=shutil.ignore_patterns("*.md")))


@pytest.mark.parametrize("study", ["study", "pretrained"])
def test_the_page_of_the_core_is_made_of_its_cells(study: str, tmp_path: Path) -> None:
    """By the command that the page names, in a process of its own, since the core narrows the protocol for good."""
    committed = ROOT / "bench" / study / "second" / "results" / "core"
    made = cells_of(committed, tmp_path / "core")
    given = tmp_path if study == "study" else made
    command = [sys.executable, "-m", f"bench.{study}.second", "--stage", "tables", "--core", "--device", "cpu"]
    done = subprocess.run([*command, "--results", given], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (made / "README.md").read_text() == (committed / "README.md").read_text()


def test_every_other_page_is_made_of_its_cells(tmp_path: Path) -> None:
    pages = {"LONGER.md": longer.page, "BESIDE.md": beside.page, "STORED.md": stored.page}
    there = {path.name for path in (STUDY / "core").glob("*.md")}
    assert {"README.md", "LONGER.md"} <= there <= {"README.md", *pages}
    made = cells_of(STUDY / "core", tmp_path / "study")
    for name, page in pages.items():
        if name in there:
            assert page(made) == (STUDY / "core" / name).read_text(), name
    made = cells_of(PRETRAINED / "manner", tmp_path / "manner")
    assert manner.page(made) == (PRETRAINED / "manner" / "README.md").read_text()


@pytest.mark.parametrize("module", [longer, beside, stored])
def test_a_run_from_nothing_has_a_folder_of_its_own(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--results` the committed folder is neither read nor written."""
    name, into = module.__name__.rpartition(".")[2], set()

    def finish(wanted: Iterable[Cell], where: Path, *_: object) -> None:
        assert list(wanted)
        into.add(where)

    monkeypatch.setattr(module, "finish", finish)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "no such folder")
    made = cells_of(STUDY / "core", tmp_path / "core")
    module.main(results=made)
    assert into == {made / f"{name}.jsonl"}
    assert [path.name for path in made.glob("*.md")] == [f"{name.upper()}.md"]
    assert (made / "longer.json").read_text() == (STUDY / "core" / "longer.json").read_text()  # the same choice
