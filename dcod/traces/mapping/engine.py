"""A mapping carried out: a row's traces, one for each place of the completion's stars."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dcod.config.mapping import Constant, MapConfig
from dcod.grading import thoughts
from dcod.traces import columns, flags
from dcod.traces.chunks import Spoken, is_chunked, spoken
from dcod.traces.formats import _fields as fields
from dcod.traces.formats._beside import check_calls, reasoning
from dcod.traces.formats._dialogs import going_on
from dcod.traces.formats._sampled import check_finish, check_logprobs, check_sampler, stop
from dcod.traces.mapping import paths, values
from dcod.traces.mapping.paths import MissingError, Place, UnevenError
from dcod.traces.mapping.values import Mapped, paths_of, text_of, texts_of
from dcod.traces.prompts import prompt_for
from dcod.traces.refusals import RowError
from dcod.traces.schema import Message, Trace

_LEADS = ("completion", "messages", "thought")  # whose stars make the traces
_WORKED = 12  # characters from which a reference with a box in it is a worked one


def traces(row: Mapping[str, Any], chosen: MapConfig) -> list[Trace | RowError]:
    """The traces of a row by a mapping, or why one cannot be; of a row that gives none at all, why.

    Raises:
        RowError: the row has not what the mapping says.
    """
    places = values.places(row, _lead(chosen))
    if len(places) > paths.MOST:
        raise RowError("too_many_items", f"{len(places)} traces in one row, at most {paths.MOST} are read")
    if not places:
        raise RowError("no_completion", f"nothing stands at {_lead(chosen)}")
    items = fields.each(lambda place: _trace(Mapped(row, chosen, place)), places)
    return _flagged(row, chosen, places, items)


def _lead(chosen: MapConfig) -> str:
    """The path whose stars make the traces: the first with any."""
    said = (getattr(chosen, name) for name in _LEADS)
    return values.starred([text for one in said if isinstance(one, (str, list)) for text in texts_of(one)])


def _trace(one: Mapped[MapConfig]) -> Trace:
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
    prompt = fields.with_system(prompt, {"system": _system(one)})
    recorded = bool(chosen.logprobs)
    if not recorded:
        completion = _with_thought(_thought(one), fields.goes_on(opening, completion))
    gold, no_gold = _gold(one)
    numbers = {name: one.value(name) for name in ("temperature", "top_p", "attempts")}
    names: dict[str, Any] = {name: one.text(name) or None for name in ("teacher", "licence", "tokenizer_digest")}
    trace = Trace(
        prompt,
        completion,
        gold=gold,
        no_gold=no_gold,
        temperature=fields.number(numbers, "temperature"),
        top_p=fields.number(numbers, "top_p"),
        attempts=fields.count(numbers, "attempts"),
        stopped_by=stop({"stop_reason": one.value("stop_reason")}),
        teacher=fields.name(names, "teacher"),
        licence=fields.name(names, "licence"),
        tokenizer_digest=fields.name(names, "tokenizer_digest"),
    )
    return _sampled(one, trace) if recorded else trace


def _system(one: Mapped[MapConfig]) -> str:
    """The system prompt, all parts of it: a text, a list of parts, or an object with either, as Gemini has it."""
    said = one.value("system")
    if isinstance(said, str):
        return one.text("system")
    while isinstance(said, dict):
        inner = next((said[key] for key in ("parts", "content", "text") if said.get(key)), None)
        said = [inner] if isinstance(inner, dict) and "text" in inner else inner
    if isinstance(said, list) and all(isinstance(part, str) for part in said):
        return "\n\n".join(said)
    return text_of(said)


def _prompt(one: Mapped[MapConfig]) -> tuple[list[Message], str]:
    said = one.value("prompt")
    if said is None or said == "":
        raise RowError("empty_prompt", f"prompt: nothing stands at {', '.join(texts_of(one.chosen.prompt)) or 'it'}")
    chat = _chat(said, one.chosen.role)
    if chat is not None:
        return _turns(chat, one.chosen), ""
    prompt, opening = fields.asked(text_of(said))
    if len(prompt) == 1 and one.chosen.instruction != "as_is":
        prompt = prompt_for(one.chosen.instruction, prompt[0]["content"])
    return prompt, opening


def _completion(one: Mapped[MapConfig], prompt: list[Message]) -> tuple[list[Message], str]:
    said = one.value("completion")
    chat = _chat(said, one.chosen.role) if isinstance(said, list) else None
    if chat is not None:  # turns that go on with the prompt, or repeat it
        return fields.split_chat(going_on(prompt, _turns(chat, one.chosen)))
    if said is None and not one.chosen.thought:
        raise RowError("no_completion", f"nothing stands at {_lead(one.chosen)}")
    return prompt, text_of(said)


def _thought(one: Mapped[MapConfig]) -> str:
    """The thought that the mapping names, which may stand in a message; else that beside the completion's text."""
    said = one.value("thought") if one.chosen.thought else None
    if isinstance(said, dict):
        check_calls(said)
        thought = reasoning(said)
        return thought or spoken(content).thought if is_chunked(content := said.get("content")) else thought
    thought = spoken(said).thought if is_chunked(said) else ""
    if thought or (thought := one.text("thought")).strip() or isinstance(one.chosen.thought, Constant):
        return thought
    beside = _beside(one)
    check_calls(beside)
    return reasoning(beside)


