"""A message's content in chunks, a list of typed parts as the APIs of OpenAI, Anthropic, Mistral, Gemini and Bedrock
write them: what of it is text, and what a thought. What is neither, such as a tool call or a picture, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TEXTS = ("text", "output_text", "input_text")
_THOUGHTS = ("thinking", "reasoning", "reasoning_text", "thought", "reasoning_content")
_BLOCKS = ("thinking_blocks", "reasoning_details")  # LiteLLM's and OpenRouter's, beside a message's text
_WITHIN = ("provider_specific_fields", "additional_kwargs", "model_extra")  # what clients put other fields into
_ENDS = 400  # characters at either end of a text that may be a printed list
_KINDS = "|".join(
    (*_TEXTS, *_THOUGHTS, "refusal", "tool_use", "tool_call", "tool_result", "function", "image", "image_url")
)
_TYPED = re.compile(rf"""['"]type['"]\s*:\s*['"](?:{_KINDS})['"]""")
_HIDDEN = re.compile("redacted|encrypted|summary")
_OBJECTS = re.compile(r"\A\[(?:\w+\.)*(?:\w*Block|\w*Chunk|ResponseOutput\w+|Content\w*|Part)\(")
_OBJECT = re.compile(  # of a client or an engine, alone or in a list
    r"\A\[?(?:\w{1,40}\.){0,8}\w{0,40}(?:Message|Response|Completion|Output|Choices?|Generation)\w{0,40}"
    r"\((?:content|id|role|text|index|choices|request_id|outputs?|message|generations?|candidates|finish_reason)="
    r"|\Acontent=(['\"]).*\1 (?:additional_kwargs|response_metadata)=|\A<[\w.]+ object at 0x[0-9a-f]+>\Z",
    re.DOTALL,
)


class ChunkError(Exception):
    """Content that is no text."""


@dataclass(frozen=True)
class Spoken:
    """What a content says.

    Attributes:
        text: the text, its parts put together as they are.
        thought: what was thought before it; empty for nothing.
    """

    text: str
    thought: str = ""

    def tagged(self) -> str:
        """The text behind its thought, in think tags."""
        return f"<think>\n{self.thought.strip()}\n</think>\n\n{self.text}" if self.thought.strip() else self.text


def is_chunked(value: Any) -> bool:
    """Whether a value is a list of parts, not of a chat's turns."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) or _is_part(one) for one in value)


def spoken(value: Any) -> Spoken:
    """What a content says, be it text or parts.

    Raises:
        ChunkError: it is neither, a part is no text, a thought comes behind the text, or it is the print of a list.
    """
    if isinstance(value, str):
        if is_printed(value):
            raise ChunkError(f"a list or an object that was printed as text: {value[:60]!r}; record it as JSON")
        return Spoken(value)
    if not isinstance(value, list):
        raise ChunkError(f"expected text, got {type(value).__name__}")
    texts, thoughts = list[str](), list[str]()
    for part in value:
        thought, text = _part(part)
        if thought and any(map(str.strip, texts)):
            raise ChunkError("a thought behind a part of the text")
        thoughts += [thought] if thought else []
        texts.append(text)
    return Spoken("".join(texts), "\n\n".join(thoughts))


def said_by(message: Mapping[str, Any]) -> tuple[str, str]:
    """The text of an endpoint's message, its thought in front in think tags; and why it has none, if it is no text."""
    try:
        said = spoken(message.get("content") or "")
        apart = spoken(message.get("reasoning_content") or message.get("reasoning") or "")
    except ChunkError as error:
        return "", str(error)
    if not said.text and (message.get("tool_calls") or message.get("refusal")):
        return "", "a tool call, no text" if message.get("tool_calls") else f"refused: {message['refusal']}"
    return Spoken(said.text, apart.text or said.thought).tagged(), ""


def thought_beside(message: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The thought that stands beside a message's text: the first that says anything; empty for none.

    Args:
        message: or an output, a choice, whatever holds the text.
        keys: names of a thought.

    Raises:
        ChunkError: it is no text, hidden, or only summed up.
    """
    for key in keys:
        if said := _thought(message.get(key)):
            return said
    for key in _BLOCKS:
        blocks = message.get(key)
        listed = [one for one in blocks if isinstance(one, dict)] if isinstance(blocks, list) else []
        if said := "\n\n".join(filter(None, (one.get("thinking") or one.get("text") for one in listed))):
            return said
        if hidden := next((kind for one in listed if _HIDDEN.search(kind := str(one.get("type")))), ""):
            raise ChunkError(f"{key}: a part of type {hidden!r} in place of the thought")
    inner = (message[key] for key in _WITHIN if isinstance(message.get(key), dict))
    return next((said for one in inner if (said := thought_beside(one, keys))), "")


def _thought(value: Any) -> str:
    """A thought, be it text, steps or parts; settings of that name are none."""
    if isinstance(value, dict):
        return next((said for key in (*_THOUGHTS, "text", "content") if (said := _thought(value.get(key)))), "")
    if not value or value is True or isinstance(value, (int, float)):
        return ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "\n".join(value).strip()
    parts = spoken(value)
    return (parts.thought if parts.thought.strip() else parts.text).strip()


def is_printed(text: str) -> bool:
    """Whether a text is what printing a list of parts gives, or an object of a client."""
    ends = text.strip()
    if ends[-1:] in (")", "]", "}", ">", "'") and _OBJECT.match(ends):
        return True
    if not ends.endswith("]"):
        return False
    if _OBJECTS.match(ends):
        return True
    return bool(re.match(r"\[\s*\{", ends) and _TYPED.search(f"{ends[:_ENDS]}\n{ends[-_ENDS:]}"))


def _is_part(value: Any) -> bool:
    if not isinstance(value, dict) or "role" in value or "from" in value:
        return False
    return isinstance(value.get("type"), str) or "text" in value or "reasoningContent" in value


def _part(part: Any) -> tuple[str, str]:
    """The thought and the text of a part, one of them empty."""
    if isinstance(part, str):
        return "", part
    if not isinstance(part, dict):
        raise ChunkError(f"a part that is {type(part).__name__}, not text")
    filled = {key: value for key, value in part.items() if value is not None}  # Parquet fills gaps with nulls
    kind = filled.get("type", "reasoning" if "reasoningContent" in filled else "text" if "text" in filled else "")
    if kind in _THOUGHTS or (kind in _TEXTS and filled.get("thought") is True):
        keys = (kind, "thinking", "reasoningContent", "text", "content", "reasoning")
        first = next((filled[key] for key in keys if key in filled and filled[key] is not True), None)
        if first is None and filled.get("summary"):
            raise ChunkError("a summary in place of the thought")
        return _plain(first if first is not None else "", kind), ""
    if kind not in _TEXTS:
        known = f"of type {kind!r}" if kind else f"with the fields {', '.join(map(str, filled))[:80] or 'none'}"
        said = filled.get("refusal")
        raise ChunkError(f"a part {known} is no text" + (f": {said:.80}" if isinstance(said, str) else ""))
    return "", _plain(filled.get("text", filled.get("content")), kind)


def _plain(value: Any, kind: str) -> str:
    """The text of a part, which some wrap once more."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        inner = [value[key] for key in ("value", "text", "reasoningText") if value.get(key) is not None]
        if len(inner) == 1:
            return _plain(inner[0], kind)
    if isinstance(value, list) and all(isinstance(one, (str, dict)) for one in value):
        return "".join(one if isinstance(one, str) else _plain(one.get("text"), kind) for one in value)
    raise ChunkError(f"a part of type {kind!r} without text")
