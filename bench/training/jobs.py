"""What every contestant is given, and what it hands back: the same tokens, in the same optimizer steps.

A job is a folder: `job.json`, the scored traces, and the model. A contestant runs in a fresh process, so that its
peak memory is its own, and its first optimizer step is not timed: it makes the optimizer's state.
"""

from __future__ import annotations

import json
import resource
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dcod import storage
from dcod.config import TrainConfig
from dcod.score.scores import read_scores
from dcod.traces.scored import ScoredTrace
from dcod.train import loop
from dcod.train.sets import ListedTraces, Schedule

WARM_UP = 1  # optimizer steps that are not timed


@dataclass(frozen=True)
class Job:
    """One task.

    Attributes:
        model: the model's folder.
        traces_per_step: examples an optimizer step.
        learning_rate: where the cosine starts; there is no warm-up.
        micro_batch_tokens: of dcod; 1024 keeps a layer's activations in a CPU's cache.
        threads: of torch.
    """

    model: str
    traces_per_step: int = 8
    learning_rate: float = 2e-5
    micro_batch_tokens: int = 1024
    threads: int = 2

    def config(self, **knobs: Any) -> TrainConfig:
        """As a user of dcod would write it."""
        own = {"epochs": 1, "warmup_share": 0.0, "validations": 1, "learning_rate": self.learning_rate}
        sizes = {"traces_per_step": self.traces_per_step, "micro_batch_tokens": self.micro_batch_tokens}
        return TrainConfig.model_validate({**own, **sizes, **knobs})

    def rate(self, number: int, total: int) -> float:
        """The learning rate of a step (from 1), the same for all contestants."""
        return loop.learning_rate(self.config(), number, total)


def save(folder: Path, job: Job) -> None:
    storage.write_json(folder / "job.json", asdict(job))


def load(folder: Path) -> tuple[Job, list[ScoredTrace]]:
    return Job(**json.loads((folder / "job.json").read_text(encoding="utf-8"))), read_scores(folder)["train"]


def steps(job: Job, examples: list[ScoredTrace]) -> list[list[ScoredTrace]]:
    """The optimizer steps of dcod's own loop."""
    schedule = Schedule(ListedTraces(examples), job.config(), 0)
    return [schedule[number] for number in range(len(schedule))]


@dataclass
class Clock:
    """Notes when an optimizer step ended, and its loss."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def step(self, loss: float) -> None:
        self.seconds.append(time.perf_counter())
        self.cpu_seconds.append(time.process_time())
        self.losses.append(loss)

    def measured(self, job: Job, examples: list[ScoredTrace]) -> dict[str, Any]:
        """Tokens (prompt and completion, no padding) and seconds of the timed steps, and losses of all."""
        timed = steps(job, examples)[WARM_UP:]
        assert len(self.seconds) == len(timed) + WARM_UP
        return {
            "tokens": sum(len(e) for step in timed for e in step),
            "seconds": self.seconds[-1] - self.seconds[WARM_UP - 1],
            "cpu_seconds": self.cpu_seconds[-1] - self.cpu_seconds[WARM_UP - 1],
            "losses": self.losses,
        }


def resident_bytes() -> int:
    """What this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def peak_bytes() -> int:
    """The most that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
