"""A row becomes its traces: by a format, which accounts for every column, or it is refused with the columns named.

1. the formats that it fits; of several, one, if they all say the same;
2. the traces that the format makes of it, one for each completion, or why there is none;
3. the row's own flags (``flags``), a template's marks in a user's turn (``templates``);
4. the columns that nobody reads (``columns``): one that changes what would be taught refuses the row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from dcod.traces import columns, flags, formats, hints, printed, repeats, templates, unheard
from dcod.traces.columns import Said
from dcod.traces.formats import RowError
from dcod.traces.formats._dialogs import CHATS, parsed
from dcod.traces.formats._fields import REASONING
from dcod.traces.formats._marks import TURN_MARKS
from dcod.traces.mapping import addresses, checking, engine, paths, values
from dcod.traces.mapping.addresses import Preset
from dcod.traces.schema import Trace

_TURNS = columns.turn_keys(
    *(*REASONING, *TURN_MARKS, "tool_calls", "name", "id", "refusal", "annotations", "audio", "function_call"),
)
_CHATS = ("chat", "prompt", "completion")  # what may hold turns
UNREAD = ("unknown_format", "ambiguous_format")  # no format reads it, or not all of it: a mapping may
_WORKED = ("math", "gsm8k")  # whose completion is a human's solution, unless a model's text stands beside it
_TURNED = ("messages", *CHATS)
_OFFERED = ("no_completion", "bad_field")  # a format begins to read it, and does not find the answer
_BARE = 3  # words of a text that may be a bare answer, which no offer teaches
_OWN = 12  # characters from which a reference may be a response's own end
_SHOWN = 6
_BEFORE = 500  # characters of what is wrong, in front of an offer


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
    filled = parsed({key: value for key, value in row.items() if value is not None})  # Parquet fills gaps with nulls
    if name == "auto" and (preset := _known(filled)):
        return _of_preset(filled, preset)
    try:
        return _of_format(filled, name)
    except RowError as error:
        offer = offered(filled) if error.code in (*UNREAD, *_OFFERED) else None
        told = str(offer) if offer else hints.hint(filled) if error.code == "unknown_format" else ""
        if told:
            raise RowError(error.code, f"{error.message[:_BEFORE]}; {told}") from None
        raise


def _known(filled: Mapping[str, Any]) -> Preset | None:
    """The tool whose output a row is, by its columns."""
    for preset in addresses.candidates(tuple(filled), True):
        if all(checking.has(filled, paths.parse(path)) for path in preset.columns):
            return preset
    return None


@dataclass(frozen=True)
class Offer:
    """A mapping by name that would read a row of somebody's set.

    Attributes:
        preset: the mapping.
        count: how many traces it reads of the row.
    """

    preset: Preset
    count: int

    def __str__(self) -> str:
        several = f"reads {self.count} traces of this row" if self.count > 1 else "reads it"
        name = self.preset.name
        return f"this looks like {self.preset.title}: `map: {name}` (ingest.map={name}) {several}"


def offered(row: Mapping[str, Any]) -> Offer | None:
    """Which set a row that no format reads looks like, by its columns; None for none."""
    filled = {key: value for key, value in row.items() if value is not None}
    for preset in addresses.candidates(tuple(filled), False):
        if all(checking.has(filled, paths.parse(path)) for path in preset.columns):
            try:
                items = [item for item in _of_preset(dict(filled), preset).items if isinstance(item, Trace)]
            except RowError:
                continue
            if items and all(len(trace.completion.split()) > _BARE for trace in items):
                return Offer(preset, len(items))
    return None


def _of_preset(filled: dict[str, Any], preset: Preset) -> Taken:
    read = mapped(filled, addresses.text_of(preset.name))
    traces = [item for item in read.items if isinstance(item, Trace)]
    if traces:
        said = _said(traces, True)
        used = {key for key in filled if key not in read.reading.unused}
        overlooked = [*columns.beside(filled, used), *columns.overlooked(filled, (*used, *flags.of(filled, ())), said)]
        overlooked += unheard.thoughts_in(filled, values.answers_of(preset.maps), said)
        _refuse(preset.name, overlooked, {})
    return read


def _of_format(filled: dict[str, Any], name: str) -> Taken:
    name, items = (name, _made(name, filled)) if name != "auto" else _chosen(filled)
    read = _plan(name, tuple(filled))[0].values()
    flagged = flags.of(filled, read)
    checked = [item if isinstance(item, RowError) else _checked(item) for item in items]
    for index, verdict in enumerate(flags.verdicts(flagged, len(checked)) if flagged else ()):
        checked[index] = _flagged(checked[index], verdict)
    reading = _account(filled, name, checked, flagged)
    left = dict.fromkeys(item.left for item in checked if isinstance(item, Trace) and item.left)
    return Taken(checked, replace(reading, text="; ".join((reading.text, *left))) if left else reading)


def mapped(row: Mapping[str, Any], text: str) -> Taken:
    """The traces of a row by the mappings of its source.

    Args:
        row: as it was parsed.
        text: the mappings, as JSON.

    Raises:
        RowError: the row has not what they say.
    """
    items = list[Trace | RowError]()
    maps = engine.compiled(text)
    for one in maps:
        if not one.maps:  # a format reads it, without what is left out knowingly
            read = taken({key: value for key, value in row.items() if key not in one.ignore}, one.format or "auto")
            return replace(read, reading=replace(read.reading, unused=(*read.reading.unused, *one.ignore)))
        try:
            items += engine.traces(row, one)
        except RowError as error:
            if len(maps) == 1:
                raise
            items.append(error)
    return Taken([item if isinstance(item, RowError) else _checked(item) for item in items], _map_reading(row, text))


@lru_cache(256)
def _map_plan(text: str) -> tuple[str, frozenset[str], tuple[re.Pattern[str], ...]]:
    """What mappings take, in words; the columns of it, and those that a star stands for."""
    told, used, stars = list[str](), set[str](), list[re.Pattern[str]]()
    for one in engine.compiled(text):
        named = values.paths_of(one)
        told.append(", ".join(f"{name} = {' or '.join(texts)}" for name, texts in named.items()))
        for first in (paths.parse(text).steps[0] for texts in named.values() for text in texts):
            used.add(first.key)
            stars += [first.names] if first.names else []
        used |= set(one.ignore)
    name = addresses.name_of(text)
    return f"{name + ': ' if name else ''}map: {'; '.join(told)}", frozenset(used), tuple(stars)


def _map_reading(row: Mapping[str, Any], text: str) -> Reading:
    told, used, stars = _map_plan(text)
    return Reading(told, tuple(key for key in row if key not in used and not any(s.fullmatch(key) for s in stars)))


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
    made: Any = several(filled) if several else chosen.to_trace(filled)
    return made if isinstance(made, list) else [made]


def _checked(trace: Trace) -> Trace | RowError:
    if not (trace.token_ids or trace.behavior_logprobs or trace.sampled_texts):  # what was sampled stays as it is
        try:
            trace = repeats.told_apart(trace)
            printed.check(trace.prompt, trace.completion)
        except RowError as error:
            return error
    for message in trace.prompt:
        if mark := templates.mark(message["content"]) or ("<image>" if message["content"][:7] == "<image>" else ""):
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
def _plan(name: str, names: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...], Reading]:
    """What a format takes from the columns that are there, and which are left."""
    chosen: Any = formats.get(name)
    reads: Mapping[str, Sequence[str]] | None = getattr(chosen, "READS", None)
    reads = chosen.reads(names) if hasattr(chosen, "reads") else reads
    if reads is None:  # a format of one's own that does not say
        return {}, (), Reading(name)
    used = {role: key for role, keys in reads.items() if (key := next((key for key in keys if key in names), None))}
    left = tuple(key for key in names if key not in used.values())
    told = ", ".join(f"{role} = {key}" for role, key in used.items())
    return used, left, Reading(f"{name}: {told}", left)


def _said(traces: Sequence[Trace], model: bool) -> Said:
    """What the traces of a row say."""
    prompts = [message["content"] for trace in traces for message in trace.prompt]
    gold = traces[0].gold is not None or bool(traces[0].no_gold)
    return Said(prompts, [trace.completion for trace in traces], gold, model, traces[0].gold or "")


def _account(filled: dict[str, Any], name: str, items: list[Trace | RowError], flagged: Iterable[str]) -> Reading:
    """How a row was read, if nothing that matters was left out.

    Raises:
        RowError: ``ambiguous_format``.
    """
    used, left, reading = _plan(name, tuple(filled))
    traces = [item for item in items if isinstance(item, Trace)]
    if not used or not traces:
        return reading
    chats = [used[role] for role in _CHATS if role in used and isinstance(filled[used[role]], list)]
    objects = [column for column in used.values() if type(filled.get(column)) is dict]
    overlooked = list(columns.beside(filled, objects)) if objects else []
    said = _said(traces, "solution" not in used)
    overlooked += columns.unused(filled, used, said)
    overlooked += unheard.thoughts_in(filled, [used[role] for role in ("completion",) if role in used], said)
    if left or chats:
        overlooked += columns.overlooked(filled, (*used.values(), *flagged), said)
        for column in chats:
            overlooked += columns.of_turns(column, filled[column], _TURNS, said)
    _refuse(name, overlooked, used)
    key = used.get("gold")
    if key is not None and key != "gold" and "completion" in (*used, *_CHATS) and _is_own_end(filled[key], traces):
        raise RowError(
            "ambiguous_format",
            f"read as {name}, but {key} is the end of the response itself: a reference, or the response's own answer? "
            f"SOURCE?ignore={key} leaves it out, a mapping with gold: {key} takes it",
        )
    return reading


def _refuse(name: str, overlooked: Sequence[columns.Overlooked], used: Mapping[str, str]) -> None:
    """Refuses a row of which something that matters was overlooked.

    Raises:
        RowError: ``ambiguous_format``; ``bad_messages`` for what no text can say.
    """
    if other := [column for column, kind in overlooked if kind in ("media", "tools")]:
        named = ", ".join(dict.fromkeys(other))
        raise RowError("bad_messages", f"{named}: pictures, sounds and tools of a model are not taught, only texts")
    if overlooked:
        raise RowError("ambiguous_format", f"read as {name}, but {_told(name, overlooked, used)}")


_ROLES = ("chat", "prompt", "completion", "thought", "system")
_MAPPED = {
    "messages": {"chat": "messages"},
    "conversations": {"chat": "messages"},
    "prompt_completion": {},
}  # a mapping's names
_ONE = {"answer": "another answer", "thought": "a thought", "gold": "a reference answer", "system": "a system prompt"}


def _told(name: str, overlooked: Sequence[columns.Overlooked], used: Mapping[str, str]) -> str:
    """What was overlooked, and the option that decides."""
    kinds: dict[str, list[str]] = {}
    for column, kind in dict.fromkeys(overlooked):
        kinds.setdefault(kind, []).append(column)
    parts = [
        f"{', '.join(names[:_SHOWN])} {'looks' if len(names) == 1 else 'look'} like {_ONE.get(kind, 'a context')}"
        for kind, names in kinds.items()
    ]
    tops = list(dict.fromkeys(column.partition(".")[0].partition("[")[0] for column, _ in overlooked))
    if name in _WORKED and ("answer" in kinds or "thought" in kinds):
        role, kind = ("completion", "answer") if "answer" in kinds else ("thought", "thought")
        advice = f"a mapping says what is taught, such as {role}: {kinds[kind][0]}"
    elif chats := [column for column in tops if column in _TURNED]:
        advice = f"a mapping says what is what; with messages: {chats[0]} it is left out"
    elif set(kinds) == {"gold"} and name in _MAPPED:
        chosen = {_MAPPED[name].get(role, role): used[role] for role in _ROLES if role in used}
        chosen["gold"] = kinds["gold"][0]
        advice = f"take it: {hints.address(chosen)}, or leave it out: SOURCE?ignore={','.join(tops)}"
    else:
        advice = f"a mapping says what is what, or leave it out: SOURCE?ignore={','.join(tops)}"
    return f"{'; '.join(parts)}; {advice}"


def _is_own_end(value: Any, traces: Sequence[Trace]) -> bool:
    """Whether what was read as the reference is the last thing that the response says, in the same words."""
    text = columns.flat(value) if isinstance(value, str) else ""
    if len(text) < _OWN or len(text.split()) < 3:
        return False
    return all(
        (said := columns.flat(trace.completion)).endswith(text) and len(said) > len(text) + _OWN for trace in traces
    )
