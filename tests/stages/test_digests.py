"""The digest of a stage's code covers what the stage may load, and nothing else."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from dcod.config import Config
from dcod.stages import imports
from dcod.stages.catalogue import STAGES
from dcod.stages.digests import attempt_place, code_digest

INGESTING = {"teach", "ingest", "examine", "join"}
TRAINING = {"train", "train_job"}
OWN_STUDENT = TRAINING | {"score", "pilot"}  # run one engine, transformers, and keep no books
SHOWN = {"gate"}  # writes the report, the model card and the page of the traces


@pytest.fixture(scope="module")
def reached() -> dict[str, set[str]]:
    """The files of each stage's digest."""
    return {
        stage: {path.relative_to(imports.ROOT).as_posix() for path in imports.reached(f"dcod.stages.{stage}")}
        for stage in STAGES
    }


@pytest.mark.parametrize(
    ("name", "moved", "stays"),
    [
        ("reports/report.py", SHOWN, set(STAGES) - SHOWN),
        ("reports/model_card.py", SHOWN, set(STAGES) - SHOWN),
        ("reports/sections.py", SHOWN, set(STAGES) - SHOWN),
        ("reports/trace_pages.py", SHOWN, set(STAGES) - SHOWN),
        ("reports/figures.py", SHOWN, set(STAGES) - SHOWN),
        ("reports/data_card.py", set(), set(STAGES)),
        ("stages/pages.py", set(), set(STAGES)),
        ("cli/runs.py", set(), set(STAGES)),
        ("stages/execute.py", set(), set(STAGES)),
        ("stages/catalogue.py", set(), set(STAGES)),
        ("tracking/runs.py", {"fetch", "promote"}, {"teach", "ingest", "evaluate"} | TRAINING),
        ("traces/formats/gsm8k.py", INGESTING, {"fetch", "promote"} | TRAINING),
        ("benchmarks/amc23.py", {"ingest", "examine", "join", "evaluate", "gate", "decide"}, TRAINING),
        ("engines/vllm.py", {"teach", "evaluate", "gate"}, OWN_STUDENT | {"ingest", "examine", "join"}),
        ("engines/openai.py", {"teach", "evaluate", "gate"}, OWN_STUDENT | {"ingest", "examine", "join"}),
        ("engines/transformers.py", OWN_STUDENT | {"evaluate"}, {"fetch", "ingest"}),
        ("tracking/runs.py", {"fetch", "gate", "promote", "decide"}, OWN_STUDENT | {"again", "choose", "merge"}),
        ("tracking/lineage.py", {"gate"}, OWN_STUDENT | {"again", "choose", "merge"}),
        ("tracking/logged_models.py", {"fetch", "gate", "promote"}, OWN_STUDENT | {"again", "choose", "merge"}),
        ("tracking/logs.py", {"again", "gate"}, OWN_STUDENT),
        ("promote/rules.py", {"choose", "gate"}, OWN_STUDENT | {"again", "halve"}),
        ("promote/promote.py", {"gate", "promote"}, OWN_STUDENT | {"again", "halve", "choose", "decide"}),
        ("promote/twins.py", {"choose", "gate"}, OWN_STUDENT | {"again", "halve"}),
        ("promote/choice.py", {"pilot", "halve", "choose"}, TRAINING | {"score"}),
        ("objective/losses.py", TRAINING | {"decide"}, {"fetch", "ingest", "examine", "join"}),
        ("grading/verdict.py", {"ingest", "examine", "join", "evaluate"}, {"fetch"}),
        ("grading/algebra.py", {"ingest", "examine", "join", "evaluate"}, {"fetch"}),  # by `python -m` alone
        ("stages/train_node.py", TRAINING, {"ingest", "score", "evaluate"}),  # by torchrun alone
        ("traces/mapping/presets/curator.yaml", INGESTING, {"fetch", "promote"} | OWN_STUDENT),
        ("reports/assets/parts.html", SHOWN, set(STAGES) - SHOWN),
        ("config/schema.py", set(STAGES), set()),
    ],
)
def test_a_file_counts_for_the_stages_that_load_it(
    name: str, moved: set[str], stays: set[str], reached: dict[str, set[str]]
) -> None:
    assert (imports.ROOT / name).is_file()
    counting = {stage for stage, files in reached.items() if name in files}
    assert moved <= counting
    assert not stays & counting


@pytest.mark.parametrize("stage", sorted(OWN_STUDENT))
def test_who_runs_the_student_keeps_no_books(stage: str, reached: dict[str, set[str]]) -> None:
    assert {name for name in reached[stage] if name.startswith(("tracking/", "reports/", "benchmarks/"))} == set()
    engines = {name for name in reached[stage] if name.startswith("engines/")}
    assert engines == {"engines/__init__.py", "engines/base.py", "engines/transformers.py"}


