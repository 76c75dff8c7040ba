"""Prompts that were saved as a chat template had written them: taken apart into turns again.

A family is known by what opens a turn. The text in front of the first turn is a system prompt, as DeepSeek writes it.
Where special tokens were left out of a text (TRL logs it so), the roles stand alone.
"""

from __future__ import annotations

import re
from itertools import product

from dcod.grading import thoughts
from dcod.traces.schema import Message

_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "model": "assistant", "chatbot": "assistant", "bot": "assistant", "gpt": "assistant", "ai": "assistant",
    "prompter": "user",
}  # fmt: skip
_ROLE = r"(system|developer|user|human|prompter|assistant|model|chatbot|bot)"
_OPENS = (  # a family each; the group is the role
    re.compile(r"<\|im_start\|>(\w{1,20})[^\S\n]*\n"),
    re.compile(r"<\|(?:start_header_id|header_start)\|>(\w{1,20})<\|(?:end_header_id|header_end)\|>\s*"),
    re.compile(r"<\|start\|>(\w{1,20})(?:<\|channel\|>\w+)?(?:<\|message\|>|\Z)"),
    re.compile(r"<\|start_of_role\|>(\w{1,20})<\|end_of_role\|>"),
    re.compile(rf"<\|START_OF_TURN_TOKEN\|><\|{_ROLE}_TOKEN\|>", re.I),
    re.compile(rf"<(?:start_of_turn|\|turn)>{_ROLE}\s*\n", re.I),
    re.compile(rf"<[|｜](?:hy_)?{_ROLE}[|｜]>:?\n?", re.I),
    re.compile(r"<extra_id_[01]>(System|User|Assistant)\n", re.I),
    re.compile(r"<SPECIAL_1[012]>(System|User|Assistant)\n"),
    re.compile(rf"<\|im_{_ROLE}\|>\w{{1,20}}<\|im_middle\|>"),
    re.compile(rf"<\|{_ROLE}_start\|>"),
    re.compile(rf"\[\|{_ROLE}\|\]"),
    re.compile(rf"<seed:bos>{_ROLE}\n"),
    re.compile(rf"<role>{_ROLE}</role>", re.I),
)
_SYSTEM = (("<<SYS>>", "<</SYS>>"), ("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"))
_WORDED = (  # what opens the user's turn, and the opening of the assistant's at the end
    (re.compile(r"(?:\A|\s)USER:"), ("ASSISTANT:",)),
    (re.compile(r"(?:\A|\n\n)Human:"), ("\n\nAssistant:",)),
    (
        re.compile(r"(?:\A|\n)### (?:Instruction|User|Human):[^\S\n]*\n"),
        ("\n### Response:", "\n### Assistant:", "\n### Output:", "\n### Response: Let's think step by step."),
    ),
    (re.compile(r"(?:\A|\n)User:"), ("\nAssistant:",)),
    (re.compile(r"(?<=\. )User:"), (" Assistant:",)),  # of R1-Zero
)
_INPUT = re.compile(r"(?<!\n)\n+### Input:[^\S\n]*\n")
_ALONE = (  # the roles where special tokens were left out: ChatML's and Gemma's, and Llama 3's right behind a text
    re.compile(r"^(system|user|assistant)$\n?", re.M),
    re.compile(r"^(user|model)$\n?", re.M),
    re.compile(r"(?:\A|(?<=[\S\n]))(system|user|assistant)\n\n"),
)
_FIRST = ("system\n", "user\n")
_HEAD = 200  # characters in front of what is asked that may open a turn
_BEGINS = re.compile(
    r"\A(?:<s>|<bos>|<\|begin_of_text\|>|<[|｜]begin[▁_]of[▁_]sentence[|｜]>|<\|startoftext\|>|<BOS_TOKEN>|\[gMASK\]<sop>|\s)+"
)
_ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<|eot|>", "<|eom_id|>", "<|end|>", "<|end_of_text|>", "<|endoftext|>"),
    *("<end_of_turn>", "<turn|>", "<|END_OF_TURN_TOKEN|>", "</s>", "<|return|>", "[|endofturn|]", "<seed:eos>"),
    *("<|system_end|>", "<|user_end|>", "<|assistant_end|>", "<|role_end|>"),
    *(f"<{a}end{b}of{c}sentence{d}>" for a, b, c, d in product("|｜", "▁_", "▁_", "|｜")),
)
_MARKS = re.compile(  # a plain first character makes it fast
    r"[<\[](?:(?<=<)(?i:\|im_(?:start|end|middle)\||\|(?:start|end)_header_id\||\|header_(?:start|end)\||\|eot(?:_id)?\||"
    r"\|begin_of_text\||(?:start|end)_of_turn|\|turn|\|(?:START|END)_OF_TURN_TOKEN\||"
    r"[|｜](?:hy_)?(?:system|user|assistant|prompter|bot)(?:_start|_end)?[|｜]|[|｜](?:begin|end)[▁_]of[▁_]sentence[|｜]|"
    r"\|(?:start|end)_of_role\||</?SYS>|\|start\|>(?:system|developer|user|assistant)|seed:[be]os|"
    r"\|(?:vision_start|image_pad|video_pad|audio_start|image|audio)\||"
    r"(?:extra_id_[01]|SPECIAL_1[012])>(?:system|user|assistant)|role>(?:system|human|user|assistant)</role)>?|"
    r"(?<=\[)(?i:/?INST\]|\|(?:system|user|assistant|endofturn)\|\]))"
)


