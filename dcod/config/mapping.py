"""A mapping: which columns of a row are the prompt, the completion, the thought, the reference, and so on.

Declared, never computed: paths into the row, constants, templates over columns. dcod.traces.mapping carries it out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from dcod.config.base import Instruction, Section

Scalar = str | bool | int | float


class Constant(Section):
    """The same for all rows."""

    value: str = Field(description="The text.")


class Template(Section):
    """Text with columns in it: ``{path}``; of a list ``{path|lines}``, or ``{path|letters}`` with (A), (B), …."""

    text: str = Field(description="Text with {path} in it.")


class Joined(Section):
    """Several columns, or the items of a list, behind one another; what is empty is left out."""

    join: list[str] = Field(description="Paths; stars find several items.")
    by: str = Field("\n\n", description="What stands between them.")


class Picked(Section):
    """The item of one list whose number stands at another path."""

    pick: str = Field(description="The path of a list.")
    at: str = Field(description="The path of a number, from 0.")


class Star(Section):
    """What a star of the completion's path stood for, such as a part of a column's name; perhaps by another name."""

    star: int = Field(1, ge=1, le=9, description="Which star of the path, from 1.")
    names: dict[str, str] = Field(default_factory=dict, description="Other names for what it stands for.")


Value = str | list[str] | Constant | Template | Joined | Picked | Star


class JoinConfig(Section):
    """A second file, whose row with the same id is put beside each row."""

    file: str = Field(description="A source as in `ingest.sources`.", examples=["answers.jsonl"])
    on: str = Field(description="The path of the id in the rows.", examples=["id"])
    by: str = Field(description="The path of the id in the second file.", examples=["key"])
    name: str = Field("request", description="The column that gets the second file's row.", examples=["other"])

    @model_validator(mode="before")
    @classmethod
    def _on(cls, value: Any) -> Any:
        """YAML 1.1 takes the bare word `on` for true."""
        if isinstance(value, dict) and True in value and "on" not in value:
            return {"on" if key is True else key: inner for key, inner in value.items()}
        return value


class MapConfig(Section):
    """What is what in a row. A value is a path; a list of paths is the first that is there; else see its form.

    A path is ``a.b[0].c``: keys, positions (also from the end, ``[-1]``), ``[role=user]`` for the first item with that
    value. Text that is JSON is entered like an object. ``[*]`` makes a trace of every item, and so does a star in a key
    for every column of such a name (``#`` for digits): ``r1_solution_#``. Stars of other paths stand at the same place.
    A name with other characters stands in double quotes; a question mark at the end allows that the path is missing.
    """

    messages: str = Field("", description="A chat whose last turn is the completion.")
    prompt: Value = Field("", description="Text, also in a chat template's marks, or a chat.")
    system: Value = Field("", description="A system prompt that stands apart.")
    completion: Value = Field("", description="What is taught.")
    thought: Value = Field("", description="The thought, which comes in think tags in front of the completion.")
    gold: Value = Field("", description="The reference answer, or a worked solution that ends in it.")
    teacher: Value = Field("", description="Who wrote the completion.")
    licence: Value = Field("", description="Of the text.")
    temperature: Value = Field("", description="Of the sampler.")
    top_p: Value = Field("", description="Of the sampler.")
    attempts: Value = Field("", description="Completions tried for the prompt; else how many the row holds.")
    finish_reason: Value = Field("", description="How the completion ended: `length` is refused as truncated.")
    stop_reason: Value = Field("", description="The stop string at which it ended.")
    token_ids: str = Field("", description="With `logprobs`: the completion as it was sampled.")
    logprobs: str = Field("", description="Of each token, in nats.")
    logprobs_mode: Value = Field("", description="`processed_logprobs`: after temperature and top-p.")
    tokenizer_digest: Value = Field("", description="Of the teacher's tokenizer.")
    instruction: Instruction = Field("as_is", description="As evaluation asks for an answer.")
    role: str = Field("", description="The key of a turn's role; empty: role or from.")
    content: str = Field("", description="The key of a turn's text; empty: content or value.")
    roles: dict[str, Literal["system", "user", "assistant"]] = Field(
        default_factory=dict, description="What other names of roles mean."
    )
    flags: list[str] = Field(
        default_factory=list, description="What calls a completion right or wrong; empty: by name."
    )
    where: list[dict[str, Scalar]] = Field(
        default_factory=list, description="Only traces for which all of one of these hold: path: value."
    )
    wrong: bool = Field(False, description="These are wrong traces, such as rejected ones.")
    uneven: Literal["refuse", "null"] = Field("refuse", description="Lists beside each other of different lengths.")
    join: list[JoinConfig] = Field(
        default_factory=list, description="A second file, by an id; at most one.", max_length=1
    )
    ignore: list[str] = Field(default_factory=list, description="Columns that are knowingly left out.")
    format: str = Field("", description="Without prompt and completion: the format that reads the row; empty: any.")

    @property
    def maps(self) -> bool:
        """Whether it says what the completion is; else a format does, after `join` and `ignore`."""
        return bool(self.completion or self.messages or self.thought)


class ProblemMap(Section):
    """What of a row is the problem of a benchmark of one's own, and its answer; values are those of a mapping.

    A star in the problem's path makes a problem of every item; a list of answers asks for all of them.
    """

    problem: Value = Field("problem", description="What is asked.", examples=["turns[0].content"])
    answer: Value = Field(
        "answer",
        description="The reference: an answer, a worked solution that marks it, or a list.",
        examples=["meta.final"],
    )
    id: Value = Field("", description="A name; empty: the number of the row.", examples=["uuid"])
    kind: Instruction = Field("boxed", description="How it is asked and graded; `as_is` adds no words to the problem.")
    where: list[dict[str, Scalar]] = Field(
        default_factory=list,
        description="Only rows for which all of one of these hold; path: value, or a list with it.",
        examples=[[{"source": "HMMT"}]],
    )
    absolute: float = Field(0.0, ge=0.0, description="How far a number may lie from the reference.", examples=[0.01])
    relative: float = Field(0.0, ge=0.0, description="The same as a share of it.", examples=[0.01])
    uneven: Literal["refuse", "null"] = Field("refuse", description="Lists beside each other of different lengths.")
    join: list[JoinConfig] = Field(
        default_factory=list,
        description="A second file, by an id; at most one.",
        max_length=1,
        examples=[[{"file": "answers.jsonl", "on": "id", "by": "id"}]],
    )


_OWN_QUERIES = ("hub://", "reasoning-gym://")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, (dict, MapConfig)) else value


Maps = Annotated[str | list[MapConfig], BeforeValidator(_listed)]  # a preset's name; one mapping, or several for a row


def split(source: str | SourceConfig) -> tuple[str, str]:
    """The path of a source, and the mapping in its address; the path alone, where its query is its own."""
    if isinstance(source, SourceConfig):
        return source.path, ""
    path, _, query = source.rpartition("?")
    own = not path or "=" not in query or source.startswith(_OWN_QUERIES) or Path(source).exists()
    return (source, "") if own else (path, query)


class SourceConfig(Section):
    """A source with its mapping."""

    path: str = Field(description="As in `ingest.sources`.")
    map: Maps = Field("", description="A mapping, several for one row, or the name of a preset.")
