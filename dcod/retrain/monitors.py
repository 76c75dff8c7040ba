"""Drift, as figures: of the teacher (new traces against old), of the student (its own answers), of the evaluator.

Pure functions. Each figure is a number of the run that a series is made of; :func:`warnings` names those beyond the
limits of ``retrain.limits``. Whether a run trains is dcod.retrain.decide's; whether arms are compared anew follows
:func:`moved` among others (dcod.retrain.arms).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Literal

import numpy as np
from scipy.special import rel_entr

from dcod.config.retrain import LimitsConfig
from dcod.evaluate import statistics
from dcod.objective.weighting import octaves
from dcod.traces import Trace
from dcod.traces.scored import ScoredTrace

Answers = Mapping[str, Mapping[str, str]]  # by problem: what was said (a digest), and the outcome


def teacher(new: Sequence[str], old: Sequence[str], seed: int = 0) -> dict[str, float]:
    """Length and style of the completions of new traces against old ones.

    ``teacher_length_ratio`` is that of the median lengths; ``teacher_style`` the Jensen-Shannon divergence of the words
    in bits, less that of the same texts shuffled, which is what two samples of one teacher differ by. Numbers count as
    one word: other problems are no other style.
    """
    if not new or not old:
        return {}
    shuffled = [*new, *old]
    random.Random(seed).shuffle(shuffled)
    noise = _divergence(_words(shuffled[: len(new)]), _words(shuffled[len(new) :]))
    return {
        "teacher_length_ratio": median(map(len, new)) / max(1.0, median(map(len, old))),
        "teacher_style": _divergence(_words(new), _words(old)) - noise,
    }


def makeup(new: Sequence[Trace], old: Sequence[Trace], known: Sequence[Trace]) -> dict[str, float]:
    """Who wrote the traces, and how many a prompt has.

    ``teacher_unknown`` counts the teachers that new traces name and known ones do not, where those name any;
    ``teacher_traces_ratio`` is that of the mean traces a prompt, new against old.
    """
    ours, theirs = ({one.teacher for one in side if one.teacher and not one.own} for side in (new, known))
    figures = {"teacher_unknown": float(len(ours - theirs))} if theirs else {}
    if new and old:
        each = [len(side) / len({trace.prompt_id for trace in side}) for side in (new, old)]
        figures["teacher_traces_ratio"] = each[0] / each[1]
    return figures


def verdicts(new: Mapping[str, int], old: Mapping[str, int]) -> dict[str, float]:
    """The share of right answers among the verified rows, new and as a change; counts by reason as ingestion has."""
    shares = [right / judged for right, judged in map(_judged, (new, old)) if judged]
    if len(shares) < 2:
        return {}
    return {"teacher_right_share": shares[0], "teacher_verdict_change": shares[0] - shares[1]}


def surprisal(new: Sequence[ScoredTrace], old: Sequence[ScoredTrace], width: int) -> dict[str, float]:
    """The champion's mean entropy-centred surprisal by position, new against old, and the largest rise.

    Args:
        new: scored by the champion.
        old: the same.
        width: of the first range of positions; each further one is twice as wide.
    """
    ours, theirs = _curve(new, width), _curve(old, width)
    rises = {name: ours[name] - theirs[name] for name in ours if name in theirs}
    figures = {f"teacher_surprisal_{name}": value for name, value in ours.items()}
    return figures | ({"teacher_surprisal_rise": max(rises.values())} if rises else {})


def student(now: Answers, before: Answers) -> dict[str, float]:
    """The champion's answers on the probe, and against those of the run before."""
    if not now:
        return {}
    figures = {"probe_accuracy": _right(now.values())}
    shared = sorted(now.keys() & before.keys())
    if shared:
        figures["probe_changed"] = fmean(now[name]["said"] != before[name]["said"] for name in shared)
        figures["probe_fall"] = _right([before[name] for name in shared]) - _right([now[name] for name in shared])
    return figures


