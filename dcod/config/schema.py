"""One typed, strict configuration; one section per stage. Imports no heavy package.

The command line, the components and the presets all read this one type. A configuration is a YAML or
JSON mapping plus ``section.key=value`` overrides; unknown keys are errors that list the known ones, and
all errors are reported at once.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dcod.config.base import Few, Natural, Positive, Section
from dcod.config.cluster import ClusterConfig
from dcod.config.retrain import NotifyConfig, RetrainConfig
from dcod.config.teach import EngineConfig, TeachConfig

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Positive | Literal["all"]


class StudentConfig(Section):
    """The model that is taught: a hub id, a local folder, ``s3://…`` or ``models:/name@alias``."""

    model: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    revision: str = "main"
    dtype: Literal["float32", "bfloat16"] = "float32"
    chat_template: Literal["model", "plain"] = Field(
        "model", description="`plain` is for a base model that has no template of its own."
    )
    max_length: Positive = Field(1024, description="Prompt and completion together, in student tokens.")


class IngestConfig(Section):
    """Raw traces in, verified traces out."""

    sources: list[str] = Field(
        default_factory=list,
        description="Files, folders, globs, s3://bucket/prefix, or reasoning-gym://TASK?key=value&…",
    )
    format: str = Field("auto", description="A name from dcod.traces.formats, or `auto`.")
    keep: Literal["correct", "answered", "all"] = Field(
        "correct", description="Which verdicts become training traces; the rest is quarantined."
    )
    answers: Literal["marked", "last_number", "last_math"] = Field(
        "marked",
        description="Where no answer is marked or stated, take the last number, or the last formula or number; only "
        "where the reference is known.",
    )
    limit: Count = Field("all", description="At most this many problems (all traces of each), in source order.")
    selection_share: Share = Field(0.1, description="Share of the problems held back to select checkpoints and knobs.")
    decontaminate: bool = Field(True, description="Drop traces whose problem stands in a configured benchmark.")
    ngram_share: Share = Field(
        0.0,
        description="Share of a benchmark problem's 30-character n-grams from which a prompt is refused, as for "
        "another number; 0: such prompts are only counted.",
    )
    strip_calculator: bool = Field(True, description="Remove `<<3*4=12>>` annotations.")
    cut_run_on: bool = Field(True, description="Cut what follows a stated answer as an invented question or turn.")
    refuse_loops: bool = Field(True, description="Refuse completions that go round in a loop.")
    thoughts: Literal["keep", "tag", "strip"] = Field(
        "keep", description="Thoughts as they are; in <think> tags whatever marked them; or gone, with the answer kept."
    )
    languages: list[str] = Field(
        default_factory=list, description="Languages of completions that are kept, such as [en]; empty: any."
    )
    near_duplicates: Share = Field(
        0.0, description="Share of word triples from which a trace repeats an earlier one; 0: only exact duplicates."
    )
    row_bytes: Positive = Field(2**26, description="A longer row is not read, but quarantined.")
    shard_bytes: Positive = Field(
        2**28, description="Before compression: a Parquet shard of traces or quarantine with so much gets no more rows."
    )
    seen: list[str] = Field(
        default_factory=list, description="SHA-256 of files that an earlier run has read; they are left out."
    )


class PartsConfig(Section):
    """Where a scoring keeps the parts that are done, so that it goes on after a kill."""

    uri: str = Field("runs/checkpoints", description="Folder or s3:// prefix, one folder a scoring in it; empty: none.")
    every: Positive = Field(1024, description="Traces of a part: held at once, and sorted by length.")


class ScoreConfig(Section):
    """Student log-probs and entropies of every trace."""

    batch_tokens: Positive = Field(4096, description="Padded tokens per forward pass.")
    top_k: Natural = Field(
        0, description="Also record the student's k likeliest tokens per position, for `train.anchor`."
    )
    workers: Few | Literal["auto"] = Field(
        "auto", description="Processes; `auto`: one a GPU, else one. Without GPUs they share the threads."
    )
    checkpoints: PartsConfig = PartsConfig()


