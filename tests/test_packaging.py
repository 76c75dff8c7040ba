"""The wheel holds what it needs and nothing else, and works where the source tree is not."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from dcod.cli import extras

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"dcod": "dcod", "dcod_components": "components", "dcod_pipelines": "pipelines"}  # by the name of the package
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
REQUIRED = PROJECT["project"]["dependencies"] + [
    text for extra in re.findall(r"\w+", EXTRAS["all"][0])[1:] for text in EXTRAS[extra]
]


def run(*command: str, cwd: Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=kept | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy without links, so that neither they nor an earlier build's leftovers hide a missing file."""
    place = tmp_path_factory.mktemp("wheel")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "source" / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*command, "--wheel-dir", str(place), str(place / "source"), cwd=place)
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    run(*pip, str(wheel), cwd=target)
    return target


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """Where a user has a project with folders of the names that ours have in the repository."""
    for name in ("components", "pipelines"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the wrong one')\n")
    return tmp_path


def dcod(installed: Path, cwd: Path, *arguments: str) -> str:
    """Runs the installed package's command line, with the folder on the path and the source tree not."""
    code = f"import sys; sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]; target = sys.argv.pop(1)\n"
    for package in FOLDERS:
        code += f"import {package}; assert {package}.__file__.startswith(target), {package}.__file__\n"
    code += "import dcod.cli; dcod.cli.main()"
    return run(sys.executable, "-c", code, str(installed), *arguments, cwd=cwd, PYTHONPATH=str(installed))


def test_the_wheel_holds_all_sources_and_presets_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".html", ".md", ".css", ".js", ".typed") and "__pycache__" not in path.parts
    }
    assert names == sources
    assert len(names) >= 45
    assert {
        "dcod/reports/assets/viewer.html",
        "dcod/reports/assets/viewer.js",
        "dcod/reports/assets/common.css",
    } <= names
    assert any(name.startswith("dcod_pipelines/configs/") and name.endswith(".yaml") for name in names)


def test_the_wheel_carries_licence_version_and_requirements(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    text = archive.read(metadata).decode()
    assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())
    assert "License-Expression: Apache-2.0" in text
    assert "\nRequires-Python: >=3.11\n" in text
    assert text.count("\nRequires-Dist: ") >= len(PROJECT["project"]["dependencies"])


def test_the_installed_package_compiles_the_pipeline(installed: Path, users_folder: Path) -> None:
    before = {path.name for path in users_folder.iterdir()}
    dcod(installed, users_folder, "compile", "--out", "pipeline.yaml")
    documents = list(yaml.safe_load_all((users_folder / "pipeline.yaml").read_text(encoding="utf-8")))
    assert documents[0]["pipelineInfo"]["name"] == "dcod-distill"
    assert {path.name for path in users_folder.iterdir()} == before | {"pipeline.yaml"}


def test_the_installed_package_lists_the_presets(installed: Path, users_folder: Path) -> None:
    command = [sys.executable, "-m", "dcod", "presets"]
    printed = run(*command, cwd=users_folder, PYTHONPATH=str(installed))
    names = [path.stem for path in (ROOT / "pipelines" / "configs").glob("*.yaml")]
    assert "quickstart" in names
    assert {line.split()[0] for line in printed.splitlines() if line.strip()} >= set(names)
    assert dcod(installed, users_folder, "presets") == printed


def test_a_user_is_told_the_version(installed: Path, tmp_path: Path) -> None:
    import dcod as package

    assert dcod(installed, tmp_path, "--version").strip() == f"dcod {package.__version__}"


def test_the_installed_package_has_the_digests_of_its_source(installed: Path, tmp_path: Path) -> None:
    from dcod.stages.digests import code_digest

    code = "from dcod.stages import digests as d; print(d.__file__, *(d.code_digest(n) for n in ('ingest', 'train')))"
    file, *digests = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).split()
    assert file.startswith(str(installed))
    assert digests == [code_digest("ingest"), code_digest("train")]


def test_pins_are_pins() -> None:
    files = sorted((ROOT / "docker").glob("*.lock"))
    assert len(files) >= 2
    for file in files:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        names = [line.partition("==")[0] for line in lines]
        assert names == sorted(set(names)), file.name
        for line in lines:
            name, equals, version = line.partition("==")
            assert equals, f"{file.name}: {line} is not pinned"
            assert not set("+@/ ;") & set(version), f"{file.name}: {line} names a build or a place"
            assert not name.startswith(("-", "dcod"))


