"""examples/loop.py takes the trainer's very steps: what it shows is what is run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dcod.config import CorrectionConfig, TrainConfig
from dcod.models import loading
from dcod.objective import weighting
from dcod.traces.prompts import load_tokenizer
from dcod.train import loop
from dcod.train.sets import ListedTraces
from examples import loop as example
from tests.train.test_checkpoints import make_examples
from tests.viewed import write_set

STEPS = 3


@pytest.mark.parametrize("correction", ["surprisal", "trace", "prefix"])
def test_its_steps_are_those_of_the_trainer(
    tiny_student: Path, monkeypatch: pytest.MonkeyPatch, correction: str
) -> None:
    """Losses, weights and students to the bit: the same operations in the same order.

    The prompts are of one length. Elsewhere the trainer, which shares a step out among ranks, may take prompts that are
    alike in length in another order, and the last bits of its sums are others.
    """
    config = TrainConfig(
        correction=CorrectionConfig(name=correction, ess_floor=0.6),
        learning_rate=1e-2,
        epochs=1,
        traces_per_step=8,
        micro_batch_tokens=60,
        layout="padded",
    )
    traces = make_examples(tiny_student)[:24]
    used: list[torch.Tensor] = []
    own = weighting.weights

    def noted(*arguments: object) -> torch.Tensor:
        used.append(own(*arguments))  # type: ignore[arg-type]
        return used[-1]

    monkeypatch.setattr(weighting, "weights", noted)  # where the trainer looks it up; the plan and its figures do, too
    monkeypatch.setattr(example, "weights", noted)
    theirs, ours = loading.load(tiny_student), loading.load(tiny_student)
    result = loop.train(theirs, traces, [], config, 0, lambda _: None, lambda *_: None)
    by_trainer = {values.numpy().tobytes() for values in used}
    used.clear()
    steps = list(example.train(ours, ListedTraces(traces), config))
    assert len(steps) == len(result.history) == STEPS
    losses = torch.tensor([loss for loss, _ in steps])  # float32, as the trainer adds up those of its ranks
    assert losses.tolist() == [row["loss"] for row in result.history]
    assert [largest for _, largest in steps] == [row["weight_max"] for row in result.history]
    assert len({largest for _, largest in steps}) > 1
    assert len(used) > 2 * STEPS
    assert {values.numpy().tobytes() for values in used} <= by_trainer
    for one, other in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_runs_from_scores_to_a_student(
    tmp_path: Path, tiny_student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, scores, _ = write_set(tmp_path, tiny_student, 20)
    example.main(str(scores), str(tiny_student), str(tmp_path / "out"))
    assert "step    1  loss " in capsys.readouterr().out
    moved = zip(loading.load(tmp_path / "out").parameters(), loading.load(tiny_student).parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in moved)
    assert load_tokenizer(tmp_path / "out").get_vocab() == load_tokenizer(tiny_student).get_vocab()


def test_it_fits_on_a_page() -> None:
    assert len(Path(example.__file__).read_text(encoding="utf-8").splitlines()) <= 80