class CorrectionConfig(Section):
    """Which weights the supervision gets; see docs/method.md for the symbols."""

    name: Literal[
        "none",
        "support",
        "support_text",
        "prefix",
        "trace",
        "trace_mean",
        "mixed",
        "surprisal",
        "naturalness",
        "iw_sft",
        "iw_opd",
        "token_support",
        "position_decay",
        "shuffled",
        "length_only",
        "student_likelihood_only",
    ] = "none"
    scope: Literal["token", "trace"] = Field(
        "trace", description="`surprisal` only: the running sum before each token, or the sum of the trace."
    )
    rho: Share = Field(0.5, description="`mixed` only: the share of the log-ratios from t on; 0 `prefix`, 1 `trace`.")
    base: Literal["prefix", "trace", "mixed", "surprisal"] = Field(
        "trace", description="`shuffled` only: whose weights go to another trace of the prompt."
    )
    group: Literal["auto", "prompt", "position", "length", "batch"] = Field(
        "auto", description="What weights are compared within; `auto` is the correction's own."
    )
    weights: Literal["stored", "live"] = Field(
        "stored", description="From the score stage, or from the same forward pass with statistics lagged one step."
    )
    gamma_max: Annotated[float, Field(ge=0.0, le=4.0)] = 1.0
    ess_floor: Share = 0.3
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(1.0, description="lambda, of the running sums.")
    clip: Annotated[float, Field(gt=0.0)] = Field(2.0, description="c, on each per-token log-ratio.")
    one_sided: bool = Field(False, description="Clip log-ratios to <= 0, so that no slip of the teacher is raised.")
    truncate: Annotated[float, Field(ge=1.0)] = Field(4.0, description="C, on the normalised weight.")
    floor: Share = Field(0.1, description="eta, so that no trace loses all supervision.")
    bucket_width: Positive = Field(16, description="Positions (or tokens of length) per normalisation bucket.")
    tau: Annotated[float, Field(gt=0.0)] = Field(1.0, description="`iw_sft` only: the exponent on the mean log-ratio.")
    bias: float = Field(0.0, description="`support`, `support_text` only: the log-ratio, nats, whose weight is 1/2.")
    temperature: Annotated[float, Field(gt=0.0)] = Field(
        4.0, description="`support`, `support_text` only: of the sigmoid; high is flat."
    )
    rule: Literal["probability", "threshold"] = Field(
        "threshold",
        description="`token_support` only: weigh by the start's probability, or keep what reaches `threshold`.",
    )
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.4, description="`token_support` only.")
    normalise: bool = Field(
        True, description="`support`, `token_support`, `iw_*`: rescale a step to mean 1; else they lower the rate too."
    )

    @model_validator(mode="after")
    def _not_cancelled(self) -> CorrectionConfig:
        if self.name == "position_decay" and self.group == "prompt":
            raise ValueError("position_decay weighs by position alone, which group=prompt cancels; use auto or batch")
        return self


class LossConfig(Section):
    """What is matched at a state; the correction says which states count."""

    name: Literal["log", "gce", "deft", "forward_kl", "reverse_kl", "jsd", "skew_kl", "todi"] = Field(
        "log", description="All but `log`, `gce` and `deft` need the teacher's recorded top-k log-probs."
    )
    power: Annotated[float, Field(gt=0.0, le=1.0)] = Field(0.5, description="`gce` only: (1 - pi^power) / power.")
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.5, description="`jsd` only: the teacher's share.")
    skew: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.1, description="`skew_kl` only: the teacher's share.")
    cross_entropy: Share = Field(0.0, description="`todi` only: the share of the log loss beside it.")


class CheckpointConfig(Section):
    """Where a training run keeps what it needs to go on after a kill."""

    uri: str = Field("runs/checkpoints", description="Folder or s3:// prefix, one folder a run in it; empty: none.")
    every: Positive = Field(200, description="Optimizer steps between two.")
    keep: Positive = 2


class LoraConfig(Section):
    """Low-rank updates instead of full training; merged into the student that is saved."""

    rank: Annotated[int, Field(ge=0, le=10_000)] = Field(0, description="0: all weights are trained.")
    alpha: Positive = Field(32, description="The update is scaled by alpha / rank.")
    targets: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="Names of layers; all linear ones but the output head by default."
    )