class RoleError(ValueError):
    """A turn of nobody who is known."""


def mark(text: str) -> str:
    """The first mark of a chat template in a text; empty for none."""
    match = _MARKS.search(text) if "<" in text or "[" in text else None
    if match:
        return match.group()
    if _worded(text):
        return "the roles in words"
    return "the roles alone on lines" if _bare(text) else _thinks(text).strip()


def apart(text: str) -> list[Message] | None:
    """The turns of a templated prompt, without those that are empty; None for any other text.

    What stands behind the last opening of the assistant's turn is a message of its own: a prefill.

    Raises:
        RoleError: a turn's role is unknown.
    """
    if not mark(text):
        return None
    for opening in _OPENS:
        openings = list(opening.finditer(text))
        if openings:
            ends = [*(match.start() for match in openings[1:]), len(text)]
            turns = [(_role(match[1]), text[match.end() : end]) for match, end in zip(openings, ends, strict=True)]
            asked = "user" if turns[0][0] == "assistant" else "system"  # whose turn had no opening
            turns = [(asked, _BEGINS.sub("", text[: openings[0].start()])), *turns]
            return [{"role": role, "content": said} for role, part in turns if (said := without_end(part).strip())]
    alone = _bare(text)
    worded = alone or _worded(text)
    if alone or (worded and not any(word in worded[1][1] for word in ("ASSISTANT:", "Assistant:", "### Response"))):
        return [{"role": _role(role), "content": said.strip()} for role, said in worded if said.strip()]
    tag = _thinks(text) if "[INST]" not in text else ""
    if tag:
        return [{"role": "user", "content": text.removesuffix(tag)}, {"role": "assistant", "content": tag.strip()}]
    return _of_inst(text)


def transcript(text: str, asked: str) -> list[Message] | None:
    """The turns of a text that begins as a whole chat does that a template wrote, the answer included; else None.

    Args:
        text: perhaps such a chat.
        asked: what its user says, where the template has words in front.

    Raises:
        RoleError: a turn's role is unknown.
    """
    begin = _BEGINS.match(text)
    rest = text[begin.end() :] if begin else text
    if any(match and match[1].lower() not in ("assistant", "model") for match in (o.match(rest) for o in _OPENS)):
        return apart(rest)
    if rest.startswith(("[INST]", "[SYSTEM_PROMPT]")):
        return _of_inst(rest)
    if rest.startswith(_FIRST):
        return [{"role": _role(role), "content": said.strip()} for role, said in _alone(rest) if said.strip()] or None
    place = rest.find(next(iter(asked.strip().splitlines()), "\0"))
    head = rest[: max(place, 0)]
    if any(match.end() >= len(head.rstrip()) for opening in _OPENS for match in opening.finditer(head[-_HEAD:])):
        return apart(rest)
    for closing in (one for opening, closings in _WORDED if opening.search(head) for one in closings):
        front, mark, said = rest.partition(closing)
        if mark and _worded(front + mark):
            return [*(apart(front + mark) or ()), {"role": "assistant", "content": said.strip()}]
    return None


