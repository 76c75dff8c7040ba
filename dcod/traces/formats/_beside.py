"""What stands beside the text of a message, an output or a choice: its thought, and what no text can say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcod.traces import columns
from dcod.traces.chunks import ChunkError, Spoken, thought_beside
from dcod.traces.refusals import TEXT, RowError

# Names of a thought beside its answer: DeepSeek's and vLLM's first; templates drop it from earlier turns.
REASONING = (
    "reasoning_content", "reasoning", "thinking", "thought", "thoughts", "think", "reasoning_text", "thinking_content",
)  # fmt: skip


def reasoning(message: Mapping[str, Any]) -> str:
    """The thought that stands beside a message's text; empty for none.

    Raises:
        RowError: it is not text, or too long.
    """
    try:
        thought = thought_beside(message, REASONING)
    except ChunkError as error:
        raise RowError("bad_field", f"the thought beside the text: {error}") from None
    if len(thought) > TEXT:
        raise RowError("too_long", f"thought: {len(thought)} characters, at most {TEXT} are read")
    return thought


def with_reasoning(message: Mapping[str, Any], content: str) -> str:
    """A message's text behind its separately kept reasoning, as reasoning models write them: in think tags."""
    thought = reasoning(message)
    known = thought and columns.flat(thought) in columns.flat(content)
    return content if known else Spoken(content, thought).tagged()


def check_calls(message: Mapping[str, Any], what: str = "") -> None:
    """Refuses a message that calls tools: its text is not all of it.

    Raises:
        RowError: ``bad_messages``.
    """
    if message.get("tool_calls") or message.get("function_call"):
        raise RowError("bad_messages", f"{what}tool calls cannot be taught")
