"""A row becomes its traces: by a format, which accounts for every column, or it is refused with the columns named.

1. the formats that it fits; of several, one, if they all say the same;
2. the traces that the format makes of it, one for each completion, or why there is none;
3. the row's own flags (``flags``), a template's marks in a user's turn (``templates``);
4. the columns that nobody reads (``columns``): one that changes what would be taught refuses the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from dcod.traces import columns, flags, formats, templates
from dcod.traces.columns import Said
from dcod.traces.formats import RowError
from dcod.traces.formats._fields import REASONING
from dcod.traces.formats._marks import TURN_MARKS
from dcod.traces.schema import Trace

_TURNS = columns.turn_keys(
    *(*REASONING, *TURN_MARKS, "tool_calls", "name", "id", "refusal", "annotations", "audio", "function_call"),
)
_CHATS = ("chat", "prompt", "completion")  # what may hold turns
_OWN = 12  # characters from which a reference may be a response's own end
_SHOWN = 6


@dataclass(frozen=True)
class Reading:
    """How a row was read.

    Attributes:
        text: the format, and what it takes from which column.
        unused: the columns that it leaves out.
    """

    text: str
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taken:
    """What a row gave: a trace or an error an item, and how it was read."""

    items: list[Trace | RowError]
    reading: Reading


def taken(row: Mapping[str, Any], name: str = "auto") -> Taken:
    """The traces of a row.

    Args:
        row: as it was parsed.
        name: of a format; ``auto``: the one that it fits.

    Raises:
        RowError: no format reads it, or not all of it.
    """
    filled = {key: value for key, value in row.items() if value is not None}  # Parquet fills gaps with nulls
    name, items = (name, _made(name, filled)) if name != "auto" else _chosen(filled)
    flagged = [column for column in _flag_candidates(tuple(filled)) if flags.is_flag(column, filled[column])]
    found = [item if isinstance(item, RowError) else _checked(item) for item in items]
    for index, verdict in enumerate(flags.verdicts(filled, flagged, len(found)) if flagged else ()):
        found[index] = _flagged(found[index], verdict)
    return Taken(found, _account(filled, name, found, flagged))


def _chosen(filled: dict[str, Any]) -> tuple[str, list[Trace | RowError]]:
    """The format that a row fits, and its traces; of several, those that have a reference, if all say the same."""
    names = formats.fitting(filled)
    if len(names) != 1:
        if not names:
            formats.detect(filled)
        made = {name: _made(name, filled) for name in names}
        if not _same(list(made.values())):
            formats.detect(filled)
        best = max(names, key=lambda name: [isinstance(one, Trace) and one.gold is not None for one in made[name]])
        return best, made[best]
    return names[0], _made(names[0], filled)


def _same(made: Sequence[list[Trace | RowError]]) -> bool:
    """Whether several readings of a row say the same: the completions, and what is asked."""
    first = made[0]
    for other in made[1:]:
        if len(other) != len(first):
            return False
        for one, two in zip(first, other, strict=True):
            if isinstance(one, RowError) or isinstance(two, RowError):
                return False
            said, asked = columns.flat(one.problem), columns.flat(two.problem)
            if columns.flat(one.completion) != columns.flat(two.completion) or not (said in asked or asked in said):
                return False
    return True


def _made(name: str, filled: dict[str, Any]) -> list[Trace | RowError]:
    chosen = formats.get(name)
    several = getattr(chosen, "to_traces", None)
    found: Any = several(filled) if several else chosen.to_trace(filled)
    return found if isinstance(found, list) else [found]


def _checked(trace: Trace) -> Trace | RowError:
    for message in trace.prompt:
        if mark := templates.mark(message["content"]):
            return RowError(
                "template_marks",
                f"{mark!r} of a chat template in the {message['role']}'s turn: it would be taught as said there",
            )
    return trace


def _flagged(item: Trace | RowError, verdict: flags.Verdict) -> Trace | RowError:
    if isinstance(item, RowError):
        return item
    if verdict.cut:
        return RowError("truncated", f"{verdict.cut}: the completion has no end")
    return replace(item, flagged=verdict.wrong, flags=verdict.told)


@lru_cache(4096)
def _flag_candidates(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if flags.meaning(name))


@lru_cache(4096)
def _plan(name: str, names: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...], Reading]:
    """What a format takes from the columns that are there, and which are left."""
    reads: Mapping[str, Sequence[str]] | None = getattr(formats.get(name), "READS", None)
    if reads is None:  # a format of one's own that does not say
        return {}, (), Reading(name)
    used = {role: key for role, keys in reads.items() if (key := next((key for key in keys if key in names), None))}
    left = tuple(key for key in names if key not in used.values())
    told = ", ".join(f"{role} = {key}" for role, key in used.items())
    return used, left, Reading(f"{name}: {told}", left)


def _account(filled: dict[str, Any], name: str, items: list[Trace | RowError], flagged: list[str]) -> Reading:
    """How a row was read, if nothing that matters was left out.

    Raises:
        RowError: ``ambiguous_format``.
    """
    used, left, reading = _plan(name, tuple(filled))
    traces = [item for item in items if isinstance(item, Trace)]
    if not used or not traces:
        return reading
    texts = [message["content"] for trace in traces for message in trace.prompt]
    texts += [trace.gold or "" for trace in traces[:1]]
    gold = traces[0].gold is not None or bool(traces[0].no_gold)
    said = Said(texts, [trace.completion for trace in traces], gold, "solution" not in used)
    found = list(columns.overlooked(filled, (*used.values(), *flagged), said)) if left else []
    for role in _CHATS:
        if role in used and isinstance(filled[used[role]], list):
            found += columns.of_turns(used[role], filled[used[role]], _TURNS, said)
    if found:
        raise RowError("ambiguous_format", f"read as {name}, but {_told(found)}")
    key = used.get("gold")
    if key is not None and key != "gold" and "completion" in (*used, *_CHATS) and _is_own_end(filled[key], traces):
        raise RowError(
            "ambiguous_format",
            f"read as {name}, but {key} is the end of the response itself: a reference, or the response's own answer? "
            f"Name it gold, or take it out of the rows",
        )
    return reading


_ONE = {"answer": "another answer", "thought": "a thought", "gold": "a reference answer", "system": "a system prompt"}


def _told(found: Sequence[columns.Overlooked]) -> str:
    """What was overlooked, and the option that decides."""
    kinds: dict[str, list[str]] = {}
    for column, kind in dict.fromkeys(found):
        kinds.setdefault(kind, []).append(column)
    parts = [
        f"{', '.join(names[:_SHOWN])} {'looks' if len(names) == 1 else 'look'} like {_ONE.get(kind, 'a context')}"
        for kind, names in kinds.items()
    ]
    ignored = ",".join(dict.fromkeys(column.partition(".")[0].partition("[")[0] for column, _ in found))
    return f"{'; '.join(parts)}; take {ignored} out of the rows, or give it the name of what it is"


def _is_own_end(value: Any, traces: Sequence[Trace]) -> bool:
    """Whether what was read as the reference is the last thing that the response says, in the same words."""
    text = columns.flat(value) if isinstance(value, str) else ""
    if len(text) < _OWN or len(text.split()) < 3:
        return False
    return all(
        (said := columns.flat(trace.completion)).endswith(text) and len(said) > len(text) + _OWN for trace in traces
    )
