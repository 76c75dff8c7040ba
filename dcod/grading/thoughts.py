r"""Thoughts in a response: one table of the tags that model families put around them, for ingestion and for grading.

DeepSeek-R1, Qwen3, GLM, Phi-4 and most others write ``<think>``; Mistral ``[THINK]``; Seed ``<seed:think>``; Kimi
``◁think▷``; OpenThoughts and Sky-T1 ``<|begin_of_thought|>``; Command A ``<|START_THINKING|>``; gpt-oss channels
(harmony); Gemma 4 ``<|channel>thought``; Granite and Apriel a sentence. Some mark the answer that follows as well.

Every pattern takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

_PLAIN = (
    "(?:(?:think(?:ing|er)?|thoughts?|reason(?:ing)?|reflection|rationale|scratchpad|monologue|analysis|cot)"
    "(?:_(?:fast(?:er)?|slow|process|content|steps|block))?)"
)
_WORD = rf"(?:ant|\w{{1,20}}[:_|-])?{_PLAIN}"  # such as seed:think
_ASSISTANT = r"(?:<\|end\|>\s*)?(?:<\|start\|>assistant[^<]{0,100})?"
_HEADER = r"[^<]{0,100}(?:<\|constrain\|>[^<]{0,100})?<\|message\|>"
_HEAD = re.compile(r"\A(?:<\|end\|>\s*)?<\|start\|>assistant[^<]*")
_LONGEST = 300  # characters of a tag
_START = r"(?-i:\A", r"\A"
_PAIRS = (  # where the closing tag is not the opening one with a stroke
    ("<\\|channel>thought", "<channel|>"), ("<ctrl94>(?:thought)?", "<ctrl95>"), (r"\[unused16\]", "[unused17]"),
    ("inner_prefix", "inner_suffix"), ("begin_of_", "end_of_"), ("START_", "END_"), ("([_:])start", r"\1end"),
    (r"<([|｜])(?=\w)", r"<\1/"), ("&lt;", "&lt;/"),
)  # fmt: skip


@dataclass(frozen=True)
class Tags:
    """How a family marks a thought: patterns, without regard to case.

    Attributes:
        open, close: around the thought.
        answer: what may open the answer behind it; ``alone`` where it ends a thought by itself, too.
        done: what ends that answer.
    """

    open: str
    close: str = ""
    answer: str = ""
    done: str = ""
    alone: bool = False


TABLE = (
    Tags(
        rf"<{_WORD}(?:\s[^<>]{{0,80}})?>", rf"</{_WORD}>",
        "<(?:response|output|solution)>", "</(?:response|output|solution)>",
    ),
    Tags(rf"&lt;{_WORD}&gt;", rf"&lt;/{_WORD}&gt;"),  # for a page
    Tags(r"<details type=\"reasoning\"[^<>]{0,100}>", "</details>"),  # Open WebUI
    Tags(r"\[think(?:ing)?\]", r"\[/think(?:ing)?\]"),
    Tags(r"\[unused16\]", r"\[unused17\]"),  # openPangu
    Tags(r"<ctrl94>(?:thought\b)?", "<ctrl95>"),
    Tags(rf"◁{_WORD}▷", rf"◁/{_WORD}▷"),
    Tags(rf"<[|｜]{_PLAIN}[|｜]>", rf"<[|｜]/{_PLAIN}[|｜]>"),
    Tags(
        rf"<\|begin_of_{_PLAIN}\|>", rf"<\|end_of_{_PLAIN}\|>",
        r"<\|begin_of_solution\|>", r"<\|end_of_solution\|>", alone=True,
    ),
    Tags(
        rf"<\|start_{_PLAIN}\|>", rf"<\|end_{_PLAIN}\|>", r"<\|start_response\|>", r"<\|end_response\|>", alone=True
    ),
    Tags(rf"<\|{_PLAIN}[_:]start\|>", rf"<\|{_PLAIN}[_:]end\|>"),
    Tags(
        rf"{_ASSISTANT}<\|channel\|>(?:analysis|commentary){_HEADER}",
        answer=rf"{_ASSISTANT}<\|channel\|>final{_HEADER}", alone=True,
    ),
    Tags(r"(?-i:\Aanalysis(?=[A-Za-z\n]))", "assistantfinal"),  # the same, of an engine that leaves special tokens out
    Tags(r"<\|channel>thought\b", r"<channel\|>"),
    Tags(r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    Tags(r"\A\s*thinking\.\.\.(?=\s*\n)", r"\.\.\.done thinking\."),  # ollama's command line
    Tags(r"\A\s*here(?:'s| is) my thought process:", r"here(?:'s| is) my response:"),
    Tags(r"\A\s*here are my reasoning steps:", r"\[begin final response\]", done=r"\[end final response\]"),
)  # fmt: skip


def _any(patterns: Iterable[str]) -> str:
    return "|".join(filter(None, patterns))


_MARK = re.compile(
    f"(?P<open>{_any(tags.open for tags in TABLE)})|(?P<close>{_any(tags.close for tags in TABLE)})"
    f"|(?P<alone>{_any(tags.answer for tags in TABLE if tags.alone)})"
    f"|(?P<answer>{_any(tags.answer for tags in TABLE if not tags.alone)})",
    re.IGNORECASE,
)
_DONE = re.compile(rf"(?:{_any(tags.done for tags in TABLE)})\s*\Z", re.IGNORECASE)
_OPENED = re.compile(rf"(?:{_any(t.open for t in TABLE if not t.open.startswith(_START))})\s*\Z", re.IGNORECASE)
_WORDS = (  # one of them is in every tag
    "think", "thought", "reason", "reflection", "rationale", "scratchpad", "monologue", "analysis", "cot", "channel",
    "inner_", "solution", "response", "[unused1", "<ctrl9",
)  # fmt: skip
_TAG = "<[◁&"  # begins of tags; a sentence that ends a thought does so only where a sentence began it


class Mark(NamedTuple):
    """A tag in a text: what it does there, and where it stands; ``answer`` is one behind a thought that has ended."""

    does: Literal["open", "close", "answer"]
    begin: int
    end: int


def marks(text: str) -> list[Mark]:
    """The tags of a text, in order; without those of other names inside a thought, such as reflections."""
    seen: list[Mark] = []
    folded = text.lower()
    if not any(word in folded for word in _WORDS):  # a tenth of the time
        return seen
    awaited: list[str] = []  # tags that would end what is open
    for match in _MARK.finditer(text):
        group, (begin, end) = match.lastgroup, match.span()
        before = seen[-1] if seen else None
        if group == "open":
            ending = closing(match.group()).lower()
            if not awaited or ending == awaited[0]:
                seen.append(Mark("open", begin, end))
            if ending not in awaited:
                awaited.append(ending)
        elif group == "close":
            ending = match.group().lower()
            if ending in awaited[1:]:
                del awaited[awaited.index(ending) :]
            elif before or (text[begin] in _TAG and ending != "</details>"):  # these have other uses
                seen.append(Mark("close", begin, end))
                awaited.clear()
        elif group == "alone":
            ends = before.does == "open" if before else text[:begin].strip()
            seen.append(Mark("close" if ends else "answer", begin, end))
            awaited.clear()
        elif before and before.does == "close" and not text[before.end : begin].strip():
            seen.append(Mark("answer", begin, end))
    return seen


def kind(text: str) -> Literal["closed", "unclosed", "unopened", ""]:
    """How a text marks its thought: not at all, closed, never closed, or closed and never opened."""
    bounds = [mark for mark in marks(text) if mark.does != "answer"]
    if not bounds:
        return ""
    if bounds[-1].does == "open":
        return "unclosed"
    return "closed" if bounds[0].does == "open" else "unopened"


def first_end(text: str) -> int | None:
    """Where the first thought ends, behind its tag; None where none does."""
    return next((mark.end for mark in marks(text) if mark.does == "close"), None)


def last_end(text: str) -> int:
    """Where the last thought ends that does, behind its tags; 0 where none does."""
    return max((mark.end for mark in marks(text) if mark.does != "open"), default=0)


def without(text: str) -> str:
    """What stands behind the thought, without the tags of an answer; empty where the thought never ends."""
    if not marks(text):
        return text
    return "" if kind(text) == "unclosed" else _DONE.sub("", text[last_end(text) :]).strip()


def tagged(text: str, opening: str = "<think>", closing: str = "</think>") -> str:
    """Text whose thought stands in tags of one kind, whatever marked it; one that was never opened is opened.

    Tags within tags go: of several that open, the first is left; of several that close, the last.
    """
    every = marks(text)
    if not every:
        return text
    bounds = [mark for mark in every if mark.does != "answer"]
    around = zip([None, *bounds], [*bounds[1:], None], strict=False)
    kept = {
        mark.begin: opening if mark.does == "open" else closing
        for mark, (before, after) in zip(bounds, around, strict=False)
        if (before is None or before.does == "close" if mark.does == "open" else after is None or after.does == "open")
    }
    parts, done = list[str](), 0
    for mark in every:
        parts += [text[done : mark.begin], kept.get(mark.begin, "")]
        done = mark.end
    whole = _DONE.sub("", "".join([*parts, text[done:]])).strip()
    return f"{opening}\n{whole.lstrip()}" if kind(text) == "unopened" else whole


def opened(prompt: str) -> str:
    """The tag with which a rendered prompt opens a thought that the response goes on with; empty where it does not."""
    match = _OPENED.search(prompt[-_LONGEST:])
    return _HEAD.sub("", match.group()) if match else ""


def closing(opening: str) -> str:
    """The tag that ends a thought which this one opened."""
    tag = re.sub(r"\A(<[\w:|-]+)\s[^<>]*>", r"\1>", opening.strip())  # without attributes
    if tag.startswith("<|channel|>"):
        return "<|end|><|start|>assistant<|channel|>final<|message|>"
    for one, other in _PAIRS:
        if re.search(one, tag, re.IGNORECASE):
            return re.sub(one, other, tag, count=1)
    return f"{tag[0]}/{tag[1:]}"
