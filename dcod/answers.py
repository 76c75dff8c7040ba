"""Finding the final answer in a response: our own extraction, in front of math-verify.

Order: the part after the thought; cut where an invented next question begins; then the last ``\\boxed``,
``####``, "the answer is" or "Answer:"; a bare last number only where the benchmark allows it.
"""

from __future__ import annotations

import re

THOUGHT_ENDS = ("</think>", "<|end_of_thought|>", "</thought>", "</reasoning>")
SOLUTION_BEGINS = ("<|begin_of_solution|>", "<answer>")
RUN_ON = re.compile(
    r"<\|im_start\|>|<\|im_end\|>|<\|eot_id\|>|<\|endoftext\|>|<\|end_of_solution\|>|</answer>"
    r"|^\s*(?:Question|Problem|Q|Human|User|Instruction)\s*\d*\s*[:.](?=\s)",
    re.MULTILINE,
)
NUMBER = re.compile(r"(?<![\w.])[-−+]?\$?\s?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:/\d+)?(?<=\d)%?")
HASHES = re.compile(r"####\s*([^\n]+)")
STATED = re.compile(
    r"(?:\bfinal\s+answer\b|\bthe\s+(?:correct\s+)?answer\b|^\W*answer\b|^\W*A(?=\s*:))[\s*_]*(?:is|are|:|=)[\s*_:]*(.+)$",
    re.IGNORECASE | re.MULTILINE,
)
CLOSED = re.compile(r"\\\(|\\\)|\\\[|\\\]|\$\$?")


def final_part(response: str) -> str:
    """The response after its thought, whatever the tags, and before anything that was invented after it."""
    text = response
    for tag in (*THOUGHT_ENDS, *SOLUTION_BEGINS):
        text = text.rpartition(tag)[2] or text
    return _cut(text)


def extract(response: str, *, last_number: bool = False) -> str | None:
    """The final answer of a response, as written; None when there is none.

    Args:
        response: the whole text.
        last_number: fall back on the last number of the text.
    """
    text = final_part(response)
    for find in (_boxed, _hashes, _stated):
        found = find(text)
        if found:
            return found
    if last_number:
        numbers = [m.group().strip() for m in NUMBER.finditer(text) if any(c.isdigit() for c in m.group())]
        return numbers[-1] if numbers else None
    return None


def boxed(text: str) -> list[str]:
    """The contents of every well-formed ``\\boxed{…}`` (or ``\\boxed 2``, ``\\fbox``), braces nested, in order."""
    out = []
    for match in re.finditer(r"\\(?:boxed|fbox)\s*", text):
        start = match.end()
        if start < len(text) and text[start] == "{":
            depth = 0
            for index in range(start, len(text)):
                depth += {"{": 1, "}": -1}.get(text[index], 0)
                if depth == 0:
                    out.append(text[start + 1 : index].strip())
                    break
        else:
            plain = re.match(r"[^\s$\\]+", text[start:])
            if plain:
                out.append(plain.group().rstrip(".,"))
    return out


def _cut(text: str) -> str:
    """Up to the first mark of a next question that stands behind some text."""
    for match in RUN_ON.finditer(text):
        if text[: match.start()].strip():
            return text[: match.start()]
    return text


def _boxed(text: str) -> str:
    found = [answer for answer in boxed(text) if answer]
    return found[-1] if found else ""


def _hashes(text: str) -> str:
    found = [m.group(1).strip() for m in HASHES.finditer(text)]
    return _trim(found[-1]) if found else ""


def _stated(text: str) -> str:
    found = [m.group(1) for m in STATED.finditer(text)]
    return _trim(found[-1]) if found else ""


def _trim(text: str) -> str:
    """Drops markdown marks and the closing full stop of a sentence."""
    return text.strip().strip("*_` ").removesuffix(".").strip().strip("*_` ")
