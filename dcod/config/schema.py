"""One typed, strict configuration; one section per stage. Imports no heavy package.

The command line, the components and the presets all read this one type. A configuration is a YAML or
JSON mapping plus ``section.key=value`` overrides; unknown keys are errors that list the known ones, and
all errors are reported at once.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dcod.config.base import Few, Natural, Positive, Section, Share
from dcod.config.cluster import ClusterConfig
from dcod.config.mapping import Maps, ProblemMap, SourceConfig
from dcod.config.retrain import NotifyConfig, RetrainConfig
from dcod.config.teach import EngineConfig, Price, TeachConfig
from dcod.config.train import TrainConfig

Count = Positive | Literal["all"]


class StudentConfig(Section):
    """The model that is taught: a hub id, a local folder, ``s3://…`` or ``models:/name@alias``."""

    model: str = Field(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        description="Hub id, local folder, s3://… or models:/name@alias.",
        examples=["Qwen/Qwen3-0.6B"],
    )
    revision: str = Field("main", description="Of a hub model: a branch, tag or commit.", examples=["v1.0"])
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of the weights while they are trained, and in the student that is saved."
    )
    chat_template: Literal["model", "plain"] = Field(
        "model", description="`plain` is for a base model that has no template of its own."
    )
    system_prompt: str = Field(
        "template",
        description="What stands in front of every prompt without a system prompt of its own, in training and in "
        "evaluation; it stays in the student's chat template. `template`: what that writes by itself; of a student of "
        "dcod what it was taught with; may be empty.",
        examples=["Work step by step."],
    )
    max_length: Positive = Field(
        1024, description="Prompt and completion together, in student tokens.", examples=[2048]
    )


class IngestConfig(Section):
    """Raw traces in, verified traces out."""

    sources: list[str | SourceConfig] = Field(
        default_factory=list,
        description="Files, folders, globs, s3://bucket/prefix, or reasoning-gym://TASK?key=value&…; with columns of "
        "one's own FILE?prompt=…&completion=…, or a mapping of path and map.",
        examples=[["traces.jsonl"]],
    )
    map: Maps = Field(
        "",
        description="For sources without one: what is what in a row, or the name of a ready mapping (docs/traces.md).",
        examples=["openr1-math"],
    )
    flags: Literal["believe", "ignore"] = Field(
        "believe",
        description="What a row itself calls wrong (correct: false) is refused, or its flags are only counted.",
    )
    format: str = Field("auto", description="`auto`, or the name of a format in docs/traces.md.", examples=["gsm8k"])
    keep: Literal["correct", "answered", "all"] = Field(
        "correct", description="Which verdicts become training traces; the rest is quarantined."
    )
    own: Literal["correct", "all"] = Field(
        "correct", description="The same of the student's own answers (`teach.source`): `all` is a control."
    )
    answers: Literal["marked", "last_number", "last_math"] = Field(
        "marked",
        description="Where no answer is marked or stated, take the last number, or the last formula or number; only "
        "where the reference is known.",
    )
    limit: Count = Field(
        "all", description="At most this many problems (all traces of each), in source order.", examples=[1000]
    )
    selection_share: Share = Field(0.1, description="Share of the problems held back to select checkpoints and knobs.")
    pilot_share: Share = Field(
        0.0, description="Share of the problems held back to compare arms (`train.arms`) on.", examples=[0.1]
    )
    decontaminate: bool = Field(True, description="Drop traces whose problem stands in a configured benchmark.")
    ngram_share: Share = Field(
        0.0,
        description="Share of a benchmark problem's 30-character n-grams from which a prompt is refused, as for "
        "another number; 0: such prompts are only counted.",
        examples=[0.8],
    )
    strip_calculator: bool = Field(True, description="Remove `<<3*4=12>>` annotations.")
    cut_run_on: bool = Field(True, description="Cut what follows a stated answer as an invented question or turn.")
    refuse_loops: bool = Field(True, description="Refuse completions that go round in a loop.")
    thoughts: Literal["keep", "tag", "strip"] = Field(
        "keep", description="Thoughts as they are; in <think> tags whatever marked them; or gone, with the answer kept."
    )
    languages: list[str] = Field(
        default_factory=list,
        description="Languages of completions that are kept, such as [en]; empty: any.",
        examples=[["en"]],
    )
    near_duplicates: Share = Field(
        0.0,
        description="Share of word triples from which a trace repeats an earlier one; 0: only exact duplicates.",
        examples=[0.9],
    )
    row_bytes: Positive = Field(2**26, description="A longer row is not read, but quarantined.")
    shard_bytes: Positive = Field(
        2**28, description="Before compression: a Parquet shard of traces or quarantine with so much gets no more rows."
    )
    seen: list[str] = Field(
        default_factory=list,
        description="SHA-256 of files that an earlier run has read; they are left out.",
        examples=[["9f86d081884c7d65…"]],
    )


class PartsConfig(Section):
    """Where a scoring keeps the parts that are done, so that it goes on after a kill."""

    uri: str = Field(
        "runs/checkpoints",
        description="Folder or s3:// prefix, one folder a scoring in it; empty: none.",
        examples=["s3://bucket/checkpoints"],
    )
    every: Positive = Field(1024, description="Traces of a part: held at once, and sorted by length.")