def evaluator(now: Mapping[str, str], before: Mapping[str, str]) -> dict[str, float]:
    """How many benchmarks are evaluated in another way than in the run before; by fingerprints."""
    return {"evaluators_changed": float(sum(before.get(name, mark) != mark for name, mark in now.items()))}


def warnings(figures: Mapping[str, float], limits: LimitsConfig, same_champion: bool) -> list[str]:
    """The figures beyond their limits, in words; first what :func:`moved` says.

    Args:
        figures: those of this module; what is missing is not judged.
        limits: of the configuration.
        same_champion: the probe was answered by the same model before: then no answer may change at all.
    """
    told = "the same champion answers otherwise than before; engine or hardware changed"
    if not same_champion:
        told = "the champion answers otherwise than the one before"
    texts = [
        _beyond(figures, "probe_changed", 0.0 if same_champion else limits.answers, told),
        _beyond(figures, "probe_fall", limits.accuracy, "the champion answers less of the probe"),
        _beyond(figures, "evaluators_changed", 0.0, "benchmarks are evaluated in another way than before"),
    ]
    return [*moved(figures, limits), *filter(None, texts)]


def moved(figures: Mapping[str, float], limits: LimitsConfig) -> list[str]:
    """How the new traces differ from the old ones beyond the limits, in words."""
    longer, more = (_either_way(figures.get(name, 1.0)) for name in ("teacher_length_ratio", "teacher_traces_ratio"))
    change = abs(figures.get("teacher_verdict_change", 0.0))
    texts = [
        _beyond(figures, "teacher_unknown", 0.0, "the traces name another teacher"),
        _beyond(figures, "teacher_traces_ratio", limits.traces, "a prompt has another number of traces", more),
        _beyond(figures, "teacher_length_ratio", limits.length, "the teacher's traces have another length", longer),
        _beyond(figures, "teacher_style", limits.style, "the teacher writes in another style"),
        _beyond(figures, "teacher_verdict_change", limits.verdict, "another share of the traces is right", change),
        _beyond(figures, "teacher_surprisal_rise", limits.surprisal, "the traces surprise the champion more"),
    ]
    return list(filter(None, texts))


def _beyond(
    figures: Mapping[str, float], name: str, limit: float, text: str, size: float | Literal["figure"] = "figure"
) -> str:
    """What is said of a figure whose size is above its limit; else empty."""
    if name not in figures or (figures[name] if size == "figure" else size) <= limit:
        return ""
    return f"{text}: {name} is {figures[name]:.3g}, limit {limit:g}"


def _either_way(ratio: float) -> float:
    return max(ratio, 1.0 / ratio) if ratio > 0 else math.inf


def _judged(counts: Mapping[str, int]) -> tuple[int, int]:
    right = counts.get("accepted", 0)
    return right, right + counts.get("wrong_answer", 0) + counts.get("no_answer", 0)


def _words(texts: Sequence[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(statistics.words(text))
    return counts


def _divergence(ours: Counter[str], theirs: Counter[str]) -> float:
    """Jensen-Shannon, in bits: 0 for the same shares of words, 1 for no common word."""
    words = sorted(ours.keys() | theirs.keys())
    p, q = (np.array([side[word] for word in words]) / max(1, side.total()) for side in (ours, theirs))
    mean = (p + q) / 2
    return float((rel_entr(p, mean) + rel_entr(q, mean)).sum() / (2 * math.log(2)))


def _curve(examples: Sequence[ScoredTrace], width: int) -> dict[str, float]:
    """Mean surprisal in ranges of positions that double in size."""
    longest = max((len(example.completion_tokens) for example in examples), default=0)
    curve = {}
    for first, last, columns in octaves(longest, width):
        values = [
            -logprob - entropy
            for e in examples
            for logprob, entropy in zip(e.student_logprobs[columns], e.entropies[columns], strict=True)
        ]
        if values:
            curve[f"{first:05d}_{last:05d}"] = fmean(values)
    return curve


def _right(answers: Iterable[Mapping[str, str]]) -> float:
    return fmean(answer["outcome"] == "correct" for answer in answers)
