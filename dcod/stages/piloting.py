"""What the stages around a pilot know of one: its files, what became of an arm, what it costs. Loads no torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dcod.config import Config
from dcod.config.arms import PilotConfig
from dcod.objective.feasibility import FEW_STEPS
from dcod.retrain import arms as taken_over

ARM, ANSWERS, STUDENT = "arm.json", "answers.parquet", "student"
TAKEN_OVER = "taken_over.json"  # the champion's arm, where that is trained and no arm is tried
DROPPED_AS = "dropped.json"  # which arms get no further seed, and why
TRAINED, LEFT_OUT, FAILED, KEPT, DROPPED, FEW = "trained", "left_out", "failed", "kept", "dropped", "few"
LEAST = 0.02  # share of the prompts that `auto` goes down to, or what makes FEW_STEPS steps: less is hardly a training
PASS = 1.0 / 3.0  # of a token learnt, that one costs which is only read: a step's forward and backward are three passes
# A token written costs as much as one learnt: 10 to 13 against 11 to 12 core milliseconds, prompts counted, measured
# on a CPU (bench/pretrained/second/README.md).
WRITTEN = 1.0
_COST = 0.2  # of the run, that a pilot takes by itself


@dataclass(frozen=True)
class Cost:
    """What a pilot costs, in tokens learnt, prompts counted.

    Attributes:
        share: of the prompts that each arm trains on.
        students: trained at most.
        learnt: by each.
        answered: what the answers of each cost, :data:`WRITTEN` and :data:`PASS` counted in.
        full: what the students at full size learn, all together.
    """

    share: float
    students: int
    learnt: float
    answered: float
    full: float

    @property
    def whole(self) -> float:
        """Of all students."""
        return self.students * (self.learnt + self.answered)

    @property
    def of_run(self) -> float:
        """Its part of the run: of itself and the trainings at full size."""
        return self.whole / (self.whole + self.full)

    def said(self, config: Config, problems: int) -> str:
        """What is said of it before anything is trained, in tokens; the time is told by the first steps.

        Args:
            config: the whole configuration.
            problems: that are asked, of both kinds.
        """
        pilot = config.train.pilot
        kind = "traces read" if pilot.compare == "nll" else f"{problems} problems answered {answers_of(pilot)} times"
        text = (
            f"pilot: {self.students} students at most, each learns {self.learnt:,.0f} tokens ({config.train.epochs} "
            f"epochs of {self.share:.1%} of the prompts), and {kind} cost as much as {self.answered:,.0f} (a token "
            f"written counts as one learnt, one read as a third); {self.whole:,.0f} in all, {self.of_run:.0%} of the "
            "run"
        )
        if pilot.share == "auto" and self.of_run > _COST + 0.005:
            text += (
                f", more than the {_COST:.0%} that train.pilot.share=auto aims at; lower train.pilot.problems, "
                "train.pilot.temperatures, train.pilot.samples, train.pilot.seeds, or name fewer arms"
            )
        return f"{text}; how long that takes, the first steps tell"


def cost_of(config: Config, sizes: Sequence[int], answered: float, untried: Collection[str] = ()) -> Cost:
    """What a pilot costs, and the share of the prompts that each arm trains on.

    ``auto`` takes so much that all arms and seeds together, their answers counted, cost a fifth of the run: a quarter
    of what its students at full size are trained on; but never less than :data:`LEAST`, or than makes so few steps
    that a run is warned of them.

    Args:
        config: the whole configuration.
        sizes: tokens of each trace for training, prompt included.
        answered: what the answers of one student cost.
        untried: names of arms that the traces do not suit.
    """
    train = config.train
    epochs, students = train.epochs * max(int(sum(sizes)), 1), students_of(config, untried)
    full = float((2 if train.twin else 1) * train.seeds * epochs)
    left = _COST / (1.0 - _COST) * full / students - answered
    least = max(LEAST, FEW_STEPS * train.traces_per_step / (train.epochs * max(len(sizes), 1)))
    asked = train.pilot.share
    share = min(1.0, max(least, left / epochs)) if asked == "auto" else asked
    return Cost(share, students, share * epochs, answered, full)


def answers_of(pilot: PilotConfig) -> int:
    """How often a student answers each problem."""
    return sum(pilot.samples if temperature else 1 for temperature in pilot.temperatures)


def students_of(config: Config, untried: Collection[str] = ()) -> int:
    """How many a pilot trains, but for arms that are not tried."""
    train = config.train
    arms = [arm for arm in train.compared if arm.name not in untried]
    others = sum(not arm.is_sft for arm in arms)
    halve = train.pilot.halve
    gone = others // 2 if train.halves and halve != "never" and others >= halve else 0
    return max(1, len(arms) + (len(arms) - gone) * (train.pilot.seeds - 1))


def level_of(pilot: PilotConfig, before: int) -> PilotConfig:
    """The pilot at what it may spend: all pilots of a nightly run's period share the level."""
    return pilot.model_copy(update={"level": taken_over.spent(pilot.level, before)}) if before >= 0 else pilot
