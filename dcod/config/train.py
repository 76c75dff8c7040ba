"""The section ``train`` of the configuration: how training goes, and what is compared with plain fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dcod.config.arms import AUTO, NAMED, SFT, ArmConfig, PilotConfig
from dcod.config.base import Few, Positive, Section, Share
from dcod.config.losses import CorrectionConfig, LossConfig, check_together


class CheckpointConfig(Section):
    """Where a training run keeps what it needs to go on after a kill."""

    uri: str = Field(
        "runs/checkpoints",
        description="Folder or s3:// prefix, one folder a run in it; empty: none.",
        examples=["s3://bucket/checkpoints"],
    )
    every: Positive = Field(200, description="Optimizer steps between two.")
    keep: Positive = Field(2, description="So many stay, the newest; older ones are deleted.")


class LoraConfig(Section):
    """Low-rank updates instead of full training; merged into the student that is saved."""

    rank: Annotated[int, Field(ge=0, le=10_000)] = Field(0, description="0: all weights are trained.", examples=[16])
    alpha: Positive = Field(32, description="The update is scaled by alpha / rank.")
    targets: list[str] | Literal["all-linear"] = Field(
        "all-linear",
        description="Names of layers; all linear ones but the output head by default.",
        examples=[["q_proj", "v_proj"]],
    )


class TrainConfig(Section):
    """Corrected supervised training."""

    correction: CorrectionConfig = CorrectionConfig()
    loss: LossConfig = LossConfig()
    focus: Annotated[float, Field(ge=0.0, le=2.0)] = Field(
        0.0, description="alpha, token focus of the `log` loss; 1 is DFT.", examples=[1.0]
    )
    anchor: Annotated[float, Field(ge=0.0)] = Field(
        0.0,
        description="Weight of KL(start || student), on the start's top-k that `score.top_k` records.",
        examples=[0.1],
    )
    allow_idle: bool = Field(
        False,
        description="Train although the correction does nothing on these traces: plain SFT under its name; of `arms`, "
        "keep one that does nothing.",
    )
    learning_rate: Annotated[float, Field(gt=0.0)] = Field(
        1e-4, description="The highest one: it rises during the warm-up and then falls on a cosine.", examples=[5e-5]
    )
    epochs: Few = Field(2, description="How often each trace is trained on.", examples=[3])
    traces_per_step: Positive = Field(16, description="Global, over all ranks and micro-batches.")
    micro_batch_tokens: Positive | Literal["auto"] = Field(
        2048,
        description="Padded tokens per forward pass and rank; `auto`: as many as a GPU's memory holds, by trying.",
        examples=["auto"],
    )
    warmup_share: Share = Field(0.1, description="Share of the steps in which the learning rate rises.")
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(0.0, description="Of AdamW.", examples=[0.01])
    max_grad_norm: Annotated[float, Field(gt=0.0)] = Field(1.0, description="Longer gradients are cut to this length.")
    validations: Few = Field(4, description="How often the selection split is measured during the run.")
    select: Literal["nll", "accuracy", "auto"] = Field(
        "auto",
        description="Which checkpoint is kept: by the NLL of the held-back traces, or by the student's own greedy "
        "answers to their problems, where 100 have a reference; `auto`: by these where that costs little.",
        examples=["nll"],
    )
    patience: Positive | Literal["never"] = Field(
        "never", description="Stop after so many measurements without a better one.", examples=[2]
    )
    checkpoints: CheckpointConfig = CheckpointConfig()
    layout: Literal["auto", "padded", "packed"] = Field(
        "auto", description="Traces in one row without padding, or a row each; `auto`: packed, where the model can."
    )
    lora: LoraConfig = LoraConfig()
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of the arithmetic; weights and optimizer stay float32 with student.dtype=float32."
    )
    activation_checkpointing: bool = Field(
        False, description="Keep the input of each block alone and compute the rest again: less memory, more time."
    )
    processes: Few | Literal["auto"] = Field(
        "auto", description="Ranks on this machine; `auto`: one a GPU, or 1.", examples=[2]
    )
    sharding: Literal["ddp", "fsdp"] = Field(
        "ddp", description="With several ranks: each holds the student, or its weights are split over them."
    )
    arms: list[ArmConfig] | Literal["auto"] = Field(
        default_factory=list,
        description="Settings that a pilot compares with plain fine-tuning; the best of them trains the student. "
        "`auto`: those that suit the traces.",
        examples=["auto"],
    )
    pilot: PilotConfig = PilotConfig()
    twin: bool = Field(
        False, description="Also train plain fine-tuning at full size, so that the report says what the correction did."
    )

    seeds: Few = Field(
        1,
        description="Students that are trained alike but for the seed, and as many twins, so that the answer is over "
        "seeds as well; the first one is judged.",
        examples=[3],
    )

    @model_validator(mode="after")
    def _exclude(self) -> TrainConfig:
        check_together(self.correction, self.loss, self.focus)
        return self

    @model_validator(mode="after")
    def _arms_differ(self) -> TrainConfig:
        names = [arm.name for arm in self.compared]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            also = f"; {SFT} and {SFT}-RATE are there by themselves" if any(n.startswith(SFT) for n in twice) else ""
            raise ValueError(f"arms: {', '.join(twice)} stands there twice{also}")
        return self

    @property
    def compared(self) -> list[ArmConfig]:
        """All arms, SFT first, at each rate that an arm names; empty where nothing is compared."""
        wanted = list(AUTO) if self.arms == "auto" else self.arms
        if not wanted:
            return []
        rates = sorted({arm.learning_rate for arm in wanted if arm.learning_rate != "run"} - {self.learning_rate})
        plain = [ArmConfig(name=SFT), *(ArmConfig(name=f"{SFT}-{rate:g}", learning_rate=rate) for rate in rates)]
        return [*plain, *wanted]

    @property
    def sft_rates(self) -> set[float | str]:
        """The learning rates at which a pilot tries plain fine-tuning; with several, it says which is best."""
        return {arm.learning_rate for arm in self.compared if arm.is_sft}

    @property
    def halves(self) -> bool:
        """Whether a first seed of every arm comes first, and the worse half of the arms goes no further.

        It shapes the pipeline, so it does not depend on the traces; of ``auto`` at most three arms are tried.
        """
        pilot = self.pilot
        return self.arms != "auto" and pilot.halve != "never" and pilot.seeds > 1 and len(self.arms) >= pilot.halve

    def arm(self, name: str) -> ArmConfig:
        """The arm of a name; ``sft`` is one whether arms are configured or not."""
        return next((arm for arm in self.compared if arm.name == name), ArmConfig(name=SFT))

    def of_arm(self, arm: ArmConfig) -> TrainConfig:
        """The training of one arm, and of nothing else: the same setting has the same digest, whoever chose it."""
        named = {name: getattr(arm, name) for name in NAMED if getattr(arm, name) != "run"}
        return self.model_copy(update={**_ALONE, **named})

    @property
    def is_plain(self) -> bool:
        """Whether it is plain fine-tuning, at whatever rate."""
        return self.alone() == self.of_arm(ArmConfig(name=SFT))

    def alone(self) -> TrainConfig:
        """The training that this section itself describes, without what it is compared with."""
        return self.model_copy(update=_ALONE)

    def plain(self) -> TrainConfig:
        """Plain fine-tuning, else as this one; nothing is held back to choose by."""
        return self.of_arm(ArmConfig(name=SFT)).model_copy(update={"select": "nll"})


_ALONE = {"arms": [], "pilot": PilotConfig(), "twin": False, "seeds": 1}