class ScoreConfig(Section):
    """Student log-probs and entropies of every trace."""

    batch_tokens: Positive = Field(4096, description="Padded tokens per forward pass.")
    top_k: Natural = Field(
        0, description="Also record the student's k likeliest tokens per position, for `train.anchor`.", examples=[32]
    )
    ranks: bool = Field(
        False, description="Also record each token's rank and the mass below it; `rsr`, withdrawn, wants it."
    )
    local_window: Natural = Field(
        0,
        description="Also score every sentence after this many tokens alone; 0: no. `local_naturalness`, withdrawn, "
        "wants it.",
        examples=[32],
    )
    workers: Few | Literal["auto"] = Field(
        "auto", description="Processes; `auto`: one a GPU, else one. Without GPUs they share the threads.", examples=[2]
    )
    checkpoints: PartsConfig = PartsConfig()


class BenchmarkConfig(Section):
    """One benchmark of an evaluation; ``name`` is a module of dcod.benchmarks, and ``auto`` is its own plan."""

    name: str = Field(description="A benchmark of `dcod`, or `custom` for a file of your own.", examples=["gsm8k"])
    source: str = Field(
        "",
        description="Path, s3:// or reasoning-gym:// URI; empty: the benchmark's own default.",
        examples=["problems.jsonl"],
    )
    map: ProblemMap = Field(ProblemMap(), description="Of `custom`: what of a row is the problem, and its answer.")
    revision: str = Field("main", description="Of a hub data set: a branch, tag or commit.")
    limit: Count = Field("all", description="At most this many problems, the first ones.", examples=[200])
    role: Literal["primary", "guard", "report"] = Field("primary", description="What the gate does with it.")
    samples: Few | Literal["auto"] = Field("auto", description="Answers a problem; 1 is greedy.", examples=[8])
    temperature: Annotated[float, Field(ge=0.0)] | Literal["auto"] = Field(
        "auto", description="Of the sampler; 0 is greedy.", examples=[0.7]
    )
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | Literal["auto"] = Field(
        "auto", description="Sampling keeps the likeliest tokens up to this probability; 1 keeps all.", examples=[0.95]
    )
    max_new_tokens: Positive | Literal["auto"] = Field(
        "auto", description="An answer is cut here, and counts as truncated.", examples=[512]
    )

    @model_validator(mode="after")
    def _fits_together(self) -> BenchmarkConfig:
        if self.name != "custom" and self.map != ProblemMap():
            raise ValueError(f"map says how a set of your own is read, name=custom; {self.name} has columns of its own")
        if self.samples != "auto" and self.samples > 1 and self.temperature == 0.0:
            raise ValueError("samples > 1 needs temperature > 0: greedy samples are all the same")
        return self


class EvaluateConfig(Section):
    """Accuracy on benchmarks, on splits that training never saw."""

    benchmarks: list[BenchmarkConfig] = Field(
        default_factory=list, description="What the models are asked.", examples=[[{"name": "gsm8k"}]]
    )
    engine: EngineConfig = EngineConfig()
    report_share: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.5, description="Share of the problems that only the report uses; the gate decides on the others."
    )
    few_shot: Natural = Field(
        0,
        description="Also evaluate the start with this many worked examples, so that a gain is not only format.",
        examples=[3],
    )
    drift_traces: Natural = Field(
        64, description="With traces given: so many of the selection split are scored for the drift of the model."
    )
    batch_size: Positive = Field(64, description="Problems that the model answers at once.", examples=[16])


Stability = Literal["truncated", "looping", "contradicting", "disagreeing"]


class PromoteConfig(Section):
    """When the student replaces the champion."""

    registered_model: str = Field("dcod-student", description="Name of the student in the MLflow registry.")
    level: Annotated[float, Field(ge=1e-9, lt=0.5)] = Field(0.05, description="One-sided level of the paired test.")
    primaries: Literal["all", "any"] = Field(
        "all", description="`any`: one improves after Holm's correction, and no other falls by more than the margin."
    )
    schedule: Literal["single", "repeated"] = Field(
        "single", description="`repeated`, for a nightly run: all gates of a period share the level."
    )
    tests_per_period: Few = Field(30, description="`repeated` only: each gate tests at level / this; no more.")
    period_days: Few = Field(30, description="`repeated` only: length of a period.")
    margin: Share = Field(0.02, description="How far a guard benchmark may fall (non-inferiority).")
    stability: list[Stability] = Field(
        ["truncated", "looping"],
        description="Shares of answers that may not rise by more than stability_margin, on primaries and guards.",
    )
    stability_margin: Share = Field(0.1, description="How far a share of `stability` may rise.")
    min_problems: Positive = Field(50, description="Fewer problems on the gate split: refused.")
    max_truncated: Share = Field(0.5, description="A larger share of cut answers: refused.")
    max_unparseable: Share = Field(0.5, description="A larger share of answers in which none is found: refused.")
    twin: Literal["report", "require"] = Field(
        "report", description="Whether the student must also beat an SFT twin at equal compute, where one is given."
    )
    exposure_traces: Natural = Field(
        0,
        description="For the report: the students answer the prompts of so many held-back traces, and the teacher "
        "(`teach.model`, on this machine) judges each token: do errors compound (ExAccErr)? 0: not measured.",
        examples=[128],
    )
    base_licence: str = Field(
        "",
        description="Of the start, such as apache-2.0, for the model card; empty: the card says unknown.",
        examples=["apache-2.0"],
    )
    log_model: Literal["whole", "reference"] = Field(
        "whole",
        description="`reference`: weights go to cluster.storage, once a digest, and MLflow gets their place alone.",
    )
    lease: str = Field("runs/promotion.lease", description="File or s3://bucket/key that serialises promotions.")


