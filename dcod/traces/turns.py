"""How a student's turns begin and end, read off its chat template and its files: one account for all stages.

What ends a turn is what the template writes behind an assistant's text. That is taught; generation stops at it, and at
every other end that generation_config.json, config.json or the tokenizer name. A prompt and what is written behind it
are cut into tokens apart, and must give the tokens of the joined text.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dcod.errors import UserError, one_line
from dcod.grading import thoughts
from dcod.grading.ends import ENDS
from dcod.traces import contents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TODAY = dt.datetime(2026, 1, 1)  # of templates that write the date: else tokens change overnight
_USER, _SAID, _MORE = "Qquestion7", "Aanswer7", "Qfurther7"
_BEHIND = ("So", "4", "The", "\\boxed", "$x$", "(a)")  # how completions begin
_MARKS = re.compile(ENDS, re.IGNORECASE)
_ENDING = re.compile(r"end|stop|return|eo[a-z]{1,2}(?![a-z])|^</s>$|pad", re.IGNORECASE)
_KEPT = re.compile(r"<\|(?:start|end|channel|message|constrain)\|>")  # parts of harmony's tags


class TemplateError(UserError):
    """A chat template refuses a conversation, or fails at it.

    Attributes:
        code: why a row with it is refused.
        of_template: its own words.
    """

    code = "template"
    of_template = ""


@dataclass(frozen=True)
class Turns:
    """The beginnings and ends of an assistant's turns.

    Attributes:
        end: text that is taught behind a completion, its last token not included where that is a single one.
        last: that token, an end of turn.
        stops: every token that ends a turn, and who names it.
        stop_text: an end of several tokens, at which generation stops as well; empty where it is one.
        lead: what the template writes between its generation prompt and an assistant's text.
        blank: the end of the generation prompt that the student writes itself, so that tokens are those of the whole.
        anchor: text in front of which completions are cut into tokens, where they would get a blank of their own.
        opened: the tag with which the generation prompt opens a thought.
        dated: the template writes the date, which is that of :data:`TODAY`.
        said: what is not as it should be, for people.
        names: of the tokens in ``stops``.
        tags: special tokens that mark a thought.
    """

    last: int
    stops: Mapping[int, Sequence[str]]
    end: str = ""
    stop_text: str = ""
    lead: str = ""
    blank: str = ""
    anchor: str = ""
    opened: str = ""
    dated: bool = False
    said: str = ""
    names: Mapping[int, str] = field(default_factory=dict)
    tags: frozenset[int] = frozenset()

    def table(self) -> dict[str, Any]:
        """For a manifest: which token is taught, at which generation stops and who names it, and what else holds."""
        written = f"{self.end}{self.names[self.last]}"
        return {
            "taught": written,
            "stops": {self.names[token]: list(by) for token, by in self.stops.items()}
            | ({self.stop_text: ["template"]} if self.stop_text else {}),
            **({"opens": self.opened} if self.opened else {}),
            **({"leads": self.blank + self.lead} if self.blank + self.lead else {}),
            **({"date": TODAY.date().isoformat()} if self.dated else {}),
            **({"said": self.said} if self.said else {}),
        }

    def written(self, completion: str) -> str:
        """What is to be written behind the generation prompt, without the end.

        A thought that the prompt has opened is not opened again; where there is none, it is closed first.
        """
        if not self.opened:
            lead = "" if self.lead.strip() and thoughts.marks(completion) else self.lead
            return f"{self.blank}{lead}{completion}"
        opening, closing = self.opened.strip(), thoughts.closing(self.opened)
        kind = thoughts.kind(completion)
        if not kind:
            return f"{self.blank}{closing}\n\n{completion}"
        thought_marks = thoughts.marks(completion)
        if any(thoughts.closing(completion[m.begin : m.end]) != closing for m in thought_marks if m.does == "open") or (
            kind == "unopened" and closing not in completion
        ):
            completion = thoughts.tagged(completion, opening, closing)
        if completion.lstrip().startswith(opening):
            rest = completion.lstrip()[len(opening) :]
            completion = rest.lstrip("\n") if self.opened.endswith("\n") else rest
        return f"{self.blank}{completion}"

    def said_by(self, text: str) -> str:
        """A turn's text from what was generated: with the thought that the prompt opened, without lead and blank."""
        text = text.removeprefix(self.blank).removesuffix(self.end)
        if self.opened and not (text.lstrip().startswith(self.opened.strip())):
            return f"{self.opened}{text}"
        return text.removeprefix(self.lead)