def _thinks(text: str) -> str:
    """The tag at the end of a prompt with which a template opened a thought, where no blank stands before it."""
    tag = thoughts.opened(text) if text.rstrip()[-1:] in (">", "]", "▷") else ""
    before = text.removesuffix(tag) if tag else ""
    return tag if before.strip() and before != text and before[-1] not in " \t" else ""


def _worded(text: str) -> list[tuple[str, str]]:
    """The turns where roles are words, as Vicuna, Claude's first API and Alpaca have them; none of any other text."""
    tag = thoughts.opened(text) if text.rstrip().endswith(">") else ""
    said, begin = text.removesuffix(tag).rstrip(), len(text) - len(text.lstrip())
    for opening, closings in _WORDED:
        closing = next((mark for mark in closings if said.endswith(mark)), "")
        match = opening.search(text, begin) if closing else None
        if match and match.end() <= len(said) - len(closing):
            asked = _INPUT.sub("\n\n", said[match.end() : len(said) - len(closing)])
            return [("system", text[: match.start()]), ("user", asked), ("assistant", tag)]
    return []


def _bare(text: str) -> list[tuple[str, str]]:
    """The turns where the roles stand alone on lines of their own; none of any other text."""
    if not text.startswith(_FIRST):
        return []
    ends = text.rstrip().endswith(("\nassistant", "\nmodel")) and text.endswith(("assistant", "\n"))
    return _alone(text) or ([("turns without order", text)] if ends else [])


def _alone(text: str) -> list[tuple[str, str]]:
    """The turns by the roles between them; none where these do not take turns."""
    for roles in _ALONE:
        found = list(roles.finditer(text if text.endswith("\n") else f"{text}\n\n"))
        if not found or found[0].start():
            continue
        ends = [*(match.start() for match in found[1:]), len(text)]
        turns = [(match[1], text[match.end() : end]) for match, end in zip(found, ends, strict=True)]
        speakers = [role for role, _ in turns][turns[0][0] == "system" :]
        if speakers and speakers == ["user", "model" if "model" in speakers else "assistant"] * (len(speakers) // 2):
            return turns
    return []


def without_end(text: str) -> str:
    """A turn without the white space and the ends of turns at its end; in time linear in them."""
    at = len(text)
    while at:
        if text[at - 1].isspace():
            at -= 1
            continue
        end = next((mark for mark in _ENDS if text.endswith(mark, 0, at)), "")
        if not end:
            break
        at -= len(end)
    return text[:at]


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
    systems, rest = list[str](), text
    for opens, closes in _SYSTEM:
        inside, rest = _taken_out(rest, opens, closes)
        systems += inside
    turns = [("system", "\n\n".join(part.strip() for part in systems if part.strip()))]
    for piece in rest.split("[INST]")[1:]:
        asked, _, said = piece.partition("[/INST]")
        turns += [("user", asked), ("assistant", without_end(said))]
    return [{"role": role, "content": part.strip()} for role, part in turns if part.strip()]


def _taken_out(text: str, opens: str, closes: str) -> tuple[list[str], str]:
    """What stands between two marks, and the text without it."""
    inside, rest, at = list[str](), list[str](), 0
    while (begin := text.find(opens, at)) >= 0 and (end := text.find(closes, begin)) >= 0:
        inside.append(text[begin + len(opens) : end])
        rest.append(text[at:begin])
        at = end + len(closes)
    return inside, "".join(rest) + text[at:]
