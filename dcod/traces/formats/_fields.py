"""What several formats share: fields read with their types checked, and chat turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dcod.grading import thoughts
from dcod.grading.boxes import boxed
from dcod.traces import columns, templates
from dcod.traces.chunks import ChunkError, Spoken, is_chunked, spoken
from dcod.traces.formats._beside import REASONING as REASONING
from dcod.traces.formats._beside import check_calls, reasoning, with_reasoning
from dcod.traces.formats._marks import WEIGHTS, check_row, is_taught, until_taught
from dcod.traces.formats._roles import ROLES, role_of
from dcod.traces.prompts import prompt_for
from dcod.traces.refusals import TEXT, RowError
from dcod.traces.schema import Message, Trace

RESPONSES = ("full_response", "response")
GENERATIONS = ("generation", "generated_solution")
SYSTEMS = ("system", "system_prompt", "system_message", "developer", "sys_prompt", "system_instruction")
TEACHERS = (
    "teacher", "teacher_model", "response_model", "answer_model", "generation_model", "generator_model", "model",
    "model_name", "generator", "model_id", "generated_by", "llm", "model_used", "engine_model",
)  # fmt: skip
SAMPLED = ("outputs", "choices", "reasoning_content")  # fields by which an engine's own output is known
GOLDS = ("gold", "expected_answer", "ground_truth", "answer")
MORE_GOLDS = (
    "reference_answer", "final_answer", "correct_answer", "gold_answer", "ground_truth_answer", "target", "reference",
    "gts", "gt", "answer_key", "true_answer",
)  # fmt: skip
COMMON = {
    "teacher": TEACHERS, "temperature": ("temperature",), "top_p": ("top_p",), "attempts": ("attempts",),
    "licence": ("licence", "license"),
}  # fmt: skip
NAME = 1000  # characters of a name: the teacher's, the licence's
_NUMBER = 100  # characters of a number that is written as text
_SYSTEMS, _REASONING, _TEACHERS = frozenset(SYSTEMS), frozenset(REASONING), frozenset(TEACHERS)
_NAMES = ("teacher", "model", "model_name")  # that hold nothing else


def has_text(row: dict[str, Any], *keys: str) -> bool:
    """Whether all of these fields are there as text, be it in chunks."""
    for key in keys:
        value = row.get(key)
        if not (isinstance(value, str) or is_chunked(value)):
            return False
    return True


def has_turns(value: Any) -> bool:
    """Whether a value looks like a chat: a list of mappings."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value) and not is_chunked(value)


