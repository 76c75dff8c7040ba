"""Killed anywhere and started again, a run ends with the same bits; what is half written is no checkpoint."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from dcod import storage
from dcod.config import TrainConfig
from dcod.engines.transformers import TransformersEngine
from dcod.errors import PreemptedError, UserError
from dcod.models import loading
from dcod.objective.weighting import WeightCounts
from dcod.traces.prompts import load_tokenizer
from dcod.traces.scored import ScoredTrace
from dcod.train import loop
from dcod.train.checkpoints import Checkpoints, moments_of, weights_of
from dcod.train.learner import learner_for

if TYPE_CHECKING:
    from accelerate import Accelerator

KNOBS: dict[str, Any] = {
    "learning_rate": 1e-2,
    "epochs": 2,
    "traces_per_step": 4,
    "validations": 4,
    "correction": {"name": "trace", "ess_floor": 0.6, "weights": "live"},
    "checkpoints": {"every": 2, "keep": 2},
}
STEPS = 12


def make_examples(student: Path) -> list[ScoredTrace]:
    """Scored traces: two of each of twelve prompts, the first prompts to select by."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda n: torch.randint(3, 200, (n,), generator=generator).tolist()  # noqa: E731
    out = []
    for prompt in range(14):
        tokens = draw(5)
        for copy in range(2):
            completion = [*draw(4 + 2 * copy), 2]
            behavior = (-3 - torch.rand(len(completion), generator=generator)).tolist()
            out.append(ScoredTrace(f"{prompt}/{copy}", str(prompt), tokens, completion, [], [], behavior))
    TransformersEngine(student, load_tokenizer(student)).annotate(out, 512)
    return out


@pytest.fixture(scope="module")
def examples(tiny_student: Path) -> list[ScoredTrace]:
    return make_examples(tiny_student)


class Stop(Exception):
    """A fault at a step."""


