"""What a row itself says of its completions: whether they are right, and whole.

Read by the names of columns and what stands there: ``is_correct: false``, ``accuracy_reward: 0.0``,
``correctness_math_verify: [true, false]`` (one a completion), ``finish_reasons``, ``is_reasoning_complete``, also where
they stand in an object (``judgement: {correct: false}``). Of several graders one that says right is enough; what is not
valid, or is said to be wrong, stays so. They are counted, and what they call wrong is not taught as right.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, NamedTuple

from dcod.traces.columns import words

Meaning = Literal["right", "valid", "wrong", "whole", "cut", "finish", "reward", ""]
_RIGHT = {
    "correct", "correctness", "verified", "accepted", "passed", "solved", "success", "successful", "verdict",
    "verification", "label", "judgement", "judgment", "judge", "judged", "grade", "graded",
}  # fmt: skip
_VALID, _WRONG = {"valid"}, {"wrong", "incorrect", "invalid", "failed"}
_PLAIN, _SCALES = {"rejected", "error", "errored"}, {"score", "rating", "reward", "prob", "probability", "logprob"}
_WHOLE = {"complete", "completed", "finished", "terminated"}
_CUT = {"truncated", "overlong", "clipped", "limit"}
_FINISH = {"finish_reason", "finish_reasons", "stop_type", "done_reason", "finishreason"}
_REWARDS = {
    "reward", "rewards", "accuracy_reward", "correctness_reward", "accuracy", "acc", "exact_match", "score",
    "verifier_score", "math_verify_score", "correct_reward", "extractive_match", "prompt_level_strict_acc",
}  # fmt: skip
_SCORES, _OF_ANSWERS = (
    {"score", "reward"},
    {"verify", "verified", "verifier", "correct", "correctness", "accuracy", "match"},
)
_NOT = {"count", "counts", "num", "rate", "ratio", "answer", "option", "options", "choice", "index", "letter", "id"}
_SAYS = dict.fromkeys(("yes", "true", "correct", "right", "valid", "pass", "passed"), True) | dict.fromkeys(
    ("no", "false", "incorrect", "wrong", "invalid", "fail", "failed", "incomplete"), False
)
_CUTS = ("length", "max_tokens", "limit", "truncated", "context_window")
_BROKEN = ("filter", "error", "abort", "cancel", "safety", "recitation", "guardrail", "prohibited", "blocklist",
           "spii", "malformed", "timeout", "refusal", "pause_turn")  # fmt: skip
_HOLDERS = {"score", "scores", "reward", "rewards", "result", "results", "eval", "evaluation", "grade", "grading",
            "judge", "judgement", "judgment", "verification", "verifier", "verdict"}  # fmt: skip
_DEEPEST = 3  # objects in one another that are looked into
_MOST = 64  # keys of an object that are looked at
_NUMBER = 20  # characters of a number that is written as text


class Verdict(NamedTuple):
    """What the flags of a completion say.

    Attributes:
        wrong: the flag that calls it wrong, where none calls it right; empty for none.
        cut: the flag by which it has no end.
        told: each flag with its value, to be counted.
    """

    wrong: str = ""
    cut: str = ""
    told: tuple[str, ...] = ()


@lru_cache(4096)
def meaning(name: str) -> Meaning:
    """What a column of this name would be a flag of; empty for none."""
    folded, parts = name.lower(), words(name)
    if folded in _FINISH or folded.replace("_", "") in _FINISH or folded in ("stopreason", "stop_reason"):
        return "finish"
    if folded in _REWARDS or (parts & _SCORES and parts & _OF_ANSWERS):
        return "reward"
    if parts & _NOT and not (parts & {"answer"} and folded.endswith(("correct", "correctness"))):
        return ""
    if folded.removeprefix("is_").removeprefix("has_") in _PLAIN:
        return "wrong"
    if parts & _WRONG and parts & _SCALES:
        return ""
    kinds: tuple[tuple[Meaning, set[str]], ...] = (
        ("cut", _CUT), ("whole", _WHOLE), ("wrong", _WRONG), ("valid", _VALID), ("right", _RIGHT),
    )  # fmt: skip
    return next((kind for kind, known in kinds if parts & known), "")


def of(row: Mapping[str, Any], used: Container[str]) -> dict[str, Any]:
    """The flags of a row in the columns that nobody reads, by name; in an object by its path."""
    flagged = {name: row[name] for name in _candidates(tuple(row)) if name not in used and is_flag(name, row[name])}
    for name, value in row.items():
        if type(value) is dict and name not in used:
            _gather(name, value, flagged, 1)
    return flagged


@lru_cache(4096)
def _candidates(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if meaning(name))


def _gather(path: str, value: Mapping[str, Any], flagged: dict[str, Any], level: int) -> None:
    """Adds the flags in an object; a score counts only among scores, and there ``value`` is one."""
    for key, inner in islice(value.items(), _MOST):
        if type(inner) is dict:
            if level < _DEEPEST:
                _gather(f"{path}.{key}", inner, flagged, level + 1)
            continue
        kind = meaning(key)
        if key == "value" and words(path) & _HOLDERS:
            inner = {"C": True, "I": False}.get(inner, inner) if isinstance(inner, str) else inner  # Inspect's letters
            if isinstance(inner, (bool, int, float)):
                flagged[f"{path}.{key}"] = inner
        elif kind and (kind != "reward" or words(path) & _HOLDERS) and is_flag(key, inner):
            flagged[f"{path}.{key}"] = inner


@lru_cache(4096)
def _is_class(name: str) -> bool:
    """Whether a number in such a column may be that of a class or an option."""
    return not words(name).isdisjoint(("label", "grade", "judge", "verdict"))


def is_flag(name: str, value: Any) -> bool:
    """Whether a column whose name may be a flag's holds one."""
    return _is_flag(meaning(name), value, _is_class(name))


