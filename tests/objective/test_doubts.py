"""Of what nothing is to be expected where the start knows little: one list, which scores and `auto` both follow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import pytest
import torch

from dcod.config import CorrectionConfig, LossConfig, TrainConfig
from dcod.config.arms import AUTO
from dcod.config.losses import LEANING
from dcod.objective import arms, doubts, feasibility
from dcod.objective.corrections import CORRECTIONS
from dcod.objective.feasibility import Holdings
from dcod.objective.losses import LOSSES
from dcod.score.outlook import of_start

ROOT = Path(__file__).resolve().parents[2]
CELLS = ROOT / "bench/study/second/results/core"
FOUR, ALONE = Holdings(traces=400, prompts=100, alone=0), Holdings(traces=100, prompts=100, alone=100)


def test_every_correction_and_loss_is_on_one_side() -> None:
    """What was measured there, and the kin of it; not `support_text`, whose formula is like that of `support`."""
    leaning = {name for name, correction in CORRECTIONS.items() if correction.leans}
    assert leaning >= {"naturalness", "local_naturalness", "student_likelihood_only", "rsr", "support", "idft"}
    assert not leaning & {"none", "support_text", "surprisal", "success", "given", "length_only", "shuffled"}
    for name in CORRECTIONS:
        train = TrainConfig().model_copy(update={"correction": CorrectionConfig(name=name)})  # as iw_sft is refused
        assert bool(doubts.leaning(train)) == (name in leaning), name


def test_a_loss_leans_if_it_teaches_an_unlikely_token_less_than_the_log_loss_does() -> None:
    """By the gradient at its own logit of a token at 0.71 and of one at 0.04; divergences are the teacher's."""
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0], [-2.0, 0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    pulls = {}
    for name, loss in LOSSES.items():
        if not loss.needs_teacher:
            made = loss.per_token(LossConfig(name=name), logits, torch.zeros(2, dtype=torch.long), None)
            pulls[name] = torch.autograd.grad(made.sum(), logits)[0][:, 0]
    leaning = {name for name, pull in pulls.items() if (pull / pulls["log"])[1] < 0.9 * (pull / pulls["log"])[0]}
    assert leaning == LEANING


@pytest.mark.parametrize("known", [0.3, 0.49, 0.59, 0.67, 0.69, 0.86])
def test_scores_auto_and_the_advice_agree(known: float) -> None:
    """What `auto` does not try for it is what a user who sets it is warned of, and what nobody is told to take."""
    auto = TrainConfig.model_validate({"arms": "auto"})
    for arm in AUTO:
        holdings = Holdings(**{**vars(ALONE if arm.name == "gce" else FOUR), "known": known})
        out = "mean probability" in arms.left_out(auto, arm, holdings)
        assert out == bool(of_start(auto.of_arm(arm), known)) == (known < doubts.KNOWN and arm.name != "support_text")
    near = TrainConfig(correction=CorrectionConfig(name="naturalness"))
    advised = "name=naturalness" in str(feasibility.of_setting(TrainConfig(), Holdings(400, 100, 0, known=known)))
    assert advised != bool(of_start(near, known))
    lacking = TrainConfig(loss=LossConfig(name="forward_kl"))
    advised = "`gce`" in str(feasibility.of_setting(lacking, Holdings(400, 100, 0, known=known)))
    assert advised != bool(of_start(TrainConfig(loss=LossConfig(name="gce")), known))


def seeds() -> Iterator[tuple[bool, float]]:
    """Of every start of the second study that was measured: whether it is the weak one, and its mean probability."""
    for file in ("screen", "tune", "confirm"):
        for line in (CELLS / f"{file}.jsonl").read_text().splitlines():
            cell = json.loads(line)
            if "p_0" in cell:
                yield cell["regime"] == "knows_little", cell["p_0"]


def test_the_threshold_parts_the_committed_situations() -> None:
    weak = [known for little, known in seeds() if little]
    other = [known for little, known in seeds() if not little]
    assert (round(max(weak), 2), round(min(other), 2)) == (0.61, 0.73)
    assert max(weak) < doubts.KNOWN < min(other)
    assert pytest.approx((mean(weak) + 0.76) / 2, abs=0.01) == doubts.KNOWN