class TrackingConfig(Section):
    """Where MLflow keeps runs, artifacts and the registry."""

    uri: str = Field(
        "sqlite:///runs/mlflow.db",
        description="A local database, or the address of an MLflow server.",
        examples=["http://127.0.0.1:5000"],
    )
    artifacts: str = Field("runs/artifacts", description="Folder or s3:// prefix; a tracking server ignores it.")
    experiment: str = Field("dcod", description="The MLflow experiment that runs are written to.")
    reuse: bool = Field(True, description="Take a stage's output from an earlier run with the same digests.")
    hour_price: Price = Field(
        0.0, description="Of an hour of a stage that sees no GPU, for the metric `cost`; 0: not told.", examples=[0.2]
    )
    gpu_hour_price: Price = Field(0.0, description="Of an hour of each GPU that a stage sees.", examples=[2.5])

    def price(self, seconds: float, gpus: int, machines: int = 1) -> float:
        """What so long on so many GPUs costs, or on machines without one; 0 where no price is given."""
        return seconds / 3600 * (gpus * self.gpu_hour_price if gpus else machines * self.hour_price)


class Config(Section):
    """The whole configuration of a pipeline run."""

    name: str = Field("dcod", description="Of the run, in MLflow and on pages.", examples=["my-student"])
    pipeline: Literal["distill", "retrain"] = Field("distill", description="`retrain` decides first whether to train.")
    seed: Annotated[int, Field(ge=-(2**40), le=2**40)] = Field(
        0, description="Of everything that is drawn: order of traces, samples, intervals.", examples=[1]
    )
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
    def _across_sections(self) -> Config:
        if self.retrain.rounds > 1 and self.cluster.train.num_nodes > 1:
            raise ValueError("retrain.rounds > 1 trains in one pod: a TrainJob is made once a run; num_nodes must be 1")
        if self.promote.log_model == "reference" and not self.cluster.storage:
            raise ValueError("promote.log_model=reference needs cluster.storage, where the weights are to lie")
        if self.promote.exposure_traces and not self.judged_by_teacher:
            raise ValueError(
                "promote.exposure_traces needs the distribution of a teacher at given texts: set teach.model, and "
                "teach.engine to transformers or vllm"
            )
        if self.train.seeds > 1 and not self.train.twin:
            raise ValueError(
                "train.seeds > 1 trains further students to compare them with plain fine-tuning: set train.twin=true"
            )
        if self.train.seeds > 1 and self.cluster.train.num_nodes > 1:
            raise ValueError("train.seeds > 1 trains in one pod a student: cluster.train.num_nodes must be 1")
        if self.train.seeds > 1 and self.evaluate.engine.name != "transformers":
            raise ValueError(
                "train.seeds > 1 asks every further student where it was trained: evaluate.engine.name must be "
                "transformers"
            )
        if self.train.seeds > 1 and not self.evaluate.report_share:
            raise ValueError("train.seeds > 1 asks further students the report problems: set evaluate.report_share")
        return self

    @model_validator(mode="after")
    def _arms_of_one_run(self) -> Config:
        if self.pipeline == "retrain" and self.train.twin and self.retrain.rounds > 1:
            raise ValueError(
                "train.twin and retrain.rounds > 1: a later round begins with the student of the round before, so no "
                "single plain training is its equal; set retrain.rounds=1 or train.twin=false"
            )
        return self

    @property
    def asks(self) -> Literal["", "student", "teacher", "endpoint"]:
        """Who is asked, within a run, the prompts that have too few verified traces (`teach.enough`); empty: nobody."""
        teach = self.teach
        if self.pipeline != "distill" or teach.enough == "never":
            return ""
        if teach.source == "student":
            return "student"
        return "teacher" if teach.model else "endpoint" if teach.engine.name == "openai" else ""

    @property
    def asking(self) -> EngineConfig:
        """What runs whoever is asked, within a run."""
        return self.evaluate.engine if self.asks == "student" else self.teach.engine

    @property
    def judged_by_teacher(self) -> bool:
        """Whether a teacher's weights are there to judge what a student wrote."""
        teach = self.teach
        return teach.source == "teacher" and bool(teach.model) and teach.engine.name != "openai"

    def to_json(self) -> str:
        """The resolved configuration, stable and on one line (a pipeline parameter)."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)