def run(
    student: Path,
    examples: list[ScoredTrace],
    folder: Path | str,
    stop_at: int = 0,
    how: str = "raise",
    **knobs: object,
) -> tuple[loop.Result, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A run that may be stopped after a step: its result, its weights, and those of its best student."""
    model, best = loading.load(student), dict[str, torch.Tensor]()

    def save(trained: Any) -> None:
        best.update({name: value.clone() for name, value in weights_of(trained).items()})

    def metrics(_: dict[str, float], step: int) -> None:
        if stop_at and step == stop_at:
            if how == "raise":
                raise Stop
            os.kill(os.getpid(), signal.SIGTERM)

    config = TrainConfig.model_validate({**KNOBS, **knobs})
    kept = Checkpoints(str(folder), config.checkpoints.keep)
    result = loop.train(model, examples[4:], examples[:4], config, 0, save, metrics, kept)
    return result, weights_of(model), best


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def calm(tiny_student: Path, examples: list[ScoredTrace], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    folder = tmp_path_factory.mktemp("calm")
    return (*run(tiny_student, examples, folder), folder)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_run_stopped_after_any_step_ends_with_the_same_bits(
    tiny_student: Path, examples: list[ScoredTrace], calm: tuple[Any, ...], tmp_path: Path, step: int
) -> None:
    result, weights, best, folder = calm
    assert len(result.history) == STEPS
    with pytest.raises(Stop):
        run(tiny_student, examples, tmp_path, stop_at=step)
    again, found, found_best = run(tiny_student, examples, tmp_path)
    assert same(found, weights)
    assert same(found_best, best)
    assert again == result  # every row, gamma and all
    ours, reference = Checkpoints(str(tmp_path)).latest(), Checkpoints(str(folder)).latest()
    assert ours is not None
    assert reference is not None
    assert ours.state.step == STEPS - 2
    assert same(ours.optimizer, reference.optimizer)
    assert ours.state == reference.state


def test_sigterm_keeps_the_step_and_ends_cleanly(
    tiny_student: Path, examples: list[ScoredTrace], calm: tuple[Any, ...], tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(PreemptedError, match="kept at step 5 of 12"):
        run(tiny_student, examples, tmp_path, stop_at=5, how="sigterm")
    assert signal.getsignal(signal.SIGTERM) is before
    kept = Checkpoints(str(tmp_path)).latest()
    assert kept is not None
    assert kept.state.step == 5
    _, found, _ = run(tiny_student, examples, tmp_path)
    assert same(found, calm[1])


def test_histograms_go_on_once_and_not_once_a_rank(
    tiny_student: Path, calm: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint holds the sum over ranks: had each of two gone on from it, the sum would be twice as much."""
    kept = Checkpoints(str(calm[3]))
    checkpoint = kept.latest()
    assert checkpoint is not None
    learner = learner_for(loading.load(tiny_student), TrainConfig.model_validate(KNOBS), 0)
    calls: dict[str, Any] = {"num_processes": 2, "wait_for_everyone": lambda: None}
    ranks = [
        replace(
            learner,
            accelerator=cast("Accelerator", SimpleNamespace(is_main_process=main, **calls)),
            seen=WeightCounts(learner.config.correction),
        )
        for main in (True, False)
    ]
    monkeypatch.setattr("accelerate.utils.gather_object", lambda items: 2 * items)
    for rank in ranks:
        assert loop.resume(rank, kept, lambda _: None) is not None
    monkeypatch.setattr("accelerate.utils.gather_object", lambda _: [rank.seen for rank in ranks])
    assert ranks[0].histograms() == checkpoint.state.weights
    assert sum(map(sum, checkpoint.state.weights["counts"].values())) > 0


def test_the_last_few_are_kept_and_all_are_cleared(calm: tuple[Any, ...], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(calm[3], folder)
    names = sorted(path.name for path in folder.iterdir())
    assert [name for name in names if name.startswith("step-")] == ["step-00000008", "step-00000010"]
    assert f"best-{calm[0].best_step:08d}" in names
    assert not [name for name in names if name.startswith(".")]
    Checkpoints(str(folder)).clear()
    assert not folder.exists()


def test_a_checkpoint_without_its_mark_is_none(calm: tuple[Any, ...], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(calm[3], folder)
    (folder / "step-00000010" / "state.json").unlink()
    found = Checkpoints(str(folder)).latest()
    assert found is not None
    assert found.state.step == 8
    assert Checkpoints(str(tmp_path / "nowhere")).latest() is None


@pytest.mark.parametrize(
    "change",
    [{"version": 99}, {"version": 1}, {"another": 1}, {"lagged": {"another": 1}}, {"lagged": None}, []],
    ids=["newer", "older", "more", "other", "less", "broken"],
)
def test_a_checkpoint_that_this_dcod_cannot_read_is_refused(
    calm: tuple[Any, ...], tmp_path: Path, change: dict[str, Any] | list[Any]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(calm[3], folder)
    file = folder / "step-00000010" / "state.json"
    found = json.loads(file.read_text()) | change if change else change
    file.write_text(json.dumps(found))
    with pytest.raises(
        UserError, match=r"copy/step-00000010: a checkpoint of version .* train\.checkpoints\.uri"
    ) as told:
        Checkpoints(str(folder)).latest()
    assert "\n" not in str(told.value)


def test_a_bucket_keeps_the_same(
    tiny_student: Path, examples: list[ScoredTrace], calm: tuple[Any, ...], bucket: Any
) -> None:
    """Stopped, gone on from s3://, pruned and cleared there; half an upload is no checkpoint."""
    uri = "s3://traces/checkpoints/abc"
    with pytest.raises(Stop):
        run(tiny_student, examples, uri, stop_at=7)
    bucket.put_object(Bucket="traces", Key="checkpoints/abc/step-00000009/model.safetensors", Body=b"half")
    result, weights, best = run(tiny_student, examples, uri)
    names = {key.split("/")[-2] for key in storage.list_objects(uri)}
    assert names >= {"step-00000008", "step-00000010", f"best-{result.best_step:08d}"}
    Checkpoints(uri).clear()
    assert {key.split("/")[-2] for key in storage.list_objects(uri)} <= {"step-00000009"}
    assert same(weights, calm[1])
    assert same(best, calm[2])


def test_optimizer_state_travels_whole(tiny_student: Path) -> None:
    model = loading.load(tiny_student)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.tensor([[5, 6]])).logits.sum().backward()
    optimizer.step()
    names = {key.split(".", 1)[1] for key in moments_of(optimizer) if key != "random"}
    assert names == {"step", "exp_avg", "exp_avg_sq"}


INSIDE = ("begin", "model", "optimizer", "mark", "rename", "prune")


@pytest.mark.slow
def test_twenty_kills(tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path) -> None:
    """SIGKILL at twenty instants, six of them inside a checkpoint write, the others at random."""
    command = [sys.executable, "-m", "tests.killed_training", str(tiny_student)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def child(folder: Path, die: str = "") -> subprocess.Popen[str]:
        arguments = [*command, str(folder), die]
        return subprocess.Popen(
            arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    reference = child(tmp_path / "calm")
    assert reference.wait() == 0
    expected = (tmp_path / "calm" / "final.safetensors").read_bytes()
    rng, folder, kills = random.Random(0), tmp_path / "killed", 0
    plan = [*INSIDE, *[""] * 14]
    rng.shuffle(plan)
    for die in plan:
        if (folder / "final.safetensors").is_file():
            assert (folder / "final.safetensors").read_bytes() == expected
            shutil.rmtree(folder)
        process = child(folder, die)
        if not die:
            assert process.stdout is not None
            process.stdout.readline()  # training begins
            time.sleep(rng.uniform(0.0, 0.6))
            process.kill()
        assert process.wait() in (-signal.SIGKILL, 0)
        kills += process.returncode == -signal.SIGKILL
    assert child(folder).wait() == 0
    assert (folder / "final.safetensors").read_bytes() == expected
    assert json.loads((folder / "history.json").read_text()) == json.loads((tmp_path / "calm/history.json").read_text())
    assert kills >= 15


def test_metrics_are_reported_from_the_first_step_again(
    tiny_student: Path, examples: list[ScoredTrace], calm: tuple[Any, ...], tmp_path: Path
) -> None:
    """A tracker that sees the second attempt alone has the whole curve."""
    shutil.copytree(calm[3], tmp_path / "kept")
    steps: list[int] = []
    config = TrainConfig.model_validate(KNOBS)
    model, kept = loading.load(tiny_student), Checkpoints(str(tmp_path / "kept"))
    copies = [replace(e) for e in examples]
    loop.train(model, copies[4:], copies[:4], config, 0, lambda _: None, lambda _, step: steps.append(step), kept)
    assert steps == list(range(STEPS + 1))
