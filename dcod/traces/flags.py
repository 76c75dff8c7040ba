"""What a row itself says of its completions: whether they are right, and whole.

Read by the names of columns and what stands there: ``is_correct: false``, ``accuracy_reward: 0.0``,
``correctness_math_verify: [true, false]`` (one a completion), ``finish_reasons``, ``is_reasoning_complete``, also where
they stand in an object (``judgement: {correct: false}``). Of several graders one that says right is enough; what is not
valid, or is said to be wrong, stays so. They are counted, and what they call wrong is not taught as right.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, NamedTuple

from dcod.traces.columns import words

Meaning = Literal["right", "valid", "wrong", "whole", "cut", "finish", "reward", ""]
_RIGHT = {
    "correct", "correctness", "verified", "accepted", "passed", "solved", "success", "successful", "verdict",
    "verification", "label", "judgement", "judgment", "judge", "judged", "grade", "graded", "evaluation", "outcome",
    "approved", "resolved",
}  # fmt: skip
_LOOSE = {  # which say so of a completion where they are a column, or stand among scores
    "pass", "passes", "passing", "match", "matches", "matched", "matching", "verify", "right", "equivalent", "equal",
    "equals", "agrees",
}  # fmt: skip
_NEGATED = {"no", "not", "non"}
_VALID, _WRONG = {"valid"}, {"wrong", "incorrect", "invalid", "failed"}
_PLAIN, _SCALES = {"rejected", "error", "errored"}, {"score", "rating", "reward", "prob", "probability", "logprob"}
_WHOLE = {"complete", "completed", "finished", "terminated"}
_CUT = {"truncated", "overlong", "clipped", "limit"}
_FINISH = {"finish_reason", "finish_reasons", "stop_type", "done_reason", "finishreason"}
_REWARDS = {
    "reward", "rewards", "accuracy_reward", "correctness_reward", "accuracy", "acc", "exact_match", "score",
    "verifier_score", "math_verify_score", "correct_reward", "extractive_match", "prompt_level_strict_acc", "scores",
    "accs", "em", "final_reward", "outcome_reward", "acc_reward", "answer_reward", "rule_reward", "accuracy_rewards",
}  # fmt: skip
_SCORES, _OF_ANSWERS = (
    {"score", "scores", "reward", "rewards"},
    {"verify", "verified", "verifier", "correct", "correctness", "accuracy", "match"},
)
_NOT = {"count", "counts", "num", "rate", "ratio", "answer", "option", "options", "choice", "index", "letter", "id"}
_SAYS = dict.fromkeys(
    ("yes", "true", "correct", "right", "valid", "pass", "passed", "accepted", "equivalent", "match", "ok"), True
) | dict.fromkeys(
    ("no", "false", "incorrect", "wrong", "invalid", "fail", "failed", "incomplete", "rejected", "not correct",
     "not equivalent", "mismatch", "no match", "wrong answer", "runtime error", "time limit exceeded"), False
)  # fmt: skip
_CUTS = ("length", "max_tokens", "limit", "truncated", "context_window")
_BROKEN = ("filter", "error", "abort", "cancel", "safety", "recitation", "guardrail", "prohibited", "blocklist",
           "spii", "malformed", "timeout", "refusal", "pause_turn")  # fmt: skip
_HOLDERS = {"score", "scores", "reward", "rewards", "result", "results", "eval", "evaluation", "grade", "grading",
            "judge", "judgement", "judgment", "verification", "verifier", "verdict"}  # fmt: skip
_DEEPEST = 3  # objects in one another that are looked into
_MOST = 64  # keys of an object that are looked at
_NUMBER = 20  # characters of a number that is written as text
_LONGEST = 2**16  # characters of an object that is written as text
_PENALTY = -0.5  # a reward that graders give; another number below 0 that is no whole one is a reward model's


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
    kind: Meaning = next((kind for kind, known in kinds if parts & known), "")
    several = any(part.isdigit() and part != "1" for part in parts)  # pass@8 is of other completions, too
    if not kind and parts & _LOOSE and not several:
        kind = "right"
    return "wrong" if kind == "right" and parts & _NEGATED else kind


def of(row: Mapping[str, Any], used: Container[str]) -> dict[str, Any]:
    """The flags of a row in the columns that nobody reads, by name; in an object by its path."""
    flagged = {name: row[name] for name in _candidates(tuple(row)) if name not in used and is_flag(name, row[name])}
    for name, value in row.items():
        within = _object(value, name not in used)
        if within:
            _gather(name, within, flagged, 1, name in used)
        elif type(value) is list and value and all(type(one) is dict for one in value):
            said = value[-1:] if {"role", "from"} & value[-1].keys() else value  # of a chat, its last turn
            _gather(
                f"{name}[*]", {key: [one.get(key) for one in said] for key in said[0]}, flagged, _DEEPEST, name in used
            )
    return flagged


def _object(value: Any, written: bool) -> dict[str, Any] | None:
    """An object, or a map out of Parquet; where it may be ``written``, also as JSON; None for anything else."""
    if type(value) is dict:
        return value
    if written and type(value) is str and value[:1] == "{" and len(value) <= _LONGEST:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
        return value if type(value) is dict else None
    if type(value) is list and value and all(type(one) is tuple and len(one) == 2 for one in value):
        return {str(key): inner for key, inner in value}
    return None


@lru_cache(4096)
def _candidates(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if meaning(name))


def _gather(path: str, value: Mapping[str, Any], flagged: dict[str, Any], level: int, read: bool) -> None:
    """Adds the flags in an object; a score counts only among scores, and there ``value`` is one.

    Args:
        path: of the object.
        value: the object.
        flagged: what is added to.
        level: how deep it stands.
        read: whether somebody reads its column: there only a plain word on the answer is a flag.
    """
    among = bool(words(path) & _HOLDERS)
    for key, inner in islice(value.items(), _MOST):
        if within := _object(inner, not read):
            if level < _DEEPEST:
                _gather(f"{path}.{key}", within, flagged, level + 1, read)
            continue
        kind = meaning(key)
        if key == "value" and among and not read:
            inner = {"C": True, "I": False}.get(inner, inner) if isinstance(inner, str) else inner  # Inspect's letters
            if isinstance(inner, (bool, int, float)):
                flagged[f"{path}.{key}"] = inner
        elif kind and is_flag(key, inner) and _counts(key, kind, inner, among, read):
            flagged[f"{path}.{key}"] = inner


def _counts(key: str, kind: Meaning, value: Any, among: bool, read: bool) -> bool:
    """Whether a flag in an object is one of the completion."""
    if read:
        named = not words(key).isdisjoint(_RIGHT | _WRONG | _VALID)
        return kind in ("right", "wrong", "valid") and named and not _is_class(key)
    plain = all(isinstance(one, bool) for one in (value if isinstance(value, list) else [value]))
    if kind == "reward":
        return among or plain
    return among or kind != "right" or not words(key).isdisjoint(_RIGHT) or key.lower().startswith("is_")


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
    return [verdict({name: _of(name, value, index, count) for name, value in named.items()}) for index in range(count)]


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
        return all(isinstance(one, bool) or _is_verdict(_number(one)) for one in known)
    return all(
        isinstance(one, bool)
        or (isinstance(one, str) and _word(one) in _SAYS)
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
        value = _SAYS.get(_word(value))
    if number is not None:
        value = False if number <= 0 else True if number >= 1 else None
    if isinstance(value, bool):
        return not value if kind in ("cut", "wrong") else value
    return None


def _word(value: str) -> str:
    return value.strip().lower().replace("_", " ")


def _is_verdict(score: float | None) -> bool:
    """Whether a score may say right or wrong; a reward model's is any real number, and says neither."""
    return score is not None and (score == _PENALTY or score.is_integer() or 0 < score < 1)


def _number(value: Any) -> float | None:
    """A number, also one that a table of texts holds."""
    if isinstance(value, str) and 0 < len(value) <= _NUMBER and value[-1:].isdecimal():
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _of(name: str, value: Any, index: int, count: int) -> Any:
    if not isinstance(value, list):
        return value
    if len(value) == count:
        return value[index]
    alike = bool(value) and all(one == value[0] for one in value)  # several graders of one mind
    return value[0] if len(value) == 1 or (alike and "[*]" not in name) else None
