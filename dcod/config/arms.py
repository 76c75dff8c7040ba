"""Arms: the settings that a run compares with plain fine-tuning (SFT), and how the pilot compares them.

An arm is plain SFT but for what it names. Everything else, start, traces, order of steps, epochs and tokens, is the
run's. The names decide the shape of a compiled pipeline, so they follow from the configuration alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dcod.config.base import Few, Positive, Section, Share
from dcod.config.losses import CorrectionConfig, LossConfig, check_together

SFT = "sft"  # the arm that corrects nothing: always there, and first
CHOSEN = "arm.json"  # what the pilot chose, beside a champion's decision or a nightly run's traces


class ArmConfig(Section):
    """One setting to compare: plain fine-tuning, but for what stands here."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}$")] = Field(
        description="Of the arm, in tables and pipelines; `sft` is taken.", examples=["support"]
    )
    correction: CorrectionConfig = CorrectionConfig()
    loss: LossConfig = LossConfig()
    focus: Annotated[float, Field(ge=0.0, le=2.0)] = Field(0.0, description="As train.focus.", examples=[1.0])
    anchor: Annotated[float, Field(ge=0.0)] = Field(0.0, description="As train.anchor.", examples=[0.1])
    learning_rate: Annotated[float, Field(gt=0.0)] | Literal["run"] = Field(
        "run", description="Its own rate, which SFT is tried with as well; `run`: train.learning_rate.", examples=[5e-5]
    )

    @model_validator(mode="after")
    def _exclude(self) -> ArmConfig:
        check_together(self.correction, self.loss, self.focus)
        return self

    @property
    def is_sft(self) -> bool:
        """Whether it is plain fine-tuning, at whatever rate."""
        return self == ArmConfig(name=self.name, learning_rate=self.learning_rate)


NAMED = tuple(name for name in ArmConfig.model_fields if name != "name")  # what an arm says of its training


class PilotConfig(Section):
    """How arms are compared before the run trains one of them; see docs/arms.md."""

    share: Annotated[float, Field(gt=0.0, le=1.0)] | Literal["auto"] = Field(
        "auto",
        description="Share of the prompts that each arm trains on; `auto`: so many that the pilot, its answers "
        "counted, costs a fifth of the run, more where a fifth would train too little; at least 2 %.",
        examples=[0.2],
    )
    seeds: Few = Field(2, description="Students an arm, each in an order of its own: two tell what training adds.")
    halve: Positive | Literal["never"] = Field(
        4,
        description="With so many arms in a list of one's own the worse half is dropped after a first seed of each.",
        examples=["never"],
    )
    problems: Positive = Field(
        400,
        description="At most so many pilot problems are asked; half as many selection problems, or `min_problems`.",
    )
    samples: Few = Field(2, description="Answers a problem at a temperature above 0.")
    temperatures: Annotated[list[Annotated[float, Field(ge=0.0, le=2.0)]], Field(min_length=1)] = Field(
        [0.0, 0.3, 0.6, 1.0],
        description="Each arm is compared at its own best of these, on the selection problems; a single one is what "
        "you serve with.",
        examples=[[0.6]],
    )
    compare: Literal["answers", "nll"] = Field(
        "answers",
        description="By graded answers; `nll`, for want of references: by how likely the held-back traces are, which "
        "favours plain fine-tuning.",
        examples=["nll"],
    )
    min_problems: Positive = Field(
        100, description="With fewer selection or fewer pilot problems nothing is compared, and SFT is kept."
    )
    level: Annotated[float, Field(ge=1e-9, lt=0.5)] = Field(
        0.05, description="One-sided, over all arms: the chance to leave SFT for noise."
    )
    seed_deviation: Share = Field(
        0.03, description="Spread of a difference between seeds, as far as the pilot's own seeds cannot tell it."
    )
    max_new_tokens: Positive | Literal["auto"] = Field(
        "auto", description="An answer is cut here; `auto`: as long as the longest trace.", examples=[512]
    )

    def most(self, split: str) -> int:
        """How many problems of a split are asked at most."""
        return self.problems if split == "pilot" else max(-(-self.problems // 2), min(self.problems, self.min_problems))


_NEAR = CorrectionConfig(name="naturalness", weights="live", gamma_max=4.0)  # as the second study confirmed it
_TRUST = LossConfig(name="gce", power=0.25)
# `train.arms=auto`: what is tried where the traces allow it, in this order (dcod.objective.arms says which do).
AUTO = (
    ArmConfig(name="naturalness", correction=_NEAR),
    ArmConfig(name="naturalness_gce", correction=_NEAR, loss=_TRUST),
    ArmConfig(name="gce", loss=_TRUST),
    ArmConfig(name="support_text", correction=CorrectionConfig(name="support_text", weights="live")),
)
