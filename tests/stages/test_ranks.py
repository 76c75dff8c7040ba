"""The train stage on two ranks of this machine, by the real torchrun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from dcod.config import Config
from dcod.errors import UserError
from dcod.stages import seeds, train_ranks
from dcod.stages.arms import narrowed
from dcod.stages.execute import RunContext, execute

HERE = RunContext(tracked=False)
KNOBS = {"processes": 2, "sharding": "fsdp", "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> tuple[Config, dict[str, Path]]:
    from tests.pipelines.test_distill import write_inputs

    folder = tmp_path_factory.mktemp("ranks")
    _, config = write_inputs(folder, tiny_student, epochs=1)
    execute("ingest", config, folder / "traces", {"student": tiny_student}, HERE)
    inputs = {"traces": folder / "traces", "student": tiny_student}
    execute("score", config, folder / "scores", inputs, HERE)
    return config, {"scores": folder / "scores", "student": tiny_student}


def on_two(config: Config, folder: Path, **knobs: object) -> Config:
    train = {**config.train.model_dump(), **KNOBS, "checkpoints": {"uri": str(folder / "kept"), "every": 1}, **knobs}
    return Config.model_validate({**config.model_dump(), "train": train})


def test_the_number_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train_ranks.wanted(Config()) == 1
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    assert train_ranks.wanted(Config()) == 8
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "there")
    assert train_ranks.wanted(Config()) == 1


CROSS = {"sharding": "ddp", "correction": {"name": "surprisal", "scope": "token", "weights": "cross"}, "select": "auto"}


@pytest.mark.slow
def test_a_further_seed_is_trained_on_two_ranks(scored: tuple[Config, dict[str, Path]], tmp_path: Path) -> None:
    config, inputs = scored
    options: dict[str, Any] = {}
    own = narrowed("again", on_two(config, tmp_path, twin=True, seeds=2), "student 1", inputs, options)
    metrics = execute("again", own, tmp_path / "again", inputs, HERE, **options)
    assert metrics["trained"] == 1.0
    assert len((tmp_path / "again" / "training.jsonl").read_text().splitlines()) > 1
    assert (tmp_path / "again" / seeds.RESULTS / "examples.parquet").is_file()
    assert not (tmp_path / "again" / seeds.STUDENT).exists()
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("knobs", [{}, CROSS], ids=["shards", "crossed"])
def test_two_ranks_make_one_student(
    scored: tuple[Config, dict[str, Path]], tmp_path: Path, knobs: dict[str, object]
) -> None:
    config, inputs = scored
    metrics = execute("train", on_two(config, tmp_path, **knobs), tmp_path / "two", inputs, HERE)
    assert (tmp_path / "kept").is_dir()  # the ranks kept their state there
    assert not list((tmp_path / "kept").iterdir())  # and nothing stays once the student is in place
    alone = execute("train", on_two(config, tmp_path, **knobs, processes=1), tmp_path / "one", inputs, HERE)
    assert metrics.keys() == alone.keys()
    assert metrics["final_loss"] == pytest.approx(alone["final_loss"], rel=1e-3)
    names = {path.name for path in (tmp_path / "two").iterdir()}
    assert names == {path.name for path in (tmp_path / "one").iterdir()}
    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("two", "one"))
    assert left.keys() == right.keys()


@pytest.mark.slow
def test_a_mistake_that_a_rank_finds_is_the_users(scored: tuple[Config, dict[str, Path]], tmp_path: Path) -> None:
    config, inputs = scored
    broken = on_two(config, tmp_path, lora={"rank": 2, "targets": ["nothing"]})
    with pytest.raises(UserError, match=r"train\.lora\.targets"):
        execute("train", broken, tmp_path / "out", inputs, HERE)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_sigterm_reaches_the_ranks_which_keep_their_state(
    scored: tuple[Config, dict[str, Path]], tmp_path: Path
) -> None:
    """Exit status 143, a checkpoint, and the next run goes on from it."""
    config, inputs = scored
    (tmp_path / "config.json").write_text(on_two(config, tmp_path, epochs=200).to_json())
    command = [sys.executable, "-m", "dcod", "train", "--config", str(tmp_path / "config.json"), "--no-track"]
    command += ["--out", str(tmp_path / "out"), "--scores", str(inputs["scores"]), "--student", str(inputs["student"])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "kept").glob("*/step-*/state.json")):
        assert running.poll() is None, running.stderr and running.stderr.read()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 143, errors[-2000:]
    assert "asked to stop" in errors
    assert list((tmp_path / "kept").glob("*/step-*/state.json"))
    assert not (tmp_path / "out").exists()
