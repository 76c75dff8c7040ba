"""What a pilot costs, in tokens and time: `dcod check` says it of a sample, and a run before its pilot trains.

Counts in, sentences out; no torch and no files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dcod.config import Config
from dcod.config.arms import PilotConfig
from dcod.objective.corrections import prepared
from dcod.objective.feasibility import FEW_STEPS

LEAST = 0.02  # share of the prompts that `auto` goes down to, or what makes FEW_STEPS steps: less is hardly a training
PASS = 1.0 / 3.0  # of a token learnt, that one costs which is only read: a step's forward and backward are three passes
# A token written costs as much as one learnt: 10 to 13 against 11 to 12 core milliseconds, prompts counted, measured
# on a CPU (bench/pretrained/second/README.md).
WRITTEN = 1.0
_COST = 0.2  # of the run, that a pilot takes by itself


@dataclass(frozen=True)
class Speed:
    """How fast a student was read, as its scoring measured it.

    Attributes:
        tokens: that were read, prompts counted.
        seconds: that took.
        device: what computed, by :func:`dcod.models.loading.device_name`.
    """

    tokens: int
    seconds: float
    device: str

    @property
    def learnt(self) -> float:
        """Seconds that a token learnt takes."""
        return self.seconds / self.tokens / PASS

    def __str__(self) -> str:
        return f"scoring read {self.tokens / self.seconds:,.0f} tokens a second on {self.device}"


def on_cpu(device: str) -> bool:
    """Whether a device is a CPU, on which alone it was measured what writing costs (:data:`WRITTEN`).

    Args:
        device: by :func:`dcod.models.loading.device_name`.
    """
    return device.endswith((" thread", " threads"))


@dataclass(frozen=True)
class Cost:
    """What a pilot costs, in tokens learnt, prompts counted.

    Attributes:
        share: of the prompts that each arm trains on.
        students: trained at most.
        learnt: by each.
        answered: what the answers of each cost, :data:`WRITTEN` and :data:`PASS` counted in.
        full: what the students at full size learn, all together.
        before: plain students that some of them need first, which learn as much and are not asked.
    """

    share: float
    students: int
    learnt: float
    answered: float
    full: float
    before: int = 0

    @property
    def whole(self) -> float:
        """What the trainings and answers of all students cost together."""
        return self.students * (self.learnt + self.answered) + self.before * self.learnt

    @property
    def of_run(self) -> float:
        """Its part of the run: of itself and the trainings at full size."""
        return self.whole / (self.whole + self.full)

    def time(self, learnt: float) -> str:
        """How long the pilot takes, and the run as :attr:`of_run` has it, one student after another.

        Args:
            learnt: seconds that a token learnt takes.
        """
        whole = duration((self.whole + self.full) * learnt)
        return f"{duration(self.whole * learnt)}, {whole} with the trainings at full size"

    def said(self, config: Config, problems: Mapping[str, float], speed: Speed | None = None) -> str:
        """What is said of it before anything is trained.

        Args:
            config: the whole configuration.
            problems: that are asked, by their split.
            speed: None where it is not known here; then the first steps tell the time.
        """
        text = f"pilot: {self.in_tokens(config, problems)}"
        if speed is None:
            return f"{text}; how long that takes, the first steps tell"
        if not on_cpu(speed.device):
            return f"{text}; no time is said for {speed.device}, since what writing costs was measured on a CPU"
        return f"{text}; {self.time(speed.learnt)}, one student after another, as {speed}; the first steps tell it anew"

    def in_tokens(self, config: Config, problems: Mapping[str, float]) -> str:
        """What it costs in tokens; see :meth:`said`."""
        pilot = config.train.pilot
        times = [f"{count:.0f} {split} problems answered {_times(pilot, split)}" for split, count in problems.items()]
        kind = "traces read" if pilot.compare == "nll" else " and ".join(times)
        first = f" (and {self.before} plain ones that these need first)" if self.before else ""
        text = (
            f"{self.students} students at most{first}, each learns {self.learnt:,.0f} tokens "
            f"({config.train.epochs} epochs of {self.share:.1%} of the prompts), and {kind} cost as much as "
            f"{self.answered:,.0f} (a token written counts as one learnt, one read as a third); {self.whole:,.0f} in "
            f"all, {self.of_run:.0%} of the run"
        )
        if pilot.share == "auto" and self.of_run > _COST + 0.005:
            text += (
                f", more than the {_COST:.0%} that train.pilot.share=auto aims at; lower train.pilot.problems, "
                "train.pilot.temperatures, train.pilot.samples, train.pilot.seeds, or name fewer arms"
            )
        return text


def duration(seconds: float) -> str:
    """In minutes or hours, as far as an estimate goes."""
    minutes = max(round(seconds / 60), 1)
    return f"about {minutes:,} minute{'s' * (minutes > 1)}" if seconds < 7200 else f"about {seconds / 3600:,.0f} hours"


def cost_of(config: Config, tokens: float, traces: float, answered: float, untried: Collection[str] = ()) -> Cost:
    """What a pilot costs, and the share of the prompts that each arm trains on.

    ``auto`` takes so much that all arms and seeds together, their answers counted, cost a fifth of the run: a quarter
    of what its students at full size are trained on; but never less than :data:`LEAST`, or than makes so few steps
    that a run is warned of them.

    Args:
        config: the whole configuration.
        tokens: of all traces for training, prompts included.
        traces: how many these are.
        answered: what the answers of one student cost.
        untried: names of arms that the traces do not suit.
    """
    train = config.train
    epochs = train.epochs * max(tokens, 1.0)
    students, before = students_of(config, untried)
    full = float((2 if train.twin else 1) * train.seeds * epochs)
    left = (_COST / (1.0 - _COST) * full - students * answered) / (students + before)
    least = max(LEAST, FEW_STEPS * train.traces_per_step / (train.epochs * max(traces, 1.0)))
    asked = train.pilot.share
    share = min(1.0, max(least, left / epochs)) if asked == "auto" else asked
    return Cost(share, students, share * epochs, answered, full, before)


def answered(pilot: PilotConfig, split: str, asked: Sequence[tuple[int, int]]) -> float:
    """What the answers of one student to a split cost, in tokens learnt, if it writes as much as the traces hold.

    Args:
        pilot: how it is asked.
        split: of the problems.
        asked: tokens of prompt and completion, one pair a problem; of every trace where traces are read only.
    """
    read = sum(prompt for prompt, _ in asked)
    if pilot.compare == "nll":
        return PASS * (read + sum(completion for _, completion in asked))
    limit = pilot.max_new_tokens
    written = sum(completion if limit == "auto" else min(completion, limit) for _, completion in asked)
    return answers_of(pilot, split) * (PASS * read + WRITTEN * written)


def answers_of(pilot: PilotConfig, split: str) -> int:
    """How often a student answers each problem of a split at most: at all temperatures, or at the one they chose."""
    each = [pilot.samples if temperature else 1 for temperature in pilot.temperatures]
    return sum(each) if split == "selection" else max(each)


def _times(pilot: PilotConfig, split: str) -> str:
    count = answers_of(pilot, split)
    return "once" if count == 1 else f"{count} times"


def students_of(config: Config, untried: Collection[str] = ()) -> tuple[int, int]:
    """How many a pilot trains at most, but for arms that are not tried; and how many plain ones these need first."""
    train = config.train
    arms = [arm for arm in train.compared if arm.name not in untried]
    others = sum(not arm.is_sft for arm in arms)
    needy = sum(bool(prepared(arm.correction)) for arm in arms)
    halve = train.pilot.halve
    gone = others // 2 if train.halves and halve != "never" and others >= halve else 0
    further = train.pilot.seeds - 1
    return max(1, len(arms) + (len(arms) - gone) * further), needy + min(needy, others - gone) * further