def test_the_lock_satisfies_the_project() -> None:
    from packaging.requirements import Requirement

    lines = (ROOT / "docker" / "cpu.lock").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    wanted = REQUIRED + PROJECT["project"]["optional-dependencies"]["dev"]
    for text in wanted:
        requirement = Requirement(text)
        version = pinned[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(version), f"{text}: the lock has {version}"
    assert len(wanted) >= 25


def test_the_pythons_are_the_same_everywhere() -> None:
    """Said to the index, resolved by `make resolves`, tested by the forge's workflow, and told in the README."""
    title = "Programming Language :: Python :: "
    said = [text.removeprefix(title) for text in PROJECT["project"]["classifiers"] if text.startswith(title)]
    assert PROJECT["project"]["requires-python"] == f">={said[0]}"
    assert PROJECT["tool"]["mypy"]["python_version"] == said[0]
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{said[0].replace('.', '')}"
    (pythons,) = re.findall(r"^PYTHONS := (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert pythons.split() == said
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yaml").read_text(encoding="utf-8"))["jobs"]
    assert {name: jobs[name]["strategy"]["matrix"]["python"] for name in ("test", "resolves")} == {
        "test": said,
        "resolves": said,
    }
    resolved = (ROOT / "tests" / "resolves.log").read_text(encoding="utf-8").splitlines()[1:]
    assert {line.split()[0] for line in resolved} == {*said}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for python in said[1:]:
        run = (ROOT / "tests" / f"python-{python}.log").is_file()
        assert (f"[{python}](tests/python-{python}.log)" in readme) == run, f"README: was Python {python} run?"
        assert run or f"{python} was resolved only" in readme, f"README: Python {python} was not run"


def _plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_all_that_is_imported_is_declared_and_the_other_way_round() -> None:
    imported: set[str] = set()
    for file in (file for area in FOLDERS.values() for file in (ROOT / area).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    ours = {*FOLDERS}
    foreign = imported - set(sys.stdlib_module_names) - ours - {"vllm"}  # of an image of its own
    assert len(foreign) >= 35
    declared = {_plain(re.split(r"[^\w.-]", text)[0]) for text in REQUIRED}
    behind = packages_distributions()
    givers = {name: {_plain(one) for one in behind.get(name, [])} for name in foreign}
    assert {name for name, distributions in givers.items() if not distributions & declared} == set()
    # transformers reads the packaged SmolLM2 by gguf; nothing here imports it.
    assert declared - set().union(*givers.values()) == {"gguf"}
    for name in foreign:  # a verb that lacks a package says which extra has it
        extra = extras.EXTRAS.get(name)
        has = PROJECT["project"]["optional-dependencies"][extra] if extra else PROJECT["project"]["dependencies"]
        assert givers[name] & {_plain(re.split(r"[^\w.-]", text)[0]) for text in has}, f"{name}: {extra}"


WITHOUT = """
import sys
missing = sys.argv.pop(1).split(",")
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import dcod.cli
dcod.cli.main()
"""


def without(missing: set[str], *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, ",".join(missing), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("words", [["--help"], ["config", "train.epochs=3"], ["presets", "gsm8k"], ["score", "-h"]])
def test_the_base_is_enough_to_look_around(words: list[str], tmp_path: Path) -> None:
    done = without({*extras.EXTRAS}, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_laptop_that_only_submits_needs_no_torch(tmp_path: Path) -> None:
    missing = {name for name, extra in extras.EXTRAS.items() if extra in ("train", "evaluate", "mlflow", "quickstart")}
    done = without(missing, "compile", "--out", "p.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p.yaml").is_file()


def test_a_verb_that_lacks_its_extra_says_which(tmp_path: Path) -> None:
    for missing, words in (("kfp", ["compile", "--out", "p.yaml"]), ("mlflow", ["lineage", "models:/a@b"])):
        done = without({missing}, *words, cwd=tmp_path)
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()
        assert f"needs {missing}, which is not installed: pip install 'dcod[{extras.EXTRAS[missing]}]'" in line
