"""The sections ``engine`` and ``teach`` of the configuration: what runs a model, and how a teacher is asked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dcod.config.base import Few, Instruction, Natural, Positive, Section

Price = Annotated[float, Field(ge=0.0)]


class EngineConfig(Section):
    """What runs the model, in an evaluation or as the teacher."""

    name: Literal["transformers", "vllm", "openai"] = Field(
        "transformers", description="`vllm` needs its own image; `openai` is a server with /v1/completions."
    )
    endpoint: str = Field(
        "",
        description="`openai` only, such as http://127.0.0.1:8000/v1; key: OPENAI_API_KEY.",
        examples=["http://127.0.0.1:8000/v1"],
    )
    model: str = Field("", description="`openai` only: the model's name on the server.", examples=["Qwen/Qwen3-8B"])
    concurrency: Few = Field(8, description="`openai` only: requests at once.")
    requests_per_minute: Positive | Literal["unlimited"] = Field(
        "unlimited", description="`openai` only: at most so many are sent a minute.", examples=[60]
    )

    @model_validator(mode="after")
    def _openai_needs_an_address(self) -> EngineConfig:
        if self.name == "openai" and not (self.endpoint.startswith(("http://", "https://")) and self.model):
            raise ValueError("engine openai needs endpoint (http://…/v1) and model, its name on the server")
        if self.name != "openai" and (self.endpoint or self.model):
            raise ValueError(f"endpoint and model are those of engine openai, not of {self.name}")
        return self


class TeachConfig(Section):
    """Prompts in, attempts of a teacher out; see docs/teach.md."""

    source: Literal["teacher", "student"] = Field(
        "teacher",
        description="Who answers; `student`: the configured one itself, run as `evaluate.engine` says, one static set.",
    )
    model: str = Field(
        "",
        description="The teacher: a hub id, a folder, s3://… or models:/…; of engine openai the model that is served, "
        "for its tokenizer. Empty with openai: a chat endpoint, text alone.",
        examples=["Qwen/Qwen3-8B"],
    )
    revision: str = Field("main", description="Of a hub model: a branch, tag or commit.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Of the teacher's weights.")
    chat_template: Literal["model", "plain"] = Field(
        "model", description="`plain` is for a teacher that has no template of its own."
    )
    system_prompt: str = Field(
        "template",
        description="As `student.system_prompt`, for the teacher. A trace does not hold it, and log-probs count only "
        "where both are the same.",
        examples=["Work step by step."],
    )
    engine: EngineConfig = EngineConfig()
    prompts: list[str] = Field(
        default_factory=list,
        description="Sources as in `ingest.sources`; of traces, the prompts and references.",
        examples=[["prompts.jsonl"]],
    )
    asks: Instruction = Field(
        "boxed", description="The instruction below a problem that is only a text; a row's own prompt stays as it is."
    )
    attempts: Few = Field(4, description="At most so many a prompt.")
    enough: Positive | Literal["never"] = Field(
        "never",
        description="Stop at a prompt with so many different correct answers. With a teacher, or `source=student`, a "
        "run of pipeline `distill` also asks the prompts for training that have fewer verified traces.",
        examples=[2],
    )
    temperature: Annotated[float, Field(gt=0.0, le=2.0)] = Field(
        1.0, description="Above 0: a greedy teacher has no distribution.", examples=[0.7]
    )
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="Sampling keeps the likeliest tokens up to this probability; 1 keeps all."
    )
    max_new_tokens: Positive = Field(1024, description="An attempt is cut here.", examples=[2048])
    logprobs: bool = Field(True, description="Record the sampler's log-probs; without them only the text is known.")
    top_k: Natural = Field(0, description="Also record the sampler's k likeliest tokens per position.", examples=[32])
    endpoint_logprobs: Literal["raw", "processed"] = Field(
        "raw",
        description="`openai` only: `processed` where the server tells them after temperature and top-p (vLLM's "
        "--logprobs-mode processed_logprobs).",
    )
    batch_size: Positive = Field(64, description="Attempts between two shards; what a kill can lose.")
    input_price: Price = Field(0.0, description="Of a million prompt tokens, for the reported cost.", examples=[0.5])
    output_price: Price = Field(0.0, description="Of a million tokens that the teacher writes.", examples=[1.5])
    work: str = Field(
        "runs/teach",
        description="Folder or s3:// prefix of the shards; a stopped run goes on from them.",
        examples=["s3://bucket/teach"],
    )

    @model_validator(mode="after")
    def _knows_its_policy(self) -> TeachConfig:
        if self.top_k and not self.logprobs:
            raise ValueError("top_k needs logprobs=true")
        if self.engine.name != "openai" or not self.logprobs:
            return self
        if not self.model:
            raise ValueError(
                "a chat endpoint gives text alone: set logprobs=false, or model to the folder of the model it serves"
            )
        if self.endpoint_logprobs == "raw" and (self.temperature, self.top_p) != (1.0, 1.0):
            raise ValueError(
                "the endpoint's log-probs are the sampler's only at temperature=1 and top_p=1; sample so, or start it "
                "with --logprobs-mode processed_logprobs and set endpoint_logprobs=processed, or set logprobs=false"
            )
        return self
