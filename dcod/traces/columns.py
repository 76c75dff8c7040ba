"""What the columns of a row may be, by their names and by what stands in them: so that none is left out unseen.

A reader names the columns that it takes. Of the others, one that looks like a further answer, a thought, a reference, a
system prompt or a context changes what would be taught; :func:`overlooked` finds it. Names decide by their words, texts
by their marks and length. What only repeats what was read is no loss, nor is what says when, where or how long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, NamedTuple

from dcod.grading import thoughts
from dcod.traces import templates

Kind = Literal["answer", "thought", "gold", "system", "context", "media", "tools"]
_DEEPEST, _MOST = 8, 2000  # levels and values that are looked at in one column
_REQUEST = 2  # objects in one another that are looked into for tools
_SENTENCE = 20  # characters from which a text may be an answer or a thought
_LONG = 240  # characters from which a text is one whatever its name
_SHORT = 100  # characters of an answer that somebody else's grader found
_SPLIT = re.compile(r"[^0-9A-Za-z]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=\d)")
_SAFE = frozenset(
    re.findall(
        r"\w+",
        "id ids uuid guid uid url uri link source sources origin dataset type types category categories domain subject "
        "topic topics difficulty level grade split language lang name names version date time timestamp created hash "
        "license licence tag tags author index idx count counts num number length len size tokens cost usage model "
        "backend method error status task tasks metric metrics filter config path file filename format stage step seed "
        "temperature quality rate ratio score scores rank percent difficulties valid is has used year exam test tests "
        "cases starter code reason reasons comment comments feedback critique judgement judgment log logs extraction "
        "comparison mode entry generator template function "
        "fn logprob logprobs prob probs embedding embeddings until gen args provider",
    )
)
_OWN = frozenset(("predicted", "pred", "prediction", "predictions", "extracted", "parsed", "filtered", "processed"))
_WORDS: dict[Kind, frozenset[str]] = {
    "gold": frozenset(("gold", "truth", "target", "label", "reference", "expected", "correct", "answer", "answers",
                       "key", "gts", "gt", "golds", "targets", "references", "final")),
    "system": frozenset(("system", "instruction", "instructions", "developer", "persona", "guidelines", "sys")),
    "context": frozenset(("context", "contexts", "passage", "document", "documents", "story", "background", "premise",
                          "history", "input", "inputs", "query", "question", "prompt", "problem", "body", "options",
                          "choices", "messages", "conversation", "conversations", "dialog", "dialogue", "turns", "hint",
                          "hints", "fewshot", "exemplars", "article", "table", "facts",
                          "evidence", "user", "human", "shots", "demonstrations",
                          "examples", "paragraph", "paragraphs", "text", "stem", "preamble", "knowledge")),
    "thought": frozenset(("thought", "thoughts", "think", "thinking", "reasoning", "rationale", "cot", "trajectory",
                          "trajectories", "analysis", "scratchpad", "reflection", "explanation", "trace", "chain",
                          "steps", "thinks", "rationales", "cots")),
    "answer": frozenset(("completion", "completions", "response", "responses", "output", "outputs", "generation",
                         "generations", "generated", "solution", "solutions", "attempt", "attempts", "reply", "chosen",
                         "rejected", "rollout", "rollouts", "candidate", "candidates", "result", "results",
                         "assistant", "content", "sample", "samples", "gpt", "proof", "continuation")),
}  # fmt: skip
_MEDIA = frozenset(
    ("image", "images", "video", "videos", "audio", "audios", "picture", "pictures", "img", "imgs", "pixel")
)
_TOOLS = frozenset(("tools", "functions"))
_PLACES = frozenset(("url", "uri", "link", "path", "file", "filename", "source"))  # as good as the picture there
_SOLVED = re.compile(r"\\boxed\s*\{|####\s*\S")
_ALPACA = re.compile(r"### (?:Instruction|Input|Response|Output):")
_BLANK = re.compile(r"\s+")
_TURN = frozenset(("role", "from", "content", "value"))
_NAMED = frozenset(("role", "from", "type", "id", "name"))  # keys of a turn or part that say nothing of its text
_TAKEN: dict[str, Kind] = {
    "prompt": "context", "input": "context", "history": "context", "system": "system", "thought": "thought",
    "gold": "gold",
}  # fmt: skip
NONE = frozenset(
    ("", "-", "--", "none", "null", "nan", "na", "n/a", "n.a.", "nil", "proof", "notfound", "not found", "not_found",
     "no answer", "no_answer", "noanswer", "unknown", "undefined answer", "see solution", "see the solution", "tbd",
     "missing", "not available", "not applicable", "unavailable", "open", "open-ended", "no final answer", "?", "??",
     "proof required", "proof problem", "no reference", "not provided")
)  # fmt: skip


class Overlooked(NamedTuple):
    """A column that nobody reads, and what it looks like."""

    column: str
    kind: Kind


def is_none(value: Any) -> bool:
    """Whether what stands as a reference answer says that there is none."""
    if isinstance(value, float):
        return value != value
    return isinstance(value, str) and value.strip().strip(".!\"'()[]").lower() in NONE


def words(name: str) -> frozenset[str]:
    """The words of a column's name, in small letters."""
    return frozenset(part.lower() for part in _SPLIT.split(name) if part)


