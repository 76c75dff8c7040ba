"""What a newcomer is told next, that nobody waits for a hub that is away, and what programs read of each verb."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dcod import cli
from dcod.check import student
from dcod.config import Config, parse_config
from dcod.storage import marks
from dcod.traces import sources
from dcod_pipelines.presets import text_of
from tests.check.test_checks import lines, rows


@pytest.fixture
def folder(tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("student").symlink_to(tiny_student)
    lines(Path("traces.jsonl"), rows(60, each=2))
    lines(Path("problems.jsonl"), ({"problem": f"{n} + 7?", "answer": str(n + 7)} for n in range(130)))
    config = {
        "student": {"model": "./student", "max_length": 400},
        "ingest": {"sources": ["traces.jsonl"]},
        "evaluate": {"benchmarks": [{"name": "custom", "source": "problems.jsonl?kind=as_is"}]},
        "tracking": {"uri": "sqlite:///mlflow.db"},
    }
    Path("mine.yaml").write_text(json.dumps(config))
    return tmp_path


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["dcod", *words])
        monkeypatch.setenv("DCOD_PROGRESS", "none")
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, error = capsys.readouterr()
        assert ended.value.code == code, error
        return out if code == 0 else error

    return run


def test_the_next_command_is_the_one_that_was_checked(folder: Path, said: Any) -> None:
    told = said("check", "--config", "mine.yaml", "train.epochs=7", "name=a b").splitlines()[-1]
    assert told == "next: dcod run --config mine.yaml train.epochs=7 'name=a b'"
    assert said("check", "--config", "mine.yaml").splitlines()[-1] == "next: dcod run --config mine.yaml"


def test_a_hub_that_is_away_is_asked_once(folder: Path, said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def away(address: Any, *_: Any, **__: Any) -> Any:
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", away)
    monkeypatch.setattr("huggingface_hub.utils._headers.detect_agent", lambda: None)  # else a first process asks twice
    began = time.monotonic()
    out = said("check", "--config", "mine.yaml", "evaluate.benchmarks=[{name: gsm8k}]")
    assert len(asked) == 1
    assert time.monotonic() - began < 20
    assert "Retrying" not in out
    assert "unchecked gsm8k: " in out or "ok        gsm8k: " in out  # where it is in the cache


def test_a_student_that_needs_no_hub_is_named_where_the_hub_is_away(
    folder: Path, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> Path:
        raise student.UncheckedError("the hub was not reached (ConnectError)")

    monkeypatch.setattr(student, "_from_hub", away)
    monkeypatch.setenv("DCOD_CACHE", str(folder / "cache"))
    asked = ("init", "traces.jsonl", "--student", "owner/name", "--out", "new.yaml")
    told = "dcod: the hub was not reached (ConnectError); give --student a local folder"
    assert said(*asked, code=2).strip() == told
    name = "HuggingFaceTB/SmolLM2-135M-Instruct"
    (folder / "cache" / "models" / name.replace("/", "--")).mkdir(parents=True)
    assert said(*asked, code=2).strip() == f"{told}, or {name}, which is here"


def test_every_verb_that_needs_no_server_speaks_json(folder: Path, said: Any) -> None:
    common = ("--config", "mine.yaml", "--json")
    asked: dict[str, tuple[str, ...]] = {
        "init": ("traces.jsonl", "--benchmark", "problems.jsonl", "--student", "./student", "--json"),
        "presets": ("--json",),
        "check": common,
        "compile": ("--out", "pipeline.yaml", "--preset", "gsm8k", "--json"),
        "ingest": ("--traces", "traces.jsonl", "--out", "traces", "--no-track", *common),
        "score": ("--traces", "traces", "--out", "scores", "--no-track", *common),
        "weights": ("scores", "--out", "weighted", "train.correction.name=surprisal", *common),
        "inspect": ("scores", "--traces", "traces", "--no-open", *common),
        "export": ("traces", "--out", "data-set", *common),
        "gc": common,
    }
    read = {}
    for verb, words in asked.items():
        out = said(verb, *words)
        read[verb] = [json.loads(line) for line in out.splitlines()]
        assert read[verb], verb
    assert read["init"][0]["out"] == "dcod.yaml"
    assert "quickstart" in read["presets"][0]
    assert [read[verb][0]["out"] for verb in ("compile", "inspect", "export")] == [
        *("pipeline.yaml", "traces.html", "data-set")
    ]
    assert read["weights"][0]["metrics"]["traces"] > 0
    assert read["gc"] == [{"items": [], "deleted": False}]


def test_verbs_that_are_given_traces_say_what_these_allow(folder: Path, said: Any) -> None:
    """`inspect` of the set; `compile` of the first rows, where they and the student lie here."""
    of_mine = ("--config", "mine.yaml", "--no-track")
    said("ingest", "--traces", "traces.jsonl", "--out", "traces", *of_mine)
    scored = said("score", "--traces", "traces", "--out", "scores", *of_mine)
    (told,) = [line for line in scored.splitlines() if " prompts, " in line and " traces each" in line]
    shown = said("inspect", "scores", "--traces", "traces", "--no-open", "--config", "mine.yaml")
    assert shown.splitlines()[0] == told
    assert shown.splitlines()[-1] == "wrote traces.html"
    assert " traces each" not in said("inspect", "scores", "--no-open", "--config", "mine.yaml")
    compiled = said("compile", "--out", "p.yaml", "--config", "mine.yaml", "train.correction.name=prefix")
    assert "holdings: " in compiled
    assert "failed    correction: train.correction.name=prefix needs behavior_logprobs" in compiled
    for elsewhere in ("ingest.sources=[gone.jsonl]", "student.model=s3://bucket/student", "ingest.sources=[]"):
        assert said("compile", "--out", "p.yaml", "--config", "mine.yaml", elsewhere) == "wrote p.yaml\n"


def test_what_is_printed_to_be_copied_is_one_json_value_for_programs(folder: Path, said: Any) -> None:
    def read(*words: str) -> Any:
        return json.loads(said(*words, "--json"))

    mine = json.loads((folder / "mine.yaml").read_text())
    assert read("config", "--config", "mine.yaml", "--changed")["ingest"] == mine["ingest"]
    whole = read("config", "--config", "mine.yaml", "train.epochs=7")
    assert (whole["train"]["epochs"], whole["seed"]) == (7, 0)
    assert Config.model_validate(whole).student.max_length == 400
    assert "properties" in read("config", "--schema")
    preset = read("presets", "gsm8k")
    assert Config.model_validate(preset) == parse_config(text_of("gsm8k"))
    told = read("metrics", "--config", "mine.yaml")
    assert told == {"name": Config().name, "figures": {}, "pushed": False}
    assert said("metrics", "--config", "mine.yaml") == ""


INIT = ("init", "traces.jsonl", "--benchmark", "problems.jsonl", "--student", "./student")


def test_editors_find_the_schema_beside_what_init_wrote(folder: Path, said: Any) -> None:
    told = said(*INIT, "--out", "made/new.yaml")
    file = folder / "made" / ".dcod.schema.json"
    assert "\nwrote made/.dcod.schema.json, by which editors complete its keys\n" in told
    first = (folder / "made" / "new.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=.dcod.schema.json"
    schema = json.loads(file.read_text())
    values = yaml.safe_load((folder / "made" / "new.yaml").read_text())
    jsonschema.validate(values, schema)
    with pytest.raises(jsonschema.ValidationError, match="'trian' was unexpected"):
        jsonschema.validate(values | {"trian": {}}, schema)
    assert said("check", "--config", "made/new.yaml")
    (folder / "made" / "more.jsonl").write_text((folder / "traces.jsonl").read_text())
    for source in ("made", "made/*.json*"):
        assert [unit.name for unit in sources.expand(source)] == ["made/more.jsonl"]


def test_a_schema_that_is_there_is_replaced_only_where_dcod_wrote_it(folder: Path, said: Any) -> None:
    file = folder / ".dcod.schema.json"
    file.write_text(said("config", "--schema"))
    before = file.stat()
    assert "\n.dcod.schema.json, by which editors complete its keys, is there\n" in said(*INIT)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    file.write_text(json.dumps({"$comment": marks.FILE_MARK, "title": "of an older dcod"}))
    assert "\nwrote .dcod.schema.json" in said(*INIT, "--force")
    assert Path("dcod.yaml").read_text().startswith("# yaml-language-server: $schema=.dcod.schema.json\n")
    for own in ('{"title": "mine"}', "no JSON"):
        file.write_text(own)
        assert "\nno schema for editors: .dcod.schema.json: this version of dcod did not write it" in said(
            *INIT, "--force"
        )
        assert file.read_text() == own
        assert "yaml-language-server" not in Path("dcod.yaml").read_text()