_KNOWN: WeakKeyDictionary[Any, tuple[str, Turns]] = WeakKeyDictionary()


def of(tokenizer: PreTrainedTokenizerBase) -> Turns:
    """The turns of a tokenizer that :func:`dcod.traces.prompts.load_tokenizer` gave, or of one without a folder."""
    template, learnt = _KNOWN.get(tokenizer) or ("", None)
    return learnt if learnt and template == str(tokenizer.chat_template) else learn(tokenizer, None)


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, str]],
    *,
    generate: bool,
    day: dt.datetime = TODAY,
) -> str:
    """A conversation through the chat template, on a fixed day.

    Raises:
        TemplateError: the template refuses it.
    """
    try:
        return str(
            tokenizer.apply_chat_template(
                contents.shaped(tokenizer, messages),
                chat_template=_on(day, tokenizer.get_chat_template()),
                tokenize=False,
                add_generation_prompt=generate,
            )
        )
    except Exception as error:  # whatever a template does
        roles = ", ".join(message["role"] for message in messages)
        why = one_line(error)[:200] or type(error).__name__
        refused = TemplateError(
            f"the student's chat template refuses {roles}: {why}; student.chat_template=plain takes any"
        )
        refused.of_template = why
        raise refused from None


@lru_cache(64)
def _on(day: dt.datetime, template: str) -> str:
    """A template for which it is always the same day: what it asks for the date is a macro in front of it."""
    if "strftime_now" not in template:
        return template
    codes = [*("%-" + code for code in "dmyHIMSj"), *("%" + code for code in "aAbBcdDeFGHIjmMpRSTuUVwWxXyYzZf%")]
    steps = "".join(f"|replace({code!r}, {day.strftime(code)!r})" for code in codes)
    return f"{{% macro strftime_now(form) %}}{{{{ form{steps} }}}}{{% endmacro %}}\n{template}"