def _beside(one: Mapped[MapConfig]) -> Mapping[str, Any]:
    """The object in which the completion's text stands; empty where that is the row itself."""
    said = one.chosen.completion
    for text in texts_of(said) if isinstance(said, (str, list)) else ():
        path = paths.parse(text)
        if len(path.steps) < 2 or path.steps[-1].kind != "key" or one.tried(text) in (None, ""):
            continue
        holder = paths.entered(paths.at(one.row, path._replace(steps=path.steps[:-1]), one.place))
        return holder if isinstance(holder, dict) else {}
    return {}


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


def _with_thought(thought: str, completion: str) -> str:
    if not thought.strip() or columns.flat(thought) in columns.flat(completion):
        return completion
    if thoughts.marks(thought):  # in tags of its own
        return f"{thought.strip()}\n\n{completion}" if thoughts.kind(thought) == "closed" else f"{thought}{completion}"
    return Spoken(completion, thought).tagged()


def _gold(one: Mapped[MapConfig]) -> tuple[str | None, str]:
    """The reference answer, out of a worked solution as well; or the text that says that there is none."""
    value = one.value("gold")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value == "":
        return None, ""
    if columns.is_none(value):
        return None, f"gold: {value!s:.40}"
    answer = fields.final_answer({"gold": value}, ("gold",))
    if answer and isinstance(value, str) and len(answer) > _WORKED and "####" not in value:
        answer = fields.last_box(answer) or answer
    return answer, ""


def _sampled(one: Mapped[MapConfig], trace: Trace) -> Trace:
    """A trace with its recorded tokens and their log-probs, if they are the sampler's."""
    ids, logprobs = (one.all(getattr(one.chosen, name)) for name in ("token_ids", "logprobs"))
    ids, logprobs = (
        listed[0] if len(listed) == 1 and isinstance(listed[0], list) else listed for listed in (ids, logprobs)
    )
    if not logprobs:
        return trace
    if not all(type(item) is int and 0 <= item < 2**31 for item in ids) or len(ids) != len(logprobs):
        raise RowError("bad_field", f"token_ids: expected a whole number for each of {len(logprobs)} log-probs")
    check_sampler(trace.temperature, trace.top_p, one.value("logprobs_mode"))
    return replace(trace, token_ids=ids, behavior_logprobs=check_logprobs(logprobs))


def _holds(one: Mapped[MapConfig], wanted: Mapping[str, Any]) -> bool:
    for text, value in wanted.items():
        try:
            there = one.at(text)
        except (MissingError, UnevenError):
            return False
        if there != value or isinstance(there, bool) != isinstance(value, bool):
            return False
    return True


def _flagged(
    row: Mapping[str, Any], chosen: MapConfig, places: Sequence[Place], items: list[Trace | RowError]
) -> list[Trace | RowError]:
    """The traces with what their flags say: those that the mapping names, else those that are known by name."""
    if chosen.flags:
        verdicts = [flags.verdict(dict(_flags(Mapped(row, chosen, place)))) for place in places]
    else:
        used = {paths.parse(text).column for texts in paths_of(chosen).values() for text in texts}
        named = flags.of({key: value for key, value in row.items() if value is not None}, used)
        named = {path: value for path, value in named.items() if not any(path in one for one in chosen.where)}
        verdicts = flags.verdicts(named, len(places)) if named else [flags.Verdict()] * len(places)
    out = list[Trace | RowError]()
    for item, verdict in zip(items, verdicts, strict=True):
        if isinstance(item, RowError):
            out.append(item)
        elif verdict.cut:
            out.append(RowError("truncated", f"{verdict.cut}: the completion has no end"))
        else:
            wrong = verdict.wrong or ("mapped as wrong" if chosen.wrong else "")
            out.append(replace(item, flagged=wrong, flags=verdict.told))
    return out


def _flags(one: Mapped[MapConfig]) -> Iterator[tuple[str, Any]]:
    for text in one.chosen.flags:
        try:
            yield text, one.at(text)
        except (MissingError, UnevenError):
            yield text, None


@lru_cache(256)
def compiled(text: str) -> tuple[MapConfig, ...]:
    """The mappings of a row, from their JSON; none of an empty text."""
    return tuple(MapConfig.model_validate(one) for one in json.loads(text or "[]"))
