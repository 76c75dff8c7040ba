"""A teacher within a run, as it is compiled: who is asked, on what, and what takes a GPU; and run once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcod.config import Config
from dcod.config.inputs import shape_of
from dcod.traces import read_traces
from dcod_pipelines.compile import compile_to
from tests.pipelines.test_distill import CLUSTERS, dcod, write_inputs

CHAT = {"name": "openai", "endpoint": "http://a/v1", "model": "b"}
WAYS: dict[str, dict[str, Any]] = {
    "": {"model": "owner/teacher"},
    "student": {"source": "student", "enough": 2},
    "teacher": {"model": "owner/teacher", "enough": 2},
    "endpoint": {"engine": CHAT, "logprobs": False, "enough": 2},
}


@pytest.mark.parametrize("who", WAYS)
def test_more_traces_come_in_before_the_scoring(tmp_path: Path, who: str) -> None:
    cluster = CLUSTERS["distill-gpu"] | {"secrets": {"endpoint": "openai"}}
    config = Config.model_validate({"cluster": cluster, "teach": WAYS[who]})
    compile_to(tmp_path / "p.yaml", config)
    spec, platform = yaml.load_all((tmp_path / "p.yaml").read_text(), Loader=yaml.CSafeLoader)
    dags = [part["dag"]["tasks"] for part in (spec["root"], *spec["components"].values()) if "dag" in part]
    (tasks,) = [each for each in dags if any(name.startswith("fetch") for name in each)]
    assert shape_of(config)["teach.enough"] == (who or "never")
    assert ("teach" in tasks) is ("ingest-more" in tasks) is bool(who)
    if not who:
        return

    def source(task: str, name: str) -> str:
        given = tasks[task]["inputs"]["artifacts"].get(name, {})
        return str(given.get("taskOutputArtifact", {}).get("producerTask", ""))

    assert source("ingest-more", "taught") == "teach"
    assert source("teach", "traces") == source("ingest-more", "traces") not in ("", "ingest-more")
    teachers = {"student": source("ingest-more", "student"), "teacher": source("teach", "teacher"), "endpoint": ""}
    assert source("teach", "teacher") == teachers[who]
    assert (source("teach", "teacher") == source("ingest-more", "student")) is (who == "student")
    assert source("score", "traces") == source("gate", "traces") == "ingest-more"
    resources = spec["deploymentSpec"]["executors"]["exec-teach"]["container"]["resources"]
    assert ("accelerator" in resources) is (who != "endpoint")
    secrets = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-teach"]["secretAsEnv"]
    assert "OPENAI_API_KEY" in json.dumps(secrets)


def test_the_gate_gets_the_teacher_where_errors_are_to_be_added_up(tmp_path: Path) -> None:
    promote = {"exposure_traces": 64}
    fetched = {}
    for who in ("", "teacher"):
        config = Config.model_validate({"cluster": CLUSTERS["distill-gpu"], "teach": WAYS[who], "promote": promote})
        compile_to(tmp_path / "p.yaml", config)
        spec = next(yaml.load_all((tmp_path / "p.yaml").read_text(), Loader=yaml.CSafeLoader))
        dags = [part["dag"]["tasks"] for part in (spec["root"], *spec["components"].values()) if "dag" in part]
        (tasks,) = [each for each in dags if "gate" in each]
        fetched[who] = sum(name.startswith("fetch") for name in tasks)
        given = tasks["gate"]["inputs"]["artifacts"]["teacher"]["taskOutputArtifact"]["producerTask"]
        (which,) = tasks[given]["inputs"]["parameters"]["which"].values()
        assert which == {"constant": "teacher"}
    assert fetched[""] == fetched["teacher"] == 3  # start, champion, and the teacher once


@pytest.mark.slow
def test_a_run_asks_a_teacher_for_what_its_traces_lack(tmp_path: Path, tiny_student: Path, tiny_teacher: Path) -> None:
    """Its attempts are tried and verified; a tiny teacher knows nothing of these problems, and the run goes on."""
    path, _ = write_inputs(tmp_path, tiny_student)
    values = yaml.safe_load(path.read_text())
    values["teach"] = {"model": str(tiny_teacher), "enough": 2, "attempts": 1, "max_new_tokens": 4}
    path.write_text(yaml.safe_dump(values))
    done = dcod(tmp_path, "run", "--config", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("fetch teacher", "teach ", "ingest more"):
        assert said in done.stdout
    (taught,) = tmp_path.glob("runs/pipeline/*/*/teach/taught")
    assert json.loads((taught / "usage.json").read_text())["attempts"] > 0
    (more,) = tmp_path.glob("runs/pipeline/*/*/ingest-more/more")
    assert list(read_traces(more))
