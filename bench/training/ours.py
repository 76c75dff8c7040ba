"""dcod's own training loop, as its `train` stage calls it."""

from __future__ import annotations

from typing import Any

from bench.training.jobs import Clock, Job
from dcod.traces.scored import ScoredTrace
from dcod.train import loop


def run(job: Job, examples: list[ScoredTrace], model: Any, clock: Clock, **knobs: Any) -> None:
    def metrics(row: dict[str, float], _: int) -> None:
        clock.step(row["loss"])

    loop.train(model, examples, [], job.config(**knobs), 0, save_best=lambda _: None, metrics=metrics)
