"""A mapping carried out: a row's traces, one for each place of the completion's stars."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from dcod.config.mapping import Constant, Joined, MapConfig, Picked, Star, Template, Value
from dcod.grading import thoughts
from dcod.traces import columns, flags
from dcod.traces.chunks import ChunkError, Spoken, is_chunked, spoken
from dcod.traces.formats import RowError
from dcod.traces.formats import _fields as fields
from dcod.traces.formats._sampled import check_finish, check_logprobs, check_sampler, stop
from dcod.traces.mapping import paths
from dcod.traces.mapping.paths import MissingError, Place, UnevenError
from dcod.traces.prompts import prompt_for
from dcod.traces.schema import Message, Trace

_HOLE = re.compile(r"\{([^{}]+)\}")
_LEADS = ("completion", "messages", "thought")  # whose stars make the traces
_VALUES = (
    *("prompt", "system", "completion", "thought", "gold", "teacher", "licence", "temperature", "top_p", "attempts"),
    *("finish_reason", "stop_reason", "logprobs_mode", "tokenizer_digest", "messages", "token_ids", "logprobs"),
)
_WORKED = 12  # characters from which a reference with a box in it is a worked one


def texts_of(value: Value) -> list[str]:
    """The paths in a value of a mapping."""
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list):
        return value
    if isinstance(value, Template):
        return [hole.partition("|")[0] for hole in _HOLE.findall(value.text)]
    if isinstance(value, Joined):
        return value.join
    return [value.pick, value.at] if isinstance(value, Picked) else []


def paths_of(chosen: MapConfig) -> dict[str, list[str]]:
    """The paths of a mapping, by what they are of."""
    found = {name: texts_of(getattr(chosen, name)) for name in _VALUES}
    found |= {"flags": chosen.flags, "where": [path for one in chosen.where for path in one]}
    found["join"] = [join.on for join in chosen.join]
    return {name: texts for name, texts in found.items() if texts}


@dataclass(frozen=True)
class Mapped:
    """A row while it is mapped: ``place`` is what the stars stand for."""

    row: Mapping[str, Any]
    chosen: MapConfig
    place: Place = ()

    def value(self, name: str) -> Any:
        """What the mapping says of a field; None where that is null.

        Raises:
            RowError: ``no_path`` or ``uneven_lists``.
        """
        said: Value = getattr(self.chosen, name)
        try:
            return self._value(said)
        except MissingError as error:
            raise RowError("no_path", f"{name}: {error}") from None
        except UnevenError as error:
            if self.chosen.uneven == "null":
                return None
            raise RowError("uneven_lists", f"{name}: {error}; `uneven: null` takes it as nothing") from None

    def _value(self, said: Value) -> Any:
        if isinstance(said, str):
            return self._at(said) if said else None
        if isinstance(said, list):
            return next((found for text in said if (found := self._tried(text)) not in (None, "")), None)
        if isinstance(said, Constant):
            return said.value
        if isinstance(said, Star):
            star = "".join(map(str, self.place[said.star - 1 : said.star]))
            return said.names.get(star, star) or None
        if isinstance(said, Picked):
            items, number = self._at(said.pick), self._at(said.at)
            number = number[0] if isinstance(number, list) and len(number) == 1 else number
            if not isinstance(items, list) or type(number) is not int or not 0 <= number < len(items):
                raise MissingError(f"{said.pick}: no item {number!r:.40} in it")
            return items[number]
        if isinstance(said, Joined):
            parts = [_text(part) for text in said.join for part in self.all(text)]
            return said.by.join(part for part in parts if part.strip())
        return _HOLE.sub(lambda hole: self._hole(*hole[1].partition("|")[::2]), said.text).strip()

    def _hole(self, text: str, form: str) -> str:
        found = self._at(text)
        if not isinstance(found, list):
            return _text(found)
        marks = [f"({chr(65 + number)}) " if form == "letters" else "" for number in range(len(found))]
        return "\n".join(f"{mark}{_text(item)}" for mark, item in zip(marks, found, strict=True))

    def _at(self, text: str) -> Any:
        path = paths.parse(text)
        try:
            return paths.at(self.row, path, self.place)
        except MissingError:
            if path.optional:
                return None
            raise

    def _tried(self, text: str) -> Any:
        try:
            return self._at(text)
        except MissingError:
            return None

    def all(self, text: str) -> list[Any]:
        """All that a path finds: the items of a list of which it is one."""
        path = paths.parse(text)
        if path.stars > len(self.place):
            return [found for place, found in paths.spread(self.row, path) if place[: len(self.place)] == self.place]
        found = self._at(text)
        return [] if found is None else [found]


def traces(row: Mapping[str, Any], chosen: MapConfig) -> list[Trace | RowError]:
    """The traces of a row by a mapping, or why one cannot be; of a row that gives none at all, why.

    Raises:
        RowError: the row has not what the mapping says.
    """
    places = _places(row, chosen)
    if len(places) > paths.MOST:
        raise RowError("too_many_items", f"{len(places)} traces in one row, at most {paths.MOST} are read")
    if not places:
        raise RowError("no_completion", f"nothing stands at {_lead(chosen)}")
    found = fields.each(lambda place: _trace(Mapped(row, chosen, place)), places)
    return _flagged(row, chosen, places, found)


def _lead(chosen: MapConfig) -> str:
    """The path whose stars make the traces: the first with any."""
    texts = [
        text for name in _LEADS if isinstance(said := getattr(chosen, name), (str, list)) for text in texts_of(said)
    ]
    return next((text for text in texts if paths.parse(text).stars), texts[0] if texts else "")


def _places(row: Mapping[str, Any], chosen: MapConfig) -> list[Place]:
    lead = _lead(chosen)
    if not lead or not paths.parse(lead).stars:
        return [()]
    try:
        return [place for place, _ in paths.spread(row, paths.parse(lead))]
    except MissingError as error:
        raise RowError("no_path", str(error)) from None


def _trace(one: Mapped) -> Trace:
    chosen = one.chosen
    if chosen.where and not any(_holds(one, wanted) for wanted in chosen.where):
        raise RowError("not_chosen", f"none of the mapping's `where` holds: {json.dumps(chosen.where)[:200]}")
    check_finish(one.value("finish_reason"))
    if chosen.messages:
        prompt, completion = fields.split_chat(_turns(one.value("messages"), chosen))
        opening = ""
    else:
        prompt, opening = _prompt(one)
        prompt, completion = _completion(one, prompt)
    fields.check_prompt(prompt)
    prompt = fields.with_system(prompt, {"system": _said(one, "system")})
    recorded = bool(chosen.logprobs)
    if not recorded:
        completion = _with_thought(_said(one, "thought"), fields.goes_on(opening, completion))
    gold, no_gold = _gold(one)
    found = {name: one.value(name) for name in ("temperature", "top_p", "attempts")}
    names: dict[str, Any] = {name: _said(one, name) or None for name in ("teacher", "licence", "tokenizer_digest")}
    trace = Trace(
        prompt,
        completion,
        gold=gold,
        no_gold=no_gold,
        temperature=fields.number(found, "temperature"),
        top_p=fields.number(found, "top_p"),
        attempts=fields.count(found, "attempts"),
        stopped_by=stop({"stop_reason": one.value("stop_reason")}),
        teacher=fields.name(names, "teacher"),
        licence=fields.name(names, "licence"),
        tokenizer_digest=fields.name(names, "tokenizer_digest"),
    )
    return _sampled(one, trace) if recorded else trace


def _prompt(one: Mapped) -> tuple[list[Message], str]:
    said = one.value("prompt")
    if said is None or said == "":
        raise RowError("empty_prompt", f"prompt: nothing stands at {', '.join(texts_of(one.chosen.prompt)) or 'it'}")
    chat = _chat(said, one.chosen.role)
    if chat is not None:
        return _turns(chat, one.chosen), ""
    prompt, opening = fields.asked(_text(said))
    if len(prompt) == 1 and one.chosen.instruction != "as_is":
        prompt = prompt_for(one.chosen.instruction, prompt[0]["content"])
    return prompt, opening


def _completion(one: Mapped, prompt: list[Message]) -> tuple[list[Message], str]:
    said = one.value("completion")
    chat = _chat(said, one.chosen.role) if isinstance(said, list) else None
    if chat is not None:  # turns that go on with the prompt, or repeat it
        turns = _turns(chat, one.chosen)
        whole = turns if turns[: len(prompt)] == prompt and len(turns) > len(prompt) else [*prompt, *turns]
        return fields.split_chat(whole)
    if said is None and not one.chosen.thought:
        raise RowError("no_completion", f"nothing stands at {_lead(one.chosen)}")
    return prompt, _text(said)


def _chat(value: Any, role: str = "") -> Any:
    """A value that is a chat, in any of its forms; None for another."""
    value = paths.entered(value) if isinstance(value, str) and value.lstrip().startswith(("[{", "[ {")) else value
    if isinstance(value, dict) and value and all(isinstance(part, list) for part in value.values()):
        sizes = {len(part) for part in value.values()}
        if len(sizes) == 1:  # a struct of lists, as Parquet has a list of structs
            return [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        return None
    return value if role in value[0] or fields.has_turns(value) else None


def _turns(value: Any, chosen: MapConfig) -> list[Message]:
    chat = _chat(value, chosen.role)
    if chat is None:
        raise RowError("bad_messages", f"expected a chat, got {type(value).__name__} {value!r:.60}")
    role = chosen.role or next((key for key in ("role", "from", "speaker") if key in chat[0]), "role")
    content = chosen.content or next(
        (key for key in ("content", "value", "parts", "text") if key in chat[0]), "content"
    )
    named = [
        turn | {"role": chosen.roles.get(str(turn.get(role)), turn.get(role, "user")), "content": turn.get(content)}
        for turn in chat
    ]
    return fields.turns(named)


def _said(one: Mapped, name: str) -> str:
    value = one.value(name)
    return "" if value is None else _text(value)


def _text(value: Any) -> str:
    """A value as text; its thought, where parts tell them apart, in think tags.

    Raises:
        RowError: it is none.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, list)):
        raise RowError("bad_field", f"expected text, got {type(value).__name__} {value!r:.60}")
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, list) and (not is_chunked(value) or all(isinstance(part, str) for part in value)):
        raise RowError(
            "bad_field", f"expected text, got a list of {len(value)}; [*] makes a trace of each, [0] takes one"
        )
    try:
        said = spoken(value).tagged()
    except ChunkError as error:
        raise RowError("bad_field", str(error)) from None
    if len(said) > fields.TEXT:
        raise RowError("too_long", f"{len(said)} characters, at most {fields.TEXT} are read")
    return said