def flat(text: str) -> str:
    """A text as it is compared with others: blanks are one."""
    return _BLANK.sub(" ", text).strip()


@lru_cache(4096)
def kinds(name: str) -> tuple[tuple[Kind, ...], bool, bool]:
    """What a name may say: the kinds its words are of, whether they also say what is left out, and a grader's own."""
    parts = words(name.rpartition(".")[2])
    return (
        tuple(kind for kind, known in _WORDS.items() if parts & known),
        bool(parts & _SAFE),
        bool(parts & _OWN),
    )


@lru_cache(4096)
def unsaid(name: str) -> Literal["media", "tools"] | None:
    """Whether a column of this name would hold what no text can say."""
    parts = words(name.rpartition(".")[2])
    if parts & _MEDIA and not parts & (_SAFE - _PLACES):
        return "media"
    return "tools" if parts & _TOOLS and not parts & _SAFE else None


def beside(row: Mapping[str, Any], used: Iterable[str]) -> Iterator[Overlooked]:
    """What no text can say, in the objects that are read: such as the tools of a request."""
    for name in used:
        if type(row.get(name)) is dict:
            yield from _unsaid(name, row[name], 0)


def _unsaid(name: str, value: Mapping[str, Any], level: int) -> Iterator[Overlooked]:
    for key, inner in value.items():
        if (kind := unsaid(key)) and _says(inner):
            yield Overlooked(f"{name}.{key}", kind)
        elif type(inner) is dict and level < _REQUEST:
            yield from _unsaid(f"{name}.{key}", inner, level + 1)


def _says(value: Any) -> bool:
    """Whether a value of text, list, object or bytes says anything."""
    if isinstance(value, str):
        return value.strip() not in ("[]", "{}") and not is_none(value)
    return isinstance(value, (list, dict, bytes)) and bool(value)


class Said:
    """What was read of a row, to be compared with what was not."""

    def __init__(self, prompts: Iterable[str], completions: Iterable[str], gold: bool, model: bool, answer: str = ""):
        """Begins with what the traces of a row say.

        Args:
            prompts: the texts of their turns.
            completions: of the same row.
            gold: whether a reference answer was read, or that there is none.
            model: whether the completion came from a column that only a model's text has.
            answer: the reference, empty for none.
        """
        self._texts, self.completions, self.answer = list(prompts), list(completions), answer
        self.gold, self.model = gold, model
        self._answers = list[str]()
        self._prompts = self._whole = ""

    def asks(self, text: str) -> bool:
        """Whether a text stands in the prompt itself: a short one as lines of their own, not by chance in others."""
        if len(text) < _SENTENCE:
            return any(f"\n{text.strip()}\n" in f"\n{one.strip()}\n" for one in self._texts)
        self._prompts = self._prompts or "\x1f".join(map(flat, self._texts))
        return flat(text) in self._prompts

    def is_whole(self, text: str) -> bool:
        """Whether a text is the prompt in a chat template, be it one that cannot be taken apart."""
        said = flat(text)
        return self.holds(text) or (bool(templates.mark(text)) and all(flat(one) in said for one in self._texts))

    def answers(self, text: str) -> bool:
        """Whether a text stands in the completions."""
        self._answers = self._answers or [flat(one) for one in self.completions]
        said = flat(text)
        return all(said in one for one in self._answers)

    def holds(self, text: str) -> bool:
        """Whether a text stands in what was read, or is it all in a chat template or in Alpaca's words."""
        if not self._whole:
            self._whole = "\x1f".join(map(flat, (*self._texts, self.answer, *self.completions)))
        said = flat(text)
        if said in self._whole:
            return True
        parts = _ALPACA.split(templates.without_end(said))
        parts = [part for part in parts if not part.startswith("Below is an instruction")] if parts[1:] else []
        try:
            parts = parts or [turn["content"] for turn in templates.apart(text) or ()]
        except templates.RoleError:
            return False
        return bool(parts) and all(flat(part) in self._whole for part in parts)


def overlooked(row: Mapping[str, Any], used: Iterable[str], said: Said) -> Iterator[Overlooked]:
    """The columns of a row that nobody reads and that change what would be taught.

    Args:
        row: without nulls.
        used: the columns that are accounted for.
        said: what was read.
    """
    taken = set(used)
    for name, value in row.items():
        if name not in taken:
            yield from _looked(name, value, said, [_MOST])


def unused(row: Mapping[str, Any], used: Mapping[str, str], said: Said) -> Iterator[Overlooked]:
    """The columns that a format reads by their names and did not take from this row: their type is another, or another
    branch of it decided. What was taken stands in what was read.

    Args:
        row: without nulls.
        used: the column of each role.
        said: what was read.
    """
    for role, kind in _TAKEN.items():
        name = used.get(role)  # a table may have a column without a name
        value = None if name is None else row.get(name)
        if name is None or value is None or value is True or value is False:
            continue
        leaves = list(islice(_leaves(value), _MOST))
        if kind == "gold":
            taken = said.gold or is_none(value) or value in ([], {})
        elif kind == "thought":  # a word such as `on` is a setting
            taken = all(said.answers(text) for text in leaves if len(text.split()) > 1)
        else:  # put together, or apart
            taken = said.asks("".join(leaves)) or all(map(said.asks, leaves))
            taken = taken or (role == "prompt" and said.is_whole(str(value)))
        if not taken:
            yield Overlooked(name, kind)