def learn(tokenizer: PreTrainedTokenizerBase, folder: Path | None) -> Turns:
    """Reads turns off the template, and off the files of a folder.

    Raises:
        UserError: nothing ends a turn, or what the user says is left out.
    """
    names = {token: str(tokenizer.convert_ids_to_tokens(token)) for token in specials(tokenizer)}
    tags = _of_thoughts(names)
    named = _named(tokenizer, folder, names)
    said_by = [{"role": "user", "content": _USER}, {"role": "assistant", "content": _SAID}]
    prompt, full = _asked(tokenizer, folder), _tried(tokenizer, said_by, False)
    more = _tried(tokenizer, [*said_by, {"role": "user", "content": _MORE}], False)
    behind = full.rpartition(_SAID)[2] if _SAID in full else ""  # else what it writes behind the user's
    between = more.partition(_SAID)[2].partition(_MORE)[0]
    sure = {t: n for t, n in names.items() if t in named or (t not in tags and _MARKS.fullmatch(n))}
    others = {t: n for t, n in names.items() if t not in tags}
    always = bool(full) and _tried(tokenizer, said_by, True) == full  # perhaps it always writes a generation prompt
    text, last, stop_text = _ending(behind, sure) or ("", None, "")
    if last is None and always:
        text, last, stop_text = _ending(_common(behind, between), others) or ("", None, "")
    elif last is None:
        text, last, stop_text = _ending(behind, others) or _several(tokenizer, behind)
    if last is None and not stop_text:  # of a last turn none; of another before the next one
        text, last, stop_text = _ending(between, sure) or ("", None, "")
    said = ""
    stops: dict[int, list[str]] = {}
    if last is not None:
        stops[last] = ["template"]
    for token, by in named.items():
        stops.setdefault(token, []).extend(by)
    if last is None:
        last = tokenizer.eos_token_id
        if last is None:
            raise UserError(
                f"student {folder or tokenizer.name_or_path}: its tokenizer has no end-of-sequence token, and its chat "
                "template ends no turn; set eos_token in tokenizer_config.json"
            )
        stops.setdefault(int(last), ["tokenizer"])
        if not stop_text:
            said = f"the chat template writes no end of turn: {tokenizer.convert_ids_to_tokens(last)} is taught"
    names |= {token: str(tokenizer.convert_ids_to_tokens(token)) for token in stops}
    blank, anchor = _joints(tokenizer, prompt)
    lead = full[len(prompt) :].partition(_SAID)[0] if prompt and full.startswith(prompt) else ""
    opened = thoughts.opened(prompt)
    if opened or any(mark.does != "answer" for mark in thoughts.marks(lead)):
        lead = ""
    other = dt.datetime(2031, 11, 22)
    dated = bool(prompt) and _tried(tokenizer, said_by[:1], True, other) != prompt
    learnt = Turns(
        int(last), stops, text, stop_text, lead, blank, anchor, opened, dated, said,
        {token: names[token] for token in stops}, frozenset(tags),
    )  # fmt: skip
    _KNOWN[tokenizer] = (str(tokenizer.chat_template), learnt)
    return learnt