def test_an_edit_voids_no_more_than_it_must(tmp_path: Path) -> None:
    copy = shutil.copytree(imports.ROOT, tmp_path / "dcod", ignore=shutil.ignore_patterns("__pycache__"))
    stages = ("ingest", "score", "train", "pilot", "evaluate", "gate")
    before = {stage: code_digest(stage) for stage in stages}

    def moved() -> set[str]:
        for cached in (code_digest, imports._imported, imports._files):  # a process takes them once
            cached.cache_clear()
        found = {stage for stage in stages if code_digest(stage, root=copy) != before[stage]}
        before.update((stage, code_digest(stage, root=copy)) for stage in stages)
        return found

    assert moved() == set()  # where dcod lies does not count
    for page in ("report.py", "sections.py", "model_card.py", "trace_pages.py", "data_card.py", "figures.py"):
        with (copy / "reports" / page).open("a") as file:
            file.write("# a remark\n")
    assert moved() == {"gate"}
    with (copy / "traces" / "mapping" / "presets" / "curator.yaml").open("a") as file:
        file.write("# a remark\n")
    assert {"ingest"} <= moved() <= {"ingest", "evaluate", "gate"}
    for module in ("engines/vllm.py", "engines/openai.py", "engines/by_name.py"):
        with (copy / module).open("a") as file:
            file.write("# a remark\n")
    assert moved() == {"evaluate", "gate"}
    for module in (*(copy / "tracking").glob("*.py"), copy / "promote" / "rules.py"):
        with module.open("a") as file:
            file.write("# a remark\n")
    assert moved() == {"gate"}
    (copy / "traces" / "formats" / "of_tomorrow.py").write_text("from dcod.errors import UserError\n")
    assert {"ingest"} <= moved() <= {"ingest", "score", "pilot", "evaluate", "gate"}
    with (copy / "objective" / "weighting.py").open("a") as file:
        file.write("# a remark\n")
    assert {"train"} <= moved() <= {"train", "score", "pilot", "gate"}


LOADED = """
import importlib, json, sys
for stage in sys.argv[1:]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "dcod"]:
        del sys.modules[name]
    importlib.import_module(f"dcod.stages.{stage}")
    files = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "dcod"]
    print(json.dumps([stage, files]))
"""


def test_all_that_a_stage_loads_is_in_its_digest() -> None:
    command = [sys.executable, "-c", LOADED, *STAGES]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    loaded = dict(json.loads(line) for line in printed.splitlines())
    assert set(loaded) == set(STAGES)
    for stage, files in loaded.items():
        assert len(files) > 20
        assert {Path(file) for file in files} <= set(imports.reached(f"dcod.stages.{stage}")), stage


def written(root: Path, **files: str) -> Path:
    package = root / "dcod"
    for name, text in files.items():
        path = package / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for folder in {package, *(path.parent for path in package.rglob("*.py"))}:
        (folder / "__init__.py").touch()
    return package


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("import dcod.b.c", {"b", "b/c"}),
        ("from dcod.b import c", {"b", "b/c"}),
        ("from dcod.b.c import name", {"b", "b/c"}),
        ("from .b import c", {"b", "b/c"}),
        ("from . import b", {"b"}),
        ("def f():\n    from dcod.b import c", {"b", "b/c"}),
        ("try:\n    import dcod.b.c\nexcept ImportError:\n    pass", {"b", "b/c"}),
        ("import importlib\nimportlib.import_module('dcod.b.c')", {"b", "b/c"}),
        ("run([python, '-m', 'dcod.b.c'])", {"b", "b/c"}),
        ("run(f'{python} -m dcod.b.c --fast')", {"b", "b/c"}),
        ("ENTRY = 'dcod.b.c:main'", {"b", "b/c"}),
        ("import pkgutil\nx = list(pkgutil.iter_modules(['.']))", {"b", "d"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dcod.b import c", set()),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    x = 1\nelse:\n    from dcod.b import c",
            {"b", "b/c"},
        ),
        ('"""dcod.b.c"""', set()),
        ("HELP = 'see dcod.b.c for more'", set()),
        ("TAG = 'dcod.tag'", set()),
        ("import json, torch.nn", set()),
    ],
)
def test_ways_to_name_a_module(text: str, reached: set[str], tmp_path: Path) -> None:
    root = written(tmp_path, a=text, b__c="", d="")
    found = {path.relative_to(root).with_suffix("").as_posix() for path in imports.reached("dcod.a", root=root)}
    assert {name.removesuffix("/__init__") for name in found} - {"__init__", "a"} == reached


@cache
def calls() -> list[tuple[str, str, str | None]]:
    """All calls in dcod with an argument: the file, what is called, and the first argument where it is a string."""
    found = []
    for path in imports.ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                called = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
                text = getattr(node.args[0], "value", None)
                file = path.relative_to(imports.ROOT).as_posix()
                found.append((file, called, text if isinstance(text, str) else None))
    return found


def test_no_module_is_imported_by_a_name_that_is_not_seen() -> None:
    """What looks modules up by a made name does so in its own folder, or is told the name by who imports it."""
    made = {file for file, called, name in calls() if called == "import_module" and name is None}
    # iter_modules stands beside it
    whole = {
        "traces/formats/_find.py",
        "benchmarks/_load.py",
        "objective/corrections/_find.py",
        "score/fields/_find.py",
    }
    assert made == whole | {"stages/catalogue.py", "grading/worker.py"}
    assert all("iter_modules" in (imports.ROOT / file).read_text() for file in whole)


def test_workers_are_started_by_names_of_modules() -> None:
    asked = {name for _, called, name in calls() if called == "ask" and name and name.startswith("dcod.")}
    assert asked == {"dcod.grading.algebra", "dcod.traces.synthetic", "dcod.benchmarks.reasoning_gym"}
    for name in asked:
        assert (imports.ROOT.parent / f"{name.replace('.', '/')}.py").is_file()


def test_attempts_go_on_only_from_those_of_the_same_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "input").write_text("x")

    def attempts() -> list[str]:
        kept = "s3://bucket/kept/"
        return [attempt_place(kept, stage, Config(), {"a": 1}, tmp_path / "input") for stage in ("score", "train")]

    score, train = attempts()
    assert score.rpartition("/")[0] == "s3://bucket/kept"
    assert not attempt_place("", "score", Config(), {"a": 1}, tmp_path / "input")
    assert score != train
    real = code_digest
    monkeypatch.setattr("dcod.stages.digests.code_digest", lambda name: "new" if name == "train" else real(name))
    assert attempts()[0] == score
    assert attempts()[1] != train
