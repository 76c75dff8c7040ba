"""The form in which a chat template takes what is said: text, or a list with one typed part.

Templates of models that see pictures often go through parts alone. Given text, they write nothing and say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "Qcontent7"
_KNOWN: WeakKeyDictionary[Any, tuple[str, frozenset[str]]] = WeakKeyDictionary()


def shaped(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Messages in the form that the chat template writes out; other roles than the known three as the user's."""
    split = _split(tokenizer)
    if not split:
        return [dict(message) for message in messages]
    known = {"user", "assistant", "system"}
    return [
        {**one, "content": _part(one["content"])}
        if (one["role"] if one["role"] in known else "user") in split
        else dict(one)
        for one in messages
    ]


def in_front(tokenizer: PreTrainedTokenizerBase, system_prompt: str) -> str | list[dict[str, str]]:
    """A system prompt in the form that the chat template writes out."""
    return _part(system_prompt) if "system" in _split(tokenizer) else system_prompt


def _part(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _split(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """The roles whose words a template writes out of typed parts, and leaves out where they are text."""
    template, known = str(tokenizer.chat_template), _KNOWN.get(tokenizer)
    if known is None or known[0] != template:
        known = _KNOWN[tokenizer] = template, _learn(tokenizer)
    return known[1]


def _learn(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    split: set[str] = set()
    for role, roles in (("user", ["user"]), ("assistant", ["user", "assistant"]), ("system", ["system", "user"])):
        said = [(one, _MARK if one == role else "7") for one in roles]
        if not _writes(tokenizer, said, split) and _writes(tokenizer, said, split | {role}):
            split.add(role)
    return frozenset(split)


def _writes(tokenizer: PreTrainedTokenizerBase, said: list[tuple[str, str]], split: set[str]) -> bool:
    messages: list[dict[str, Any]] = [
        {"role": role, "content": _part(text) if role in split else text} for role, text in said
    ]
    try:
        return _MARK in str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False))
    except Exception:  # whatever a template does; who asks it in earnest is told
        return False