def _leaves(value: Any) -> Iterator[str]:
    """The texts and numbers in a value, but for who speaks."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, (dict, list, tuple)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if key not in _NAMED:
                yield from _leaves(inner)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)


def of_turns(name: str, turns: Any, read: frozenset[str], said: Said) -> Iterator[Overlooked]:
    """The same of what stands in a chat's turns beside what is read there."""
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and not turn.keys() <= read and ("role" in turn or "from" in turn):
            for key, value in turn.items():
                if key == "reason" and isinstance(value, str) and len(value) >= _SENTENCE and not said.holds(value):
                    yield Overlooked(f"{name}[].{key}", "thought")
                elif key not in read and value is not None:
                    yield from _looked(f"{name}[].{key}", value, said, [_MOST])


def _looked(name: str, value: Any, said: Said, left: list[int], level: int = 0) -> Iterator[Overlooked]:
    left[0] -= 1
    if left[0] < 0 or level > _DEEPEST or value is None or value is True or value is False:
        return
    if (other := unsaid(name)) and _says(value):
        yield Overlooked(name, other)
    elif isinstance(value, str):
        if inner := _parsed(value):
            yield from _looked(name, inner, said, left, level + 1)
        elif kind := _text(name, value, said):
            yield Overlooked(name, kind)
    elif isinstance(value, (int, float)):
        named, safe, own = kinds(name)
        if "gold" in named and not (safe or own or said.gold) and not is_none(value):
            yield Overlooked(name, "gold")
    elif isinstance(value, dict):
        if level == 0 and _are_options(name, value):
            if not all(map(said.holds, value.values())):
                yield Overlooked(name, "context")
            return
        for key, inner in value.items():
            yield from _looked(f"{name}.{key}", inner, said, left, level + 1)
    elif isinstance(value, list) and value and not isinstance(value[0], (int, float)):
        if all(isinstance(item, str) for item in value) and "context" in kinds(name)[0] and not kinds(name)[1]:
            if not all(map(said.holds, value)):
                yield Overlooked(name, "context")  # such as the options of a choice, however short
            return
        for item in value:
            inside = list(_looked(name if not isinstance(item, dict) else f"{name}[]", item, said, left, level + 1))
            yield from inside
            if inside:
                return


def _are_options(name: str, value: Mapping[str, Any]) -> bool:
    """Whether an object is a context whose texts may be short, such as the options of a choice."""
    named, safe, _ = kinds(name)
    return "context" in named and not safe and bool(value) and all(isinstance(one, str) for one in value.values())


def _text(name: str, value: str, said: Said) -> Kind | None:
    """What a text looks like; None for one that is no loss."""
    text = value.strip()
    if not text:
        return None
    named, safe, own = kinds(name)
    if "gold" in named and not (safe or own or said.gold) and not is_none(text):
        if len(text) < _SENTENCE or not said.holds(text):
            return "gold"
        return None
    kind = _by_shape(text, own, safe)
    if kind is None and not safe and not own:
        kind = _by_name(named, text)
    if kind is None or said.holds(text):
        return None
    if kind == "answer" and said.model and ({"gold", "answer"} & set(named)) and not _modelled(name, text):
        return None if said.gold else "gold"  # somebody's worked solution, beside a model's text
    return kind


def _modelled(name: str, text: str) -> bool:
    """Whether a solution is a model's: by a thought in it, or by a name that no human's has."""
    parts = words(name)
    human = parts & {"solution", "solutions", "reference", "gold", "truth", "answer", "expected", "proof", "target"}
    return not human or bool(thoughts.marks(text))


def _by_shape(text: str, own: bool, safe: bool) -> Kind | None:
    if thoughts.marks(text):
        return "thought" if thoughts.kind(text) == "unclosed" else "answer"
    if templates.mark(text):
        return "context"
    if _SOLVED.search(text) and not (own and len(text) < _SHORT):
        return "answer"
    return "answer" if len(text) >= _LONG and not safe and len(text.split()) >= 30 else None


def _by_name(named: tuple[Kind, ...], text: str) -> Kind | None:
    for kind in named:
        if kind in ("system", "context") or (kind != "gold" and len(text) >= _SENTENCE):
            return kind
    return None


def _parsed(text: str) -> Any:
    """What a text of JSON holds; None for any other."""
    begin = text.lstrip()[:1]
    if begin not in ("{", "[") or len(text) > 2**20:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (dict, list)) else None


def turn_keys(*more: str) -> frozenset[str]:
    """The keys of a turn that are read, or say nothing: beside who speaks, and what."""
    return _TURN | set(more)
