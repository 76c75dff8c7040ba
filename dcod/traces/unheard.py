"""Thoughts that were not heard: they stand in the column of the answer, under a name that nobody reads.

Columns that nobody reads are looked at in ``columns``. An engine's response is one column with much in it, of which a
format takes the answer: a thought elsewhere in it would be lost, and the bare answer taught.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dcod.grading import thoughts
from dcod.traces.columns import Overlooked, Said, words

_NAMES = frozenset(
    ("thought", "thoughts", "think", "thinks", "thinking", "reasoning", "reasonings", "cot", "cots", "scratchpad")
)
_OTHERS = frozenset(  # a grader's thoughts, and what was asked
    ("judge", "judgement", "judgment", "grade", "grader", "grading", "feedback", "critique", "eval", "evaluation",
     "score", "scores", "verification", "verifier", "annotation", "annotations", "metric", "metrics", "request",
     "messages", "prompt", "input", "contents", "signature", "summary")
)  # fmt: skip
_WORDS = 4  # of a text that is a thought, and no setting
_DEEPEST, _MOST = 8, 2000  # levels and values that are looked at


def thoughts_in(row: Mapping[str, Any], names: Iterable[str], said: Said) -> Iterator[Overlooked]:
    """The thoughts in the columns of the answer that no trace says, where a trace has none.

    Args:
        row: without nulls.
        names: the columns of the answer.
        said: what was read.
    """
    held = [(name, row[name]) for name in names if isinstance(row.get(name), (dict, list))]
    if held and not all(map(thoughts.marks, said.completions)):
        for name, value in held:
            turns = (
                isinstance(value, list) and value and isinstance(value[-1], dict) and {"role", "from"} & set(value[-1])
            )
            yield from _found(name, value[-1:] if turns else value, False, said, [_MOST], 0)


def _found(path: str, value: Any, thought: bool, said: Said, left: list[int], level: int) -> Iterator[Overlooked]:
    left[0] -= 1
    if left[0] < 0 or level > _DEEPEST:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            if words(str(key)).isdisjoint(_OTHERS):
                named = thought or not words(str(key)).isdisjoint(_NAMES)
                yield from _found(f"{path}.{key}", inner, named, said, left, level + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _found(f"{path}[]" if path[-2:] != "[]" else path, item, thought, said, left, level + 1)
    elif thought and isinstance(value, str) and len(value.split()) >= _WORDS and not said.holds(value):
        yield Overlooked(path, "thought")
