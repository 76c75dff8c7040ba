"""The section ``train`` of the configuration: how training goes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dcod.config.base import Few, Positive, Section, Share
from dcod.config.losses import CorrectionConfig, LossConfig, check_focus


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
        "nll",
        description="Which checkpoint is kept: by the NLL of the held-back traces, or by the student's own greedy "
        "answers to their problems, where 100 have a reference; `auto`: by these where that costs little.",
        examples=["auto"],
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

    @model_validator(mode="after")
    def _exclude(self) -> TrainConfig:
        check_focus(self.focus, self.loss)
        return self
