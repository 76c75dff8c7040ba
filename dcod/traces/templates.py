"""Prompts that were saved as a chat template had written them: taken apart into turns again.

A family is known by what opens a turn. The text in front of the first turn is a system prompt, as DeepSeek writes it.
Where special tokens were left out of a text (TRL logs it so), the roles stand alone on lines of their own.
"""

from __future__ import annotations

import re

from dcod.grading import thoughts
from dcod.traces.schema import Message

_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "model": "assistant", "chatbot": "assistant", "bot": "assistant", "gpt": "assistant", "ai": "assistant",
}  # fmt: skip
_ROLE = r"(system|developer|user|human|assistant|model|chatbot|bot)"
_OPENS = (  # a family each; the group is the role
    re.compile(r"<\|im_start\|>(\w{1,20})[^\S\n]*\n"),
    re.compile(r"<\|(?:start_header_id|header_start)\|>(\w{1,20})<\|(?:end_header_id|header_end)\|>\s*"),
    re.compile(r"<\|start\|>(\w{1,20})(?:<\|channel\|>\w+)?(?:<\|message\|>|\Z)"),
    re.compile(r"<\|start_of_role\|>(\w{1,20})<\|end_of_role\|>"),
    re.compile(rf"<\|START_OF_TURN_TOKEN\|><\|{_ROLE}_TOKEN\|>", re.I),
    re.compile(rf"<(?:start_of_turn|\|turn)>{_ROLE}\s*\n", re.I),
    re.compile(rf"<[|｜]{_ROLE}[|｜]>\n?", re.I),
)
_INST = re.compile(r"\[INST\](.*?)\[/INST\](.*?)(?=\[INST\]|\Z)", re.S)
_SYSTEM = re.compile(r"<<SYS>>(.*?)<</SYS>>|\[SYSTEM_PROMPT\](.*?)\[/SYSTEM_PROMPT\]", re.S)
_WORDED = (  # the system prompt, the user's turn, and the opening of the assistant's at the end
    re.compile(r"\A(?:(.*?)\s+)?USER:\s*(.*?)\s*ASSISTANT:\s*\Z", re.S),
    re.compile(r"\A(?:(.*?)\n\n)?\s*Human:\s*(.*?)\n\nAssistant:\s*\Z", re.S),
    re.compile(
        r"\A(?:(.*?)\s*\n)?### (?:Instruction|User|Human):\s*\n(.*?)\s*\n### (?:Response|Assistant):\s*\Z", re.S
    ),
)
_BARE = re.compile(r"\A(?:system\n(.*?)\n)?user\n(.*)\nassistant\s*(<think>\s*)?\Z", re.S)
_BEGINS = re.compile(
    r"\A(?:<s>|<bos>|<\|begin_of_text\|>|<[|｜]begin[▁_]of[▁_]sentence[|｜]>|<\|startoftext\|>|<BOS_TOKEN>|\[gMASK\]<sop>|\s)+"
)
_ENDS = re.compile(
    r"(?:<\|im_end\|>|<\|eot_id\|>|<\|eot\|>|<\|eom_id\|>|<\|end\|>|<\|end_of_text\|>|<\|endoftext\|>|<end_of_turn>|<turn\|>|"
    r"<\|END_OF_TURN_TOKEN\|>|<[|｜]end[▁_]of[▁_]sentence[|｜]>|</s>|<\|return\|>|\s)+\Z"
)
_MARKS = re.compile(
    r"<\|im_(?:start|end)\|>|<\|(?:start|end)_header_id\|>|<\|header_(?:start|end)\|>|<\|eot(?:_id)?\|>|"
    r"<\|begin_of_text\|>|<(?:start|end)_of_turn>|<\|turn>|<\|(?:START|END)_OF_TURN_TOKEN\|>|"
    r"<[|｜](?:system|user|assistant)[|｜]>|<[|｜](?:begin|end)[▁_]of[▁_]sentence[|｜]>|<\|(?:start|end)_of_role\|>|"
    r"\[/?INST\]|<</?SYS>>|<\|start\|>(?:system|developer|user|assistant)|<｜(?:User|Assistant)｜>",
    re.I,
)


class RoleError(ValueError):
    """A turn of nobody who is known."""


def mark(text: str) -> str:
    """The first mark of a chat template in a text; empty for none."""
    found = _MARKS.search(text) if "<" in text or "[" in text else None
    if found:
        return found.group()
    if text.rstrip().endswith(("ASSISTANT:", "Assistant:", "### Response:")) and any(p.match(text) for p in _WORDED):
        return "the roles in words"
    return "the roles alone on lines" if text.endswith(("assistant", "\n")) and _BARE.match(text) else ""


def apart(text: str) -> list[Message] | None:
    """The turns of a templated prompt, without those that are empty; None for any other text.

    What stands behind the last opening of the assistant's turn is a message of its own: a prefill.

    Raises:
        RoleError: a turn's role is unknown.
    """
    if not mark(text):
        return None
    for opening in _OPENS:
        found = list(opening.finditer(text))
        if found:
            ends = [*(match.start() for match in found[1:]), len(text)]
            turns = [("system", _BEGINS.sub("", text[: found[0].start()]))]
            turns += [(_role(match[1]), text[match.end() : end]) for match, end in zip(found, ends, strict=True)]
            return [{"role": role, "content": said} for role, part in turns if (said := _ENDS.sub("", part).strip())]
    bare = _BARE.match(text)
    if bare:
        turns = [("system", bare[1] or ""), ("user", bare[2]), ("assistant", bare[3] or "")]
        return [{"role": role, "content": said.strip()} for role, said in turns if said.strip()]
    worded = next((match for pattern in _WORDED if (match := pattern.match(text))), None)
    if worded and not any(word in worded[2] for word in ("ASSISTANT:", "Assistant:", "### Response")):
        turns = [("system", worded[1] or ""), ("user", worded[2])]
        return [{"role": role, "content": said.strip()} for role, said in turns if said.strip()]
    return _of_inst(text)


def opened(messages: list[Message]) -> tuple[list[Message], str]:
    """A prompt without a thought that its template opened for the assistant, and the tag that opens it.

    A template that closes an empty thought (as Qwen3's does where thinking is off) leaves nothing to think.
    """
    if not messages or messages[-1]["role"] != "assistant":
        return messages, ""
    said = messages[-1]["content"].strip()
    if re.fullmatch(r"<think>\s*</think>", said):
        return messages[:-1], ""
    return (messages[:-1], said) if thoughts.opened(said) == said or said == "<think>" else (messages, "")


def _role(name: str) -> str:
    if name.lower() not in _ROLES:
        raise RoleError(f"role {name!r} is unknown; known: {', '.join(_ROLES)}")
    return _ROLES[name.lower()]


def _of_inst(text: str) -> list[Message] | None:
    """Mistral's and Llama 2's way, where a system prompt may stand inside the first turn."""
    if "[INST]" not in text:
        return None
    system = "\n\n".join(part.strip() for pair in _SYSTEM.findall(text) for part in pair if part.strip())
    rest = _SYSTEM.sub("", text)
    turns = [("system", system)]
    for asked, said in _INST.findall(rest):
        turns += [("user", asked), ("assistant", _ENDS.sub("", said))]
    return [{"role": role, "content": part.strip()} for role, part in turns if part.strip()]
