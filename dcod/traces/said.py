"""Whether the student is told and taught what the messages say: held against its template and its tokens.

A template may leave a turn out, a text may hold a control token of the student, and a tokenizer may have no token for a
character or write it otherwise. Thoughts that a template drops from earlier turns, switches of thinking, blanks at the
ends and other spellings of one character (NFC, width) are no fault.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dcod.grading import thoughts
from dcod.traces import turns
from dcod.traces.refusals import RowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dcod.traces.schema import Message

_log = logging.getLogger(__name__)
_NAMED = re.compile(r"[<\[｜].{1,80}[>\]｜]", re.DOTALL)  # an added token that is a mark, and no piece of text
_SWITCH = re.compile(r"(?<!\S)/\w+")  # such as /no_think, which templates take out
_HARMLESS = ("<wide>", "<narrow>", "<noBreak>", "<compat>")  # ways to write a character that do not change what it says
CUT = "prompt_cut"  # of what ingestion counts: the chat template leaves a part of a turn out
_PART = 40  # characters of a text that are quoted


class ControlTokenError(turns.TemplateError):
    """A text of a prompt holds a control token of the student, which would be one."""

    code = "control_token"


@dataclass
class _Student:
    """What is known of a tokenizer with its template: its control tokens, and what it makes of some roles."""

    template: str
    control: dict[int, str]
    added: re.Pattern[str]
    own: set[int] = field(default_factory=set)  # control tokens that no completion may hold
    rendered: dict[tuple[str, ...], tuple[int | None, Counter[int]]] = field(default_factory=dict)


_KNOWN: WeakKeyDictionary[Any, _Student] = WeakKeyDictionary()


def check_turns(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], ids: Sequence[int]) -> None:
    """Refuses a prompt with a turn that the template leaves out, or with control tokens that are not the template's.

    Args:
        tokenizer: of the student.
        prompt: what is asked.
        ids: its tokens.

    Raises:
        TemplateError: a turn is left out.
        ControlTokenError: a text holds a control token.
    """
    student, roles = _of(tokenizer), tuple(message["role"] for message in prompt)
    if roles not in student.rendered:
        student.rendered[roles] = _plain(tokenizer, student, roles)
    left_out, usual = student.rendered[roles]
    if left_out is not None:
        raise turns.TemplateError(
            f"the student's chat template leaves the {roles[left_out]}'s turn out (turn {left_out + 1} of "
            f"{', '.join(roles)}); put what it says into the last user's turn, or set student.chat_template=plain"
        )
    further = Counter(filter(student.control.__contains__, ids)) - usual
    for token in further:
        name = student.control[token]
        for message in prompt:
            at = message["content"].lower().find(name.lower())
            if at >= 0:
                raise ControlTokenError(
                    f"{name} is a control token of the student, and would be one in the {message['role']}'s turn "
                    f"{_quoted(message['content'], at)}; write it otherwise, or take it out"
                )


def check_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], ids: Sequence[int]) -> bool:
    """Whether a prompt's tokens say all that its messages say, white space apart; not where the template cuts a turn.

    Raises:
        RowError: ``template`` (nothing is left of a turn) or ``other_text`` (the tokenizer writes it otherwise).
    """
    said, whole = _decoded(tokenizer, ids), True
    for message in prompt:
        text, role = message["content"].strip(), message["role"]
        if text in said:
            continue
        wanted = [_squeezed(text), *([_squeezed(thoughts.without(text))] if role == "assistant" else [])]
        spelled = _squeezed(said)
        if any(one in spelled for one in wanted):
            continue
        rendered = _squeezed(turns.render(tokenizer, prompt, generate=True))
        if any(one in rendered for one in wanted):
            lost = "".join(sorted(set(wanted[0]) - set(spelled))) or text
            raise RowError(
                "other_text", f"the student's tokenizer does not spell {lost[:_PART]!r} of the {role}'s turn"
            )
        if not any(_squeezed(line) in rendered for line in text.splitlines() if line.strip()):
            raise RowError("template", f"the student's chat template leaves the {role}'s turn out: {text[:_PART]!r}")
        whole = False
    return whole


def warn(
    what: str,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Sequence[Message]],
    encoded: Sequence[Sequence[int]],
) -> None:
    """Says of how many problems the student sees something else than they say."""
    faults = []
    for prompt, ids in zip(asked, encoded, strict=True):
        try:
            whole = check_prompt(tokenizer, prompt, ids)
            faults += [] if whole else ["the student's chat template leaves a part of a turn out"]
        except RowError as error:
            faults.append(error.message)
    if faults:
        _log.warning(
            "%s: %d of %d prompts do not reach the student as they are: %s", what, len(faults), len(asked), faults[0]
        )


def check_completion(tokenizer: PreTrainedTokenizerBase, completion: str, ids: Sequence[int]) -> None:
    """Refuses a completion whose tokens say another text, or hold control tokens of the student's prompts.

    Raises:
        RowError: ``end_inside``, ``other_text`` or ``control_token``.
    """
    student, ends = _of(tokenizer), turns.of(tokenizer)
    if inside := sum(map(ends.names.__contains__, ids)) - 1:
        raise RowError("end_inside", f"the text holds an end of turn ({', '.join(ends.names.values())}) {inside} times")
    for token in student.own.intersection(ids[:-1]) - set(ends.stops):
        if student.control[token].lower() in completion.lower():
            raise RowError("control_token", f"{student.control[token]} in the text is a control token of the student")
    said = _decoded(tokenizer, ids)
    if completion.strip() in said:
        return
    said = _decoded(tokenizer, ids[:-1])
    one, other = (_spelled(student, text) for text in (said, ends.written(completion) + ends.end))
    if one != other:
        at = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))
        raise RowError(
            "other_text",
            f"the student's tokens spell {_quoted(one, at)} where the text is {_quoted(other, at)}: its tokenizer "
            "has no token for it, or normalises it",
        )


def _of(tokenizer: PreTrainedTokenizerBase) -> _Student:
    known, template = _KNOWN.get(tokenizer), str(tokenizer.chat_template)
    if known is None or known.template != template:
        known = _KNOWN[tokenizer] = _learn(tokenizer, template)
    return known


def _learn(tokenizer: PreTrainedTokenizerBase, template: str) -> _Student:
    tags, added = turns.of(tokenizer).tags, {i: str(t) for i, t in tokenizer.added_tokens_decoder.items()}
    names = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in turns.specials(tokenizer)}
    marks = {token: name for token, name in added.items() if _NAMED.fullmatch(name)}
    pattern = "|".join(re.escape(name) for name in sorted({*added.values(), *names.values()}, key=len, reverse=True))
    student = _Student(template, {}, re.compile(rf"\s{{0,16}}({pattern or '(?!)'})\s{{0,16}}"))
    written = set(_written(tokenizer, ("user",))[1])
    student.control = {t: n for t, n in (names | {t: marks[t] for t in written & set(marks)}).items() if t not in tags}
    named = {str(token) for token in tokenizer.special_tokens_map.values() if not isinstance(token, list)}
    student.own = {t for t, name in student.control.items() if t in written or name in named}
    return student


def _plain(
    tokenizer: PreTrainedTokenizerBase, student: _Student, roles: tuple[str, ...]
) -> tuple[int | None, Counter[int]]:
    """The first turn of some roles that the template leaves out, and the control tokens that it writes itself."""
    text, ids = _written(tokenizer, roles)
    left_out = next((place for place in range(len(roles)) if text and _mark(place) not in text), None)
    return left_out, Counter(filter(student.control.__contains__, ids))


def _written(tokenizer: PreTrainedTokenizerBase, roles: tuple[str, ...]) -> tuple[str, list[int]]:
    messages = [{"role": role, "content": _mark(place)} for place, role in enumerate(roles)]
    try:
        text = turns.render(tokenizer, messages, generate=True)
    except turns.TemplateError:
        return "", []
    return text, turns.tokenized(tokenizer, text)


def _mark(place: int) -> str:
    return f"Qturn{place}said7"


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of tokens with the special ones among them, as they are, without the cleaning up of older tokenizers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return str(backend.decode(list(ids), skip_special_tokens=False))
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def _same(text: str) -> str:
    """A text in one spelling of its characters."""
    if text.isascii():
        return text
    return "".join(
        unicodedata.normalize("NFKC", one) if unicodedata.decomposition(one).startswith(_HARMLESS) else one
        for one in unicodedata.normalize("NFC", text)
    )


def _squeezed(text: str) -> str:
    return "".join(_SWITCH.sub("", _same(text)).split())


def _spelled(student: _Student, text: str) -> str:
    """A text without white space at its ends and beside added tokens, where tokenizers put or take one."""
    return student.added.sub(r"\1", _same(text)).strip()


def _quoted(text: str, at: int) -> str:
    return repr(text[max(0, at - _PART // 2) : at + _PART])