def _with_thought(thought: str, completion: str) -> str:
    if not thought.strip() or columns.flat(thought) in columns.flat(completion):
        return completion
    if thoughts.marks(thought):  # in tags of its own
        return f"{thought.strip()}\n\n{completion}" if thoughts.kind(thought) == "closed" else f"{thought}{completion}"
    return Spoken(completion, thought).tagged()


def _gold(one: Mapped) -> tuple[str | None, str]:
    """The reference answer, out of a worked solution as well; or the text that says that there is none."""
    value = one.value("gold")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value == "":
        return None, ""
    if columns.is_none(value):
        return None, f"gold: {value!s:.40}"
    found = fields.final_answer({"gold": value}, ("gold",))
    if found and isinstance(value, str) and len(found) > _WORKED and "####" not in value:
        found = fields.last_box(found) or found
    return found, ""


def _sampled(one: Mapped, trace: Trace) -> Trace:
    """A trace with its recorded tokens and their log-probs, if they are the sampler's."""
    ids, values = (one.all(getattr(one.chosen, name)) for name in ("token_ids", "logprobs"))
    ids, values = (found[0] if len(found) == 1 and isinstance(found[0], list) else found for found in (ids, values))
    if not values:
        return trace
    if not all(type(item) is int and 0 <= item < 2**31 for item in ids) or len(ids) != len(values):
        raise RowError("bad_field", f"token_ids: expected a whole number for each of {len(values)} log-probs")
    check_sampler(trace.temperature, trace.top_p, one.value("logprobs_mode"))
    return replace(trace, token_ids=ids, behavior_logprobs=check_logprobs(values))


