"""`train.arms=auto` on a reasoning-gym task, with one and four verified traces a prompt: what is tried, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.test_distill import answered
from tests.tiny import save_tiny_student, teach_tiny
from tests.tracked import fresh_store

SUMS = "min_terms=3&max_terms=3&min_digits=1&max_digits=1"
# Traces a prompt, steps of the start: of 1000 it gives such traces' tokens 0.79 in the mean, of 60 it gives them 0.45.
FITTING = {
    (1, 1000): {"gce", "support_text"},
    (4, 1000): {"naturalness", "naturalness_gce", "support_text"},
    (4, 60): {"support_text"},
}


def half_trained(folder: Path, steps: int) -> Path:
    """A tiny student that has seen such sums, in all their styles, and knows some."""
    from dcod.traces import sources

    rows = sources.read_rows(f"reasoning-gym://chain_sum?problems=300&traces=4&seed=5000000&{SUMS}")
    said = [(row.row["prompt"][0]["content"], row.row["completion"]) for row in rows if row.row]
    return teach_tiny(save_tiny_student(folder, hidden=48), said, steps, batch=16, rate=3e-3)


@pytest.mark.long
@pytest.mark.parametrize(("traces", "steps"), FITTING)
def test_auto_offers_what_fits_the_traces(tmp_path: Path, traces: int, steps: int) -> None:
    """A pilot of its own size, on few more than the least problems; keeping plain fine-tuning is as good an end."""
    source = f"reasoning-gym://chain_sum?problems=400&traces={traces}&seed=1&{SUMS}"
    values = {
        "name": f"auto-{traces}",
        "student": {"model": str(half_trained(tmp_path / "start", steps)), "max_length": 400},
        "ingest": {"sources": [source], "selection_share": 0.34, "pilot_share": 0.34},
        "train": {"arms": "auto", "learning_rate": 2e-3, "epochs": 2, "traces_per_step": 8, "pilot": {"share": 1.0}},
        "evaluate": {
            "benchmarks": [
                {"name": "reasoning_gym", "source": f"reasoning-gym://chain_sum?problems=120&seed=9000000&{SUMS}",
                 "max_new_tokens": 64}
            ],
            "few_shot": 0,
        },
        "promote": {"min_problems": 20, "lease": str(tmp_path / "lease")},
        "tracking": fresh_store(tmp_path / "store").model_dump(),
    }  # fmt: skip
    answer, said = answered(tmp_path, values)
    states = {arm["arm"]["name"]: arm for arm in answer["choice"]["arms"]}
    tried = {name for name, arm in states.items() if arm["state"] == "trained"}
    assert tried == {"sft", *FITTING[traces, steps]}
    assert all(arm["why"] for arm in states.values() if arm["state"] == "left_out")
    chosen = answer["choice"]["choice"]
    assert chosen["arm"] in tried
    assert chosen["problems"] >= 100
    assert chosen["why"]
    assert chosen["why"] in said, "the run says what it chose, and why"
    assert said.count(answer["text"]) == 1