def first_key(row: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of some fields that holds anything; of those that are all empty, the first that is there."""
    there = [key for key in keys if row.get(key) is not None]
    return next((key for key in there if row[key] not in ("", [])), there[0] if there else None)


def text(row: dict[str, Any], *keys: str) -> str:
    """The first of some fields that is there, as text; its thought, where chunks tell them apart, in think tags.

    Raises:
        RowError: none is there, or it is not text.
    """
    key = first_key(row, keys)
    if key is None:
        raise RowError("bad_field", f"{' or '.join(keys)}: missing")
    if isinstance(row[key], list) and len(row[key]) > 1 and all(isinstance(part, str) for part in row[key]):
        raise RowError(
            "ambiguous_format",
            f"{key}: {len(row[key])} texts, several or one in parts? A mapping says which: {key}[*] is several",
        )
    try:
        return _bounded(spoken(row[key]).tagged(), key)
    except ChunkError as error:
        raise RowError("bad_field", f"{key}: {error}") from None


def _bounded(value: str, what: str, most: int = TEXT, code: str = "too_long") -> str:
    if len(value) > most:
        raise RowError(code, f"{what}: {len(value)} characters, at most {most} are read")
    return value


def name(row: dict[str, Any], *keys: str) -> str | None:
    """As :func:`optional_text`, of a name or digest.

    Raises:
        RowError: it is no text, or too long for a name.
    """
    said = optional_text(row, *keys)
    return said and _bounded(said, keys[0], NAME, "bad_field")


def optional_text(row: dict[str, Any], *keys: str) -> str | None:
    """As :func:`text`; None where no such field is there."""
    return text(row, *keys) if first_key(row, keys) else None


def number(row: dict[str, Any], key: str) -> float | None:
    """A number, also one written as text; None where the field is not there.

    Raises:
        RowError: it is no finite number.
    """
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, str):
        _bounded(value, key, _NUMBER, "bad_field")
    try:
        parsed = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        parsed = math.nan
    if not math.isfinite(parsed):
        raise RowError("bad_field", f"{key}: expected a number, got {value!r:.40}")
    return parsed


def count(row: dict[str, Any], key: str) -> int | None:
    """A whole number above 0; None where the field is not there.

    Raises:
        RowError: it is something else.
    """
    value = row.get(key)
    if value is not None and (type(value) is not int or not 1 <= value < 2**31):
        raise RowError("bad_field", f"{key}: expected a whole number above 0, got {value!r:.40}")
    return value


def final_answer(row: dict[str, Any], keys: Sequence[str] = GOLDS) -> str | None:
    """The reference answer from the first of some fields: as written, or what stands behind ``####``.

    Raises:
        RowError: it is neither text nor a number.
    """
    key = gold_key(row, keys)
    if key is None:
        return None
    value = row[key]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if columns.is_none(value):
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise RowError("bad_gold", f"{key}: expected one answer as text or a number, got {value!r:.80}")
    said = _bounded(str(value), key)
    return after_hashes(said) or said.strip() or None


def gold_key(row: Mapping[str, Any], keys: Sequence[str] = GOLDS) -> str | None:
    """The column of the reference answer: the first of some that is there, else another that holds one value."""
    key = first_key(row, keys)
    if key is not None:
        return key
    for other in MORE_GOLDS if keys else ():
        value = row.get(other)
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return other
    return None


def after_hashes(solution: str) -> str | None:
    """What a solution in the manner of GSM8K says behind its last ``####``."""
    _, mark, tail = solution.rpartition("####")
    lines = tail.strip().splitlines()
    return lines[0].strip() if mark and lines else None


def last_box(solution: str) -> str | None:
    r"""The last ``\boxed`` of a solution with anything in it."""
    boxes = [answer for answer in boxed(solution) if answer]
    return boxes[-1] if boxes else None


def make(
    prompt: list[Message], completion: str, gold: str | None, row: dict[str, Any], *, verbatim: bool = False
) -> Trace:
    """A trace, with what most formats know beside it: system prompt, thought, teacher, sampler, attempts, licence.

    Args:
        prompt: as the row has it.
        completion: likewise.
        gold: the reference answer.
        row: where the rest stands.
        verbatim: prompt and completion stay as they are: tokens were recorded, or a human wrote them.

    Raises:
        RowError: a field has a wrong type, or the row is marked not to be trained on.
    """
    check_row(row)
    if not verbatim:
        prompt, completion = with_system(prompt, row), with_thought(completion, row)
    said = first_key(row, (*GOLDS, *MORE_GOLDS)) if gold is None else None
    return Trace(
        prompt=prompt,
        completion=completion,
        gold=gold,
        teacher=_teacher(row),
        temperature=number(row, "temperature"),
        top_p=number(row, "top_p"),
        attempts=count(row, "attempts"),
        licence=name(row, "licence", "license"),
        no_gold=f"{said}: {row[said]!s:.40}" if said and columns.is_none(row[said]) and row[said] != "" else "",
        weight=weight(row),
    )


def weight(row: dict[str, Any]) -> float | None:
    """The weight of a row, or of the turn that is taught, above 0; a weight of 0 has taken it out before."""
    chats = [row[key] for key in ("messages", "conversations", "completion") if has_turns(row.get(key))]
    said = [t for chat in chats for t in chat if role_of(t, "role", "from") == "assistant"]
    for holder in (row, *[turn for turn in said if is_taught(turn)][-1:]):
        key = first_key(holder, WEIGHTS)
        if key and not isinstance(holder[key], bool):
            if (value := number(holder, key) or 0.0) <= 0:
                raise RowError("bad_field", f"{key}: expected a number above 0, got {value!r:.40}")
            return value
    return None


def _teacher(row: dict[str, Any]) -> str | None:
    """The teacher's name, by what says so most plainly; of names that only some sets use, where it is a short text."""
    for key in () if _TEACHERS.isdisjoint(row) else TEACHERS:
        one = row.get(key)
        if one is not None and (key in _NAMES or (isinstance(one, str) and 0 < len(one) <= NAME)):
            return name(row, key)
    return None


def with_system(prompt: list[Message], row: Mapping[str, Any]) -> list[Message]:
    """A prompt behind the system prompt that a column of its own holds, unless it has that.

    Raises:
        RowError: it has another one, or the column holds no text.
    """
    if _SYSTEMS.isdisjoint(row):
        return prompt
    key = next((key for key in SYSTEMS if row.get(key)), "")
    said = text(dict(row), key) if key else ""
    if not said.strip():
        return prompt
    has = [columns.flat(message["content"]) for message in prompt if message["role"] == "system"]
    if has and not any(columns.flat(said) in one or one in columns.flat(said) for one in has):
        raise RowError("ambiguous_format", f"{key}: another system prompt than the chat's own; a mapping says which")
    return prompt if has else [{"role": "system", "content": said}, *prompt]


def with_thought(completion: str, row: Mapping[str, Any]) -> str:
    """A completion behind the thought that a column of its own holds, unless it says it itself.

    Raises:
        RowError: it says another one.
    """
    thought = thought_of(row)
    if not thought or columns.flat(thought) in columns.flat(completion):
        return completion
    if thoughts.marks(completion):
        raise RowError("ambiguous_format", "a thought stands beside a completion with another; a mapping says which")
    return Spoken(completion, thought).tagged()


def thought_of(row: Mapping[str, Any]) -> str:
    """The thought in a column of a row; empty for none. A word such as `on` is a setting, no thought."""
    if _REASONING.isdisjoint(row):
        return ""
    said = (value[0] if type(value) is list and len(value) == 1 else value for value in map(row.get, REASONING))
    thought = next((value for value in said if isinstance(value, str) and value.strip()), "")
    return _bounded(thought, "thought") if len(thought.split()) > 1 else ""


def asked(prompt: str) -> tuple[list[Message], str]:
    """A text prompt as messages, taken out of its chat template; and the tag of a thought that the template opened.

    Raises:
        RowError: a turn has an unknown role.
    """
    try:
        messages = templates.apart(prompt)
    except templates.RoleError as error:
        raise RowError("bad_messages", str(error)) from None
    return templates.opened(messages) if messages is not None else ([{"role": "user", "content": prompt}], "")


def goes_on(opening: str, completion: str) -> str:
    """A completion with the tag that its prompt had opened for it."""
    if not opening or completion.lstrip().startswith(opening):
        return completion
    return f"{opening}\n{completion.lstrip()}"


def each(take: Callable[[Any], Trace], parts: Iterable[Any]) -> list[Trace | RowError]:
    """The traces of several parts of a row; in place of one that cannot be, why."""
    taken = list[Trace | RowError]()
    for part in parts:
        try:
            taken.append(take(part))
        except RowError as error:
            taken.append(error)
    return taken


def ask(kind: str, problem: str) -> list[Message]:
    """The prompt that evaluation would use for a problem.

    Raises:
        RowError: there is no problem.
    """
    if not problem.strip():
        raise RowError("empty_prompt", "the problem is empty")
    return prompt_for(kind, problem)


def turns(value: Any, role_key: str = "role", content_key: str = "content") -> list[Message]:
    """Chat messages with their roles named as ours, up to the last one that is taught where the last is not.

    Raises:
        RowError: a turn is broken, or its role is unknown.
    """
    if not has_turns(value):
        raise RowError("bad_messages", f"expected a list of messages, got {type(value).__name__}")
    roles = [role_of(turn, role_key) for turn in value]
    value = until_taught(value, [role == "assistant" for role in roles])
    out = []
    for index, turn in enumerate(value):
        role = roles[index]
        if not role:
            known, said = ", ".join(ROLES), turn.get(role_key)
            raise RowError("bad_messages", f"message {index}: {role_key} {said!r:.80} is unknown; known: {known}")
        check_calls(turn, f"message {index}: ")
        last = index == len(value) - 1
        thought = reasoning(turn) if last else ""
        said = Spoken("") if thought and turn.get(content_key) is None else _content(turn.get(content_key), index)
        if thought and said.thought and columns.flat(thought) != columns.flat(said.thought):
            raise RowError("bad_messages", f"message {index}: its thought stands there twice, in a field and in chunks")
        content = with_reasoning(turn, said.text) if thought else said.tagged() if last else said.text
        out.append({"role": role, "content": content})
    return out


def split_chat(messages: list[Message]) -> tuple[list[Message], str]:
    """A chat as prompt and completion: the last message, from the assistant, answers all before it.

    Raises:
        RowError: the chat does not end with a user's message and an answer.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise RowError("no_completion", "the last message is not the assistant's")
    prompt = messages[:-1]
    check_prompt(prompt)
    return prompt, messages[-1]["content"]


def check_prompt(prompt: list[Message]) -> None:
    """Refuses a prompt that does not end with something a user says.

    Raises:
        RowError: as said.
    """
    if not prompt or prompt[-1]["role"] != "user":
        raise RowError("bad_messages", "the message before the completion is not the user's")
    if not prompt[-1]["content"].strip():
        raise RowError("empty_prompt", "the user's message is empty")
    said = prompt[-1]["content"]
    if len(said) <= _NUMBER and columns.is_none(said) and all(turn["role"] == "system" for turn in prompt[:-1]):
        raise RowError("empty_prompt", f"the user's message says only {said!r}: it stands for one that is missing")


def _content(value: Any, index: int) -> Spoken:
    try:
        said = spoken(value)
    except ChunkError as error:
        raise RowError("bad_messages", f"message {index}: its content is not text: {error}") from None
    _bounded(said.tagged(), f"message {index}")
    return said