def verdicts(named: Mapping[str, Any], count: int) -> list[Verdict]:
    """What the flags of a row say of each of its completions: a list holds one value each, else it is of all.

    Args:
        named: the flags by name.
        count: how many completions it holds.
    """
    return [verdict({name: _of(value, index, count) for name, value in named.items()}) for index in range(count)]


def verdict(values: Mapping[str, Any]) -> Verdict:
    """What flags say, by name."""
    told, wrong, surely, cut, right = list[str](), "", "", "", False
    for name, value in values.items():
        if value is None:
            continue
        kind = meaning(name.rpartition(".")[2].removesuffix("[*]")) or "right"
        said = _says(kind, value)
        told.append(f"{name}: {value!s:.40}")
        if kind in ("right", "reward"):
            right = right or said is True
            wrong = wrong or (told[-1] if said is False else "")
        elif said is False and kind in ("valid", "wrong"):
            surely = surely or told[-1]
        elif said is False:
            cut = cut or told[-1]
    return Verdict(surely or ("" if right else wrong), cut, tuple(told))


def has_end(reason: Any) -> bool:
    """Whether an engine's word for how a completion ended says that it did: neither the limit nor a filter broke it."""
    return _says("finish", reason) is not False


def _is_flag(kind: Meaning, value: Any, is_class: bool) -> bool:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    known = [one for one in values if one is not None]
    if not known:
        return False
    if kind == "finish":
        return all(isinstance(one, str) or (isinstance(one, dict) and "type" in one) for one in known)
    if kind == "reward":
        return all(_number(one) is not None for one in known)
    return all(
        isinstance(one, bool)
        or (isinstance(one, str) and one.strip().lower() in _SAYS)
        or (not is_class and _number(one) in (0, 1))
        for one in known
    )


def _says(kind: Meaning, value: Any) -> bool | None:
    """Yes or no; None for neither."""
    if kind == "finish":
        text = str(value.get("type") if isinstance(value, dict) else value).lower()
        return not any(word in text for word in (*_CUTS, *_BROKEN))
    number = _number(value)
    if isinstance(value, str):
        value = _SAYS.get(value.strip().lower())
    if number is not None:
        value = False if number <= 0 else True if number >= 1 else None
    if isinstance(value, bool):
        return not value if kind in ("cut", "wrong") else value
    return None


def _number(value: Any) -> float | None:
    """A number, also one that a table of texts holds."""
    if isinstance(value, str) and 0 < len(value) <= _NUMBER and value[-1:].isdecimal():
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _of(value: Any, index: int, count: int) -> Any:
    if not isinstance(value, list):
        return value
    if len(value) == count:
        return value[index]
    return value[0] if len(value) == 1 else None