class TrainConfig(Section):
    """Corrected supervised training."""

    correction: CorrectionConfig = CorrectionConfig()
    loss: LossConfig = LossConfig()
    focus: Annotated[float, Field(ge=0.0, le=2.0)] = Field(
        0.0, description="alpha, token focus of the `log` loss; 1 is DFT."
    )
    anchor: Annotated[float, Field(ge=0.0)] = Field(
        0.0, description="Weight of KL(start || student), on the start's top-k that `score.top_k` records."
    )
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-4
    epochs: Few = 2
    traces_per_step: Positive = Field(16, description="Global, over all ranks and micro-batches.")
    micro_batch_tokens: Positive | Literal["auto"] = Field(
        2048, description="Padded tokens per forward pass and rank; `auto`: as many as a GPU's memory holds, by trying."
    )
    warmup_share: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    validations: Few = Field(4, description="How often the selection split is measured during the run.")
    patience: Positive | Literal["never"] = Field(
        "never", description="Stop after so many measurements without a better one."
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
    processes: Few | Literal["auto"] = Field("auto", description="Ranks on this machine; `auto`: one a GPU, or 1.")
    sharding: Literal["ddp", "fsdp"] = Field(
        "ddp", description="With several ranks: each holds the student, or its weights are split over them."
    )

    @model_validator(mode="after")
    def _exclude(self) -> TrainConfig:
        if self.focus > 0.0 and self.loss.name != "log":
            raise ValueError(f"focus multiplies the `log` loss only; with loss.name={self.loss.name} it must be 0")
        if self.correction.name == "iw_sft" and self.correction.weights == "stored":
            raise ValueError("correction iw_sft compares the student with its start: it needs correction.weights=live")
        return self


class BenchmarkConfig(Section):
    """One benchmark of an evaluation; ``name`` is a module of dcod.benchmarks, and ``auto`` is its own plan."""

    name: str
    source: str = Field("", description="Path, s3:// or reasoning-gym:// URI; empty: the benchmark's own default.")
    revision: str = Field("main", description="Of a hub data set: a branch, tag or commit.")
    limit: Count = "all"
    role: Literal["primary", "guard", "report"] = Field("primary", description="What the gate does with it.")
    samples: Few | Literal["auto"] = Field("auto", description="Answers a problem; 1 is greedy.")
    temperature: Annotated[float, Field(ge=0.0)] | Literal["auto"] = Field("auto", description="0 is greedy.")
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | Literal["auto"] = "auto"
    max_new_tokens: Positive | Literal["auto"] = "auto"

    @model_validator(mode="after")
    def _samples_need_temperature(self) -> BenchmarkConfig:
        if self.samples != "auto" and self.samples > 1 and self.temperature == 0.0:
            raise ValueError("samples > 1 needs temperature > 0: greedy samples are all the same")
        return self


class EvaluateConfig(Section):
    """Accuracy on benchmarks, on splits that training never saw."""

    benchmarks: list[BenchmarkConfig] = Field(default_factory=list)
    engine: EngineConfig = EngineConfig()
    report_share: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.5, description="Share of the problems that only the report uses; the gate decides on the others."
    )
    few_shot: Natural = Field(
        0, description="Also evaluate the start with this many worked examples, so that a gain is not only format."
    )
    drift_traces: Natural = Field(
        64, description="With traces given: so many of the selection split are scored for the drift of the model."
    )
    batch_size: Positive = 64


Stability = Literal["truncated", "looping", "contradicting", "disagreeing"]


class PromoteConfig(Section):
    """When the student replaces the champion."""

    registered_model: str = "dcod-student"
    level: Annotated[float, Field(ge=1e-9, lt=0.5)] = Field(0.05, description="One-sided level of the paired test.")
    primaries: Literal["all", "any"] = Field(
        "all", description="`any`: one improves after Holm's correction, and no other falls by more than the margin."
    )
    schedule: Literal["single", "repeated"] = Field(
        "single", description="`repeated`, for a nightly run: all gates of a period share the level."
    )
    tests_per_period: Few = Field(30, description="`repeated` only: each gate tests at level / this; no more.")
    period_days: Few = Field(30, description="`repeated` only.")
    margin: Share = Field(0.02, description="How far a guard benchmark may fall (non-inferiority).")
    stability: list[Stability] = Field(
        ["truncated", "looping"],
        description="Shares of answers that may not rise by more than stability_margin, on primaries and guards.",
    )
    stability_margin: Share = 0.1
    min_problems: Positive = Field(50, description="Fewer problems on the gate split: refused.")
    max_truncated: Share = 0.5
    max_unparseable: Share = 0.5
    twin: Literal["report", "require"] = Field(
        "report", description="Whether the student must also beat an SFT twin at equal compute, where one is given."
    )
    base_licence: str = Field(
        "", description="Of the start, such as apache-2.0, for the model card; empty: the card says unknown."
    )
    lease: str = Field("runs/promotion.lease", description="File or s3://bucket/key that serialises promotions.")


class TrackingConfig(Section):
    """Where MLflow keeps runs, artifacts and the registry."""

    uri: str = "sqlite:///runs/mlflow.db"
    artifacts: str = Field("runs/artifacts", description="Folder or s3:// prefix; a tracking server ignores it.")
    experiment: str = "dcod"
    reuse: bool = Field(True, description="Take a stage's output from an earlier run with the same digests.")


class Config(Section):
    """The whole configuration of a pipeline run."""

    name: str = "dcod"
    pipeline: Literal["distill", "retrain"] = Field("distill", description="`retrain` decides first whether to train.")
    seed: Annotated[int, Field(ge=-(2**40), le=2**40)] = 0
    student: StudentConfig = StudentConfig()
    teach: TeachConfig = TeachConfig()
    ingest: IngestConfig = IngestConfig()
    score: ScoreConfig = ScoreConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    promote: PromoteConfig = PromoteConfig()
    retrain: RetrainConfig = RetrainConfig()
    notify: NotifyConfig = NotifyConfig()
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _one_job_a_run(self) -> Config:
        if self.retrain.rounds > 1 and self.cluster.train.num_nodes > 1:
            raise ValueError("retrain.rounds > 1 trains in one pod: a TrainJob is made once a run; num_nodes must be 1")
        return self

    def to_json(self) -> str:
        """The resolved configuration, stable and on one line (a pipeline parameter)."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)
