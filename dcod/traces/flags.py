"""What a row itself says of its completions: whether they are right, and whole.

Read by the names of columns and what stands there: ``is_correct: false``, ``accuracy_reward: 0.0``,
``correctness_math_verify: [true, false]`` (one a completion), ``finish_reasons``, ``is_reasoning_complete``. Of several
graders one that says right is enough. They are counted, and what all of them call wrong is not taught as right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from dcod.traces.columns import words

Meaning = Literal["right", "whole", "cut", "finish", "reward", ""]
_RIGHT = {
    "correct", "correctness", "verified", "accepted", "passed", "solved", "success", "successful", "valid", "verdict",
    "verification", "label", "judgement", "judgment",
}  # fmt: skip
_WHOLE = {"complete", "completed", "finished", "terminated"}
_CUT = {"truncated", "overlong", "clipped", "limit"}
_FINISH = {"finish_reason", "finish_reasons", "stop_type", "done_reason", "finishreason"}
_REWARDS = {
    "reward", "rewards", "accuracy_reward", "correctness_reward", "accuracy", "acc", "exact_match", "score",
    "verifier_score", "math_verify_score", "correct_reward", "extractive_match", "prompt_level_strict_acc",
}  # fmt: skip
_NOT = {"count", "counts", "num", "rate", "ratio", "answer", "option", "options", "choice", "index", "letter", "id"}
_SAYS = {"yes": True, "true": True, "correct": True, "no": False, "false": False, "incorrect": False, "wrong": False}
_CUTS = ("length", "max_tokens", "max_length", "limit", "truncated")
_BROKEN = ("content_filter", "error", "abort", "cancelled", "safety", "recitation")


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
    folded, found = name.lower(), words(name)
    if folded in _FINISH or folded.replace("_", "") in _FINISH:
        return "finish"
    if folded in _REWARDS:
        return "reward"
    if found & _NOT:
        return ""
    if found & _CUT:
        return "cut"
    if found & _WHOLE:
        return "whole"
    return "right" if found & _RIGHT or found & {"grade"} else ""


def is_flag(name: str, value: Any) -> bool:
    """Whether a column whose name may be a flag's holds one."""
    return _is_flag(meaning(name), value)


def verdicts(row: Mapping[str, Any], names: Iterable[str], count: int) -> list[Verdict]:
    """What the flags of a row say of each of its completions: a list holds one value each, else it is of all.

    Args:
        row: the row.
        names: of its flags.
        count: how many completions it holds.
    """
    return [verdict({name: _of(row[name], index, count) for name in names}) for index in range(count)]


def verdict(values: Mapping[str, Any]) -> Verdict:
    """What flags say, by name."""
    told, wrong, cut, right = list[str](), "", "", False
    for name, value in values.items():
        if value is None:
            continue
        kind = meaning(name.rpartition(".")[2].removesuffix("[*]")) or "right"
        said = _says(kind, value)
        told.append(f"{name}: {value!s:.40}")
        if kind in ("right", "reward"):
            right = right or said is True
            wrong = wrong or (told[-1] if said is False else "")
        elif said is False:
            cut = cut or told[-1]
    return Verdict("" if right else wrong, cut, tuple(told))


def _is_flag(kind: Meaning, value: Any) -> bool:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    known = [one for one in values if one is not None]
    if not known:
        return False
    if kind == "finish":
        return all(isinstance(one, str) or (isinstance(one, dict) and "type" in one) for one in known)
    if kind == "reward":
        return all(isinstance(one, (int, float)) for one in known)
    return all(isinstance(one, bool) or (isinstance(one, str) and one.strip().lower() in _SAYS) for one in known)


def _says(kind: Meaning, value: Any) -> bool | None:
    """Yes or no; None for neither."""
    if kind == "finish":
        text = str(value.get("type") if isinstance(value, dict) else value).lower()
        return not any(word in text for word in (*_CUTS, *_BROKEN))
    if isinstance(value, str):
        value = _SAYS.get(value.strip().lower())
    if isinstance(value, bool):
        return not value if kind == "cut" else value
    if isinstance(value, (int, float)):
        return False if value <= 0 else True if value >= 1 else None
    return None


def _of(value: Any, index: int, count: int) -> Any:
    if not isinstance(value, list):
        return value
    if len(value) == count:
        return value[index]
    return value[0] if len(value) == 1 else None