def specials(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids that are no text."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return sorted({*(i for i, token in added.items() if token.special), *tokenizer.all_special_ids})


def marks_of(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The student's own tokens that may stand at the end of a text and are no part of it, longest first."""
    turns = of(tokenizer)
    names = {
        name for token in specials(tokenizer) if _ENDING.search(name := str(tokenizer.convert_ids_to_tokens(token)))
    }
    names -= {str(tokenizer.convert_ids_to_tokens(token)) for token in turns.tags}
    names |= {turns.names[token] for token in turns.stops}
    return tuple(sorted({*names, *filter(None, [turns.stop_text])}, key=lambda name: (-len(name), name)))


def tokenized(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The token ids of a text that stands in the middle of others: nothing is put around it."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def ended(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> int:
    """How many of the first tokens are a whole turn, its end included; 0 where it does not end."""
    turns = of(tokenizer)
    first = next((place + 1 for place, token in enumerate(ids) if token in turns.stops), 0)
    if turns.stop_text:
        tail = len(tokenized(tokenizer, turns.stop_text)) + 4
        for place in range(1, len(ids[: first or None]) + 1):
            if turns.stop_text in str(tokenizer.decode(list(ids[max(0, place - tail) : place]))):
                return place
    return first


def text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a turn from its tokens: no special tokens, but the tags of a thought, the prompt's own among them."""
    turns = of(tokenizer)
    kept = turns.tags - set(turns.stops)
    if kept.intersection(ids):
        dropped = set(specials(tokenizer)) - kept
        text = str(tokenizer.decode([token for token in ids if token not in dropped]))
    else:
        text = str(tokenizer.decode(list(ids), skip_special_tokens=True))
    if turns.stop_text:
        text = text.partition(turns.stop_text)[0]
    return turns.said_by(text)


def settle(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Lets a saved model folder stop by itself where dcod stops: in config.json and generation_config.json."""
    turns = of(tokenizer)
    ends = [turns.last, *(token for token in turns.stops if token != turns.last)]
    value: int | list[int] = ends[0] if len(ends) == 1 else ends
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if name == "generation_config.json" and not path.is_file():
            settings = {"pad_token_id": turns.last if tokenizer.pad_token_id is None else tokenizer.pad_token_id}
        settings["eos_token_id"] = value
        nested = settings.get("text_config")
        if isinstance(nested, dict) and "eos_token_id" in nested:
            nested["eos_token_id"] = value
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _asked(tokenizer: PreTrainedTokenizerBase, folder: Path | None) -> str:
    """A question ready to be answered; empty where the template refuses it alone.

    Raises:
        UserError: the template leaves it out.
    """
    prompt = _tried(tokenizer, [{"role": "user", "content": _USER}], True)
    if prompt and _USER not in prompt:
        raise UserError(
            f"student {folder or tokenizer.name_or_path}: its chat template leaves out what the user says, as text and "
            "as typed parts; take the template that belongs to the model, or set student.chat_template=plain"
        )
    return prompt


def _of_thoughts(names: Mapping[int, str]) -> set[int]:
    """The special tokens that are tags of a thought or of an answer, or parts of such."""
    harmony = "<|channel|>" in names.values()
    return {t for t, n in names.items() if thoughts.marks(n) or _answers(n) or (harmony and _KEPT.fullmatch(n))}


def _answers(name: str) -> bool:
    return bool(re.fullmatch(r"<\|?/?(?:(?:begin|end)_of_solution|(?:start|end)_response|channel)\|?>", name, re.I))


def _named(tokenizer: PreTrainedTokenizerBase, folder: Path | None, names: Mapping[int, str]) -> dict[int, list[str]]:
    """Ends that files and tokenizer name. An id that is an ordinary token here is of another tokenizer."""
    by_token: dict[int, list[str]] = {}
    if tokenizer.eos_token_id is not None:
        by_token[int(tokenizer.eos_token_id)] = ["tokenizer"]
    for name in ("generation_config.json", "config.json") if folder else ():
        path = Path(str(folder)) / name
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        data = data if isinstance(data, dict) else {}
        nested = data.get("text_config")
        value = data.get("eos_token_id", nested.get("eos_token_id") if isinstance(nested, dict) else None)
        for token in value if isinstance(value, list) else [value]:
            if type(token) is int and token in names and not thoughts.marks(names[token]):
                by_token.setdefault(token, []).append(name)
    return by_token


def _tried(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]], generate: bool, day: dt.datetime = TODAY
) -> str:
    try:
        return render(tokenizer, messages, generate=generate, day=day)
    except TemplateError:
        return ""


Ending = tuple[str, int | None, str]  # what is taught in front of the last token, this token, and an end of several


def _ending(behind: str, ends: Mapping[int, str]) -> Ending | None:
    """The first of these tokens behind a text."""
    places = sorted((behind.index(name), token) for token, name in ends.items() if name and name in behind)
    if not places:
        return None
    at, token = places[0]
    return behind[:at], token, ""


def _common(one: str, other: str) -> str:
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _several(tokenizer: PreTrainedTokenizerBase, behind: str) -> Ending:
    """An end that is text: of one token, or of several."""
    text = behind.strip()
    ids = tokenized(tokenizer, text) if text else []
    if not ids:
        return "", None, ""
    return (behind[: behind.index(text)], int(ids[0]), "") if len(ids) == 1 else (behind.rstrip(), None, text)


def _joints(tokenizer: PreTrainedTokenizerBase, prompt: str) -> tuple[str, str]:
    """The blank at a prompt's end that belongs to what follows, and the text that completions are tokenised behind."""
    ids = partial(tokenized, tokenizer)

    def apart(front: str, blank: str) -> bool:
        return any(ids(front + blank + text) != ids(front) + ids(blank + text) for text in _BEHIND)

    front = prompt.rstrip(" \t")
    blank = prompt[len(front) :]
    if not prompt or not apart(prompt, ""):
        return "", ""
    if blank and not apart(front, blank):
        return blank, ""
    anchor = (front if blank else prompt).rpartition(_USER)[2]
    begin = ids(anchor)
    holds = all(ids(anchor + blank + text)[: len(begin)] == begin for text in _BEHIND)
    return blank, anchor if holds else ""
