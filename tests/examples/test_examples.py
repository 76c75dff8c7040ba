"""The worked folders: every command is one that dcod has, every configuration passes `dcod check` on its own data."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer.main
import yaml

from dcod import grading
from dcod.check.checks import Check, checks
from dcod.cli import app
from dcod.config import Config, parse_config
from dcod.config.reach import for_cluster
from dcod.engines.transformers import TransformersEngine
from dcod.stages.execute import RunContext, execute
from dcod.traces import prompts, read_traces
from dcod_pipelines.cron import parse
from tests.engines.test_openai import Server

ROOT = Path(__file__).parents[2] / "examples"
FOLDERS = ("nightly", "openai-teacher", "own-benchmark", "own-traces", "several-teachers")


@pytest.fixture
def at_home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a test's parameter, as the current one."""
    monkeypatch.chdir(ROOT / request.param)
    return ROOT / request.param


def read(folder: Path, student: Path, *overrides: str) -> Config:
    text = (folder / "dcod.yaml").read_text(encoding="utf-8")
    return parse_config(text, [f"student.model={student}", *overrides])


def answers(config: Config) -> dict[str, list[Check]]:
    found: dict[str, list[Check]] = {}
    for check in checks(config):
        found.setdefault(check.name, []).append(check)
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The calls of dcod in blocks of code."""
    for block in re.findall(r"^```\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            for call in line.split(" && "):
                words = shlex.split(call)
                if words and words[0] == "dcod":
                    yield words[1:]


def test_all_folders_are_known_and_named() -> None:
    assert tuple(sorted(path.parent.name for path in ROOT.glob("*/README.md"))) == FOLDERS
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((\S+)/README.md\)", text) == sorted(FOLDERS, key=text.index)
    assert len(list(ROOT.glob("*/dcod.yaml"))) == len(FOLDERS)


@pytest.mark.parametrize("at_home", FOLDERS, indirect=True)
def test_its_commands_are_commands(at_home: Path) -> None:
    verbs = typer.main.get_command(app)
    found = list(commands((at_home / "README.md").read_text(encoding="utf-8")))
    assert found
    for verb, *words in found:
        chosen = verbs.commands[verb]  # type: ignore[attr-defined]
        context = chosen.make_context(verb, list(words))  # an option or a file that is not there is an error
        given = context.params.get("overrides") or []
        if "--config" in words:
            parse_config((at_home / words[words.index("--config") + 1]).read_text(encoding="utf-8"), list(given))


@pytest.mark.parametrize("at_home", ["nightly", "own-traces", "several-teachers"], indirect=True)
def test_dcod_check_finds_nothing_wrong(at_home: Path, tiny_student: Path) -> None:
    found = answers(read(at_home, tiny_student))
    assert [one.text for group in found.values() for one in group if one.state != "ok"] == []
    assert found["traces"][0].text.startswith("240 traces from all 240 rows")
    assert "140 problems" in found["custom:problems"][0].text


def test_a_quiz_is_asked_as_its_mapping_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_student: Path
) -> None:
    monkeypatch.chdir(ROOT / "own-benchmark")
    config = read(ROOT / "own-benchmark", tiny_student)
    (check,) = answers(config)["custom:quiz-final"]
    assert (check.state, "133 problems" in check.text) == ("ok", True)  # 7 of 140 are drafts
    few = read(
        ROOT / "own-benchmark",
        tiny_student,
        "evaluate.benchmarks.0.limit=4",
        "evaluate.benchmarks.0.max_new_tokens=4",
    )
    execute("evaluate", few, tmp_path / "results", {"student": tiny_student}, RunContext(tracked=False))
    rows = pq.read_table(tmp_path / "results" / "examples.parquet").to_pylist()
    told = {row["problem_id"]: (row["problem"], row["gold"]) for row in rows}
    assert len(told) == 4
    problem, gold = told["q0"]
    assert problem == "Ana fills 7 boxes with 11 apples each and finds 6 more. How many apples are there?"
    grades = grading.grade_many([("So it is #### 83", gold, False), ("So it is #### 77", gold, False)])
    assert [one.outcome for one in grades] == ["correct", "wrong"]


def test_two_teachers_share_their_prompts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_student: Path) -> None:
    monkeypatch.chdir(ROOT / "several-teachers")
    config = read(ROOT / "several-teachers", tiny_student)
    execute("ingest", config, tmp_path / "traces", {"student": tiny_student}, RunContext(tracked=False))
    traces = list(read_traces(tmp_path / "traces"))
    assert Counter(trace.teacher for trace in traces) == {"small-teacher": 120, "large-teacher": 120}
    assert set(Counter(trace.prompt_id for trace in traces).values()) == {2}
    assert any("<think>" in trace.completion for trace in traces)


def test_a_teacher_at_an_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_student: Path) -> None:
    """Its two commands, with a server that knows the answers."""
    folder = ROOT / "openai-teacher"
    known = {row["problem"]: row["gold"] for row in map(json.loads, (folder / "prompts.jsonl").open(encoding="utf-8"))}
    server = Server(TransformersEngine(tiny_student, prompts.load_tokenizer(tiny_student)))

    def answer(body: dict[str, list[dict[str, str]]]) -> dict[str, object]:
        asked = body["messages"][-1]["content"]
        (gold,) = [gold for problem, gold in known.items() if problem in asked]
        text = f"In try {len(server.requests)} I find \\boxed{{{gold}}}."
        return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 5}}  # fmt: skip

    monkeypatch.setattr(server, "answer", answer)
    monkeypatch.chdir(folder)
    taught = tmp_path / "taught"
    more = (f"teach.engine.endpoint={server.endpoint}", f"teach.work={tmp_path / 'work'}", f"ingest.sources=[{taught}]")
    config = read(folder, tiny_student, *more)
    try:
        execute("teach", config, taught, {}, RunContext(tracked=False))
    finally:
        server.http.shutdown()
        server.http.server_close()
    assert len(server.requests) == 2 * len(known) == 240
    found = answers(config)
    assert [one.text for group in found.values() for one in group if one.state != "ok"] == []
    assert found["traces"][0].text.startswith("240 traces")


def test_the_line_for_cron() -> None:
    (line,) = [line for line in (ROOT / "nightly" / "crontab").read_text().splitlines() if not line.startswith("#")]
    assert parse(" ".join(line.split()[:5])).words == "At 02:30 every day"
    assert "dcod run --config dcod.yaml" in line
    assert yaml.safe_load((ROOT / "nightly" / "dcod.yaml").read_text(encoding="utf-8"))["pipeline"] == "retrain"


def test_the_schedule_on_a_cluster_names_all_that_a_pod_needs(tiny_student: Path) -> None:
    (line,) = [line for line in (ROOT / "nightly" / "README.md").read_text().splitlines() if "dcod schedule" in line]
    config = read(ROOT / "nightly", tiny_student, *(part for part in shlex.split(line) if "=" in part))
    there = for_cluster(config.model_copy(update={"student": Config().student}))  # which the hub has
    assert there.cluster.kubeflow
    assert there.tracking.uri == config.cluster.tracking