def _holds(one: Mapped, wanted: Mapping[str, Any]) -> bool:
    for text, value in wanted.items():
        try:
            found = one._at(text)
        except (MissingError, UnevenError):
            return False
        if found != value or isinstance(found, bool) != isinstance(value, bool):
            return False
    return True


def _flagged(
    row: Mapping[str, Any], chosen: MapConfig, places: list[Place], found: list[Trace | RowError]
) -> list[Trace | RowError]:
    """The traces with what their flags say: those that the mapping names, else those that are known by name."""
    if chosen.flags:
        verdicts = [flags.verdict(dict(_flags(Mapped(row, chosen, place)))) for place in places]
    else:
        used = {paths.parse(text).column for texts in paths_of(chosen).values() for text in texts}
        filled = {key: value for key, value in row.items() if value is not None and key not in used}
        names = [key for key, value in filled.items() if flags.meaning(key) and flags.is_flag(key, value)]
        verdicts = flags.verdicts(filled, names, len(places)) if names else [flags.Verdict()] * len(places)
    out = list[Trace | RowError]()
    for item, verdict in zip(found, verdicts, strict=True):
        if isinstance(item, RowError):
            out.append(item)
        elif verdict.cut:
            out.append(RowError("truncated", f"{verdict.cut}: the completion has no end"))
        else:
            wrong = verdict.wrong or ("mapped as wrong" if chosen.wrong else "")
            out.append(replace(item, flagged=wrong, flags=verdict.told))
    return out


def _flags(one: Mapped) -> Iterator[tuple[str, Any]]:
    for text in one.chosen.flags:
        try:
            yield text, one._at(text)
        except (MissingError, UnevenError):
            yield text, None


@lru_cache(256)
def compiled(text: str) -> tuple[MapConfig, ...]:
    """The mappings of a row, from their JSON; none of an empty text."""
    return tuple(MapConfig.model_validate(one) for one in json.loads(text or "[]"))
