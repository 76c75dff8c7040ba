"""What a set of traces allows: which corrections and losses can act on it, and which would quietly do nothing.

Counts in, remarks out; no torch and no files, so that anyone may ask: `dcod check`, ingestion, scoring, an arm of a
comparison. :func:`dcod.traces.holdings.count` makes the counts of a trace set.

With one trace a prompt a correction that compares the traces of a prompt gives each the weight 1. That is plain
fine-tuning (SFT) under another name, and most sets that people have are like that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from dcod.config import Config, CorrectionConfig, TrainConfig
from dcod.config.arms import SFT
from dcod.config.losses import OF_TEACHER, WITHDRAWN
from dcod.objective import doubts
from dcod.objective.corrections import CORRECTIONS, group_of, needs

FEW_STEPS = 20  # optimizer steps below which a run is hardly more than its warm-up
HELD_BACK = 16  # problems with a reference that `success` asks a student at least
RATIOS = ("behavior_logprobs", "behavior_total")
MORE_TRACES = "ask a teacher for several traces a prompt (`dcod teach`)"

Level = Literal["impossible", "idle", "warning", "note"]


@dataclass(frozen=True)
class Holdings:
    """What the traces for training hold, as counts of traces.

    Attributes:
        traces: all.
        prompts: different prompts.
        alone: traces that are the only one of their prompt.
        logprobs: with the teacher's log-prob of every token, in the student's own tokens.
        totals: with those, or with the sum of log-probs in another tokenizer's tokens.
        top_k: with the teacher's likeliest tokens at every position, in the student's own tokens.
        greedy: sampled at temperature 0.
        golds: with a reference answer.
        verdicts: by verdict: correct, wrong, unparseable, unverified.
        teachers: by name; "" where none is named.
        weights: with a weight of the user's own.
        selection: held back to choose checkpoints; in none of the other counts.
        pilot: held back to compare arms; likewise.
        sampled: the counts are of some traces only, so no number says how many there are.
        known: the mean probability that the start gives their tokens; None before they are scored.
        systems: with a system prompt of their own.
        system_prompt: the most frequent of those, and ``alike`` with it.
    """

    traces: int
    prompts: int
    alone: int
    logprobs: int = 0
    totals: int = 0
    top_k: int = 0
    greedy: int = 0
    golds: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict)
    teachers: Mapping[str, int] = field(default_factory=dict)
    weights: int = 0
    selection: int = 0
    pilot: int = 0
    sampled: bool = False
    known: float | None = None
    systems: int = 0
    alike: int = 0
    system_prompt: str = ""

    def __str__(self) -> str:
        each = self.traces / self.prompts if self.prompts else 0.0
        parts = [_count(self.prompts, "prompt"), f"{each:.1f} traces each"]
        if not self.totals:
            parts.append("text only, no log-probs")
        else:
            foreign = self.totals - self.logprobs
            also = f", {foreign:,} only as a sum in another tokenizer or chat template" if foreign else ""
            parts.append(f"log-probs for {_of(self.totals, self.traces)}{also}")
        parts.append(f"reference answers for {_of(self.golds, self.traces)}" if self.golds else "no reference answers")
        if self.weights:
            parts.append(f"weights of their own for {_of(self.weights, self.traces)}")
        named = [name for name in self.teachers if name]
        if len(self.teachers) > 1:
            parts.append(
                f"{len(self.teachers)} teachers ({', '.join(sorted(named)[:3])}{', …' if len(named) > 3 else ''})"
            )
        return ", ".join(parts)


@dataclass(frozen=True)
class Remark:
    """One thing to know before training.

    Attributes:
        level: `impossible` cannot run; `idle` runs and does nothing; `warning` and `note` are to be read.
        code: a name that stays the same, for programs.
        text: what is the matter, with counts.
        way_out: what to do; may be empty.
    """

    level: Level
    code: str
    text: str
    way_out: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.way_out}" if self.way_out else self.text


def remarks(config: Config, holdings: Holdings) -> list[Remark]:
    """All that is to be said about training with a configuration on such traces, the gravest first.

    Where arms are compared they are told of apart (:mod:`dcod.objective.arms`): `train.correction` is none of them.
    """
    if config.train.compared:
        config = config.model_copy(update={"train": config.train.of_arm(config.train.arm(SFT))})
        told = list(_of_traces(config, holdings))
    else:
        told = [*of_setting(config.train, holdings), *_of_traces(config, holdings)]
    for key, what, who in _unscored(config):
        text, way_out = f"{who} needs {what}, which the score stage does not record", f"set score.{key}"
        told.append(Remark("impossible", "not_scored", text, way_out))
    order: tuple[Level, ...] = ("impossible", "idle", "warning", "note")
    return sorted(told, key=lambda remark: order.index(remark.level))


def of_setting(train: TrainConfig, holdings: Holdings) -> list[Remark]:
    """What is to be said about one correction and loss, as of an arm: `impossible` and `idle` above all."""
    told = [*_lacking(train, holdings)]
    if not told:
        told += _idle(train, holdings)
    return told


def refusal(config: Config, holdings: Holdings) -> str:
    """Why training with a configuration on such traces is refused, with the way out; "" where it is not."""
    cannot = [remark for remark in remarks(config, holdings) if remark.level == "impossible"]
    return str(cannot[0]) if cannot else "" if config.train.compared else refused_as_idle(config.train, holdings)


def steps(train: TrainConfig, holdings: Holdings) -> int:
    """Optimizer steps of a training: exact where prompts have equally many traces, which stay in one step."""
    if not holdings.prompts:
        return 0
    of_step = math.ceil(train.traces_per_step * holdings.prompts / holdings.traces)  # prompts
    return train.epochs * math.ceil(holdings.prompts / of_step)


def refused_as_idle(train: TrainConfig, holdings: Holdings) -> str:
    """Why a correction that does nothing on such traces is refused, with the ways out; "" where it is not."""
    idle = [remark for remark in of_setting(train, holdings) if remark.level == "idle"]
    return f"{idle[0]}; if that is meant, set train.allow_idle=true" if idle and not train.allow_idle else ""


def unfit(holdings: Holdings) -> str:
    """Which corrections would do nothing on such traces, and which cannot run; "" where all can act."""
    words = {"idle": "would do nothing", "impossible": "lack what they need"}
    names: dict[str, list[str]] = {level: [] for level in words}
    for name in sorted(set(CORRECTIONS) - set(WITHDRAWN)):
        for remark in of_setting(TrainConfig(correction=CorrectionConfig(name=name)), holdings):
            if remark.level in words:
                names[remark.level].append(name)
    return "; ".join(f"{words[level]} here: {', '.join(found)}" for level, found in names.items() if found)


SCORED = {  # what only some settings of the score stage record: the key, and what it makes
    "start_mass": ("ranks=true", "the rank of every token"),
    "start_ranks": ("ranks=true", "the rank of every token"),
    "local_logprobs": ("local_window=32 or so", "every sentence scored by itself"),
}


def _unscored(config: Config) -> Iterator[tuple[str, str, str]]:
    """What the score stage must record and does not: the key that makes it, what it is, and who wants it."""
    correction = config.train.correction
    fields = {field for alternatives in needs(correction) for field in alternatives}
    who = f"train.correction.name={correction.name}"
    for key, what in dict.fromkeys(kept for name, kept in SCORED.items() if name in fields):
        if not getattr(config.score, key.partition("=")[0]):
            yield key, what, who
    if config.train.anchor and not config.score.top_k:
        yield "top_k=32 or so, or train.anchor=0", "the start's likeliest tokens", "train.anchor"


def _lacking(train: TrainConfig, holdings: Holdings) -> Iterator[Remark]:
    """What a correction or loss cannot do without, and some traces lack."""
    have = {
        "behavior_logprobs": holdings.logprobs,
        "behavior_total": holdings.totals,
        "given": holdings.weights,
    }
    name = train.correction.name
    for alternatives in needs(train.correction):
        most = max(have.get(field, holdings.traces) for field in alternatives)
        if alternatives == ("success",):
            if not holdings.sampled and holdings.selection < HELD_BACK:
                yield Remark(
                    "impossible",
                    "nothing_to_ask",
                    f"train.correction.name=success asks a student held-back problems, {HELD_BACK} at least with "
                    f"reference answers: {holdings.selection:,} traces are held back",
                    "set ingest.selection_share higher, or take another correction",
                )
        elif alternatives == ("given",) and most < holdings.traces:
            yield Remark(
                "impossible",
                "no_weights",
                f"train.correction.name=given needs a weight of every trace: {_of(most, holdings.traces)} have one",
                "bring a `weight` with every row (docs/traces.md), or take another correction",
            )
        elif most < holdings.traces:
            foreign = holdings.totals - holdings.logprobs
            also = (
                f"; {foreign:,} have them in another tokenizer or chat template, of which only the sum counts"
                if foreign
                else ""
            )
            yield Remark(
                "impossible",
                "no_logprobs",
                f"train.correction.name={name} needs {' or '.join(alternatives)}: "
                f"{_of(most, holdings.traces)} traces have them{also}",
                "use `surprisal` or `support_text` (text only), or `none`; or record the teacher's log-probs in the "
                "student's tokens (`dcod teach`)",
            )
    if train.loss.name in OF_TEACHER and holdings.top_k < holdings.traces:
        yield Remark(
            "impossible",
            "no_top_k",
            f"train.loss.name={train.loss.name} needs the teacher's top-k log-probs: "
            f"{_of(holdings.top_k, holdings.traces)} traces have them",
            f"use `log`{'' if doubts.little_known(holdings.known) else ' or `gce`'}, or "
            "record them in the student's tokens (`dcod teach` with teach.top_k)",
        )


def _idle(train: TrainConfig, holdings: Holdings) -> Iterator[Remark]:
    """Where the weights come out as ones, whatever the traces say."""
    correction, name = train.correction, train.correction.name
    plain = train.loss.name == "log" and not train.focus and not train.anchor
    if name == "none":
        if plain:
            yield Remark(
                "note",
                "plain_sft",
                "train.correction.name=none is plain fine-tuning (SFT): nothing is corrected",
                f"to correct, set {_instead(holdings)}",
            )
        return
    label, group = f"train.correction.name={name}", group_of(correction)
    if name == "surprisal":
        label += f" with scope={correction.scope}"
    for key, off in (("gamma_max", 0.0), ("floor", 1.0), ("ess_floor", 1.0)):
        bound = key == "gamma_max" or group != "none"
        if bound and getattr(correction, key) == off:
            text = f"{label} does nothing with train.correction.{key}={off:g}: every weight is 1"
            yield Remark("idle", "switched_off", text, f"leave {key} at its default, {_default(key):g}")
            return
    lone = group in ("length", "batch") and train.traces_per_step == 1 and not CORRECTIONS[name].by_token(correction)
    if lone:
        text = f"{label} compares the traces of a step, and train.traces_per_step=1 leaves nothing to compare"
        yield Remark("idle", "one_a_step", text, "set train.traces_per_step=16")
    elif (group == "prompt" or name == "shuffled") and holdings.alone:
        yield _alone(label, holdings)


def _alone(label: str, holdings: Holdings) -> Remark:
    """Traces that have no other of their prompt to be compared with."""
    if holdings.alone == holdings.traces:
        prompts = _count(holdings.prompts, "prompt")
        return Remark(
            "idle",
            "one_a_prompt",
            f"{label} compares the traces of a prompt, and there is one a prompt ({prompts}): every "
            "weight is 1, which is plain fine-tuning (SFT)",
            f"{MORE_TRACES}, or take {_instead(holdings)}",
        )
    share = holdings.alone / holdings.traces
    return Remark(
        "warning" if share >= 0.5 else "note",
        "some_alone",
        f"{label} compares the traces of a prompt: {_of(holdings.alone, holdings.traces)} are alone with their prompt, "
        "and keep the weight 1",
        MORE_TRACES if share >= 0.5 else "",
    )


def _of_traces(config: Config, holdings: Holdings) -> Iterator[Remark]:
    """What is to be said of the traces, whatever the setting."""
    train, wrong = (
        config.train,
        sum(n for verdict, n in holdings.verdicts.items() if verdict in ("wrong", "unparseable")),
    )
    unverified = holdings.verdicts.get("unverified", 0)
    if wrong or unverified:
        parts = [
            f"{_of(n, holdings.traces)} traces are {what}"
            for n, what in ((wrong, "wrong"), (unverified, "unverified"))
            if n
        ]
        yield Remark(
            "warning",
            "unverified",
            f"{' and '.join(parts)}: what is wrong in them is taught",
            "give reference answers, and ingest with ingest.keep=correct",
        )
    yield from _system_prompts(config, holdings)
    if keys := train.correction.as_published:
        text = f"train.correction.name={train.correction.name} is not set as the method of that name was published"
        yield Remark("warning", "unpublished", text, f"as published: {keys}")
    ratio = any(set(RATIOS) & set(alternatives) for alternatives in needs(train.correction))
    if ratio and holdings.greedy:
        yield Remark(
            "warning",
            "greedy",
            f"{_of(holdings.greedy, holdings.traces)} traces were sampled at temperature 0: a greedy teacher has no "
            f"distribution that train.correction.name={train.correction.name} could compare with",
            "use `surprisal` or `none`, or sample the teacher at temperature 1",
        )
    if len(holdings.teachers) > 1 and (ratio or group_of(train.correction) == "prompt"):
        yield Remark(
            "note",
            "several_teachers",
            f"{len(holdings.teachers)} teachers wrote the traces; those of one prompt are compared whoever wrote them",
        )
    if holdings.sampled:
        return
    few = steps(train, holdings)
    if few < FEW_STEPS:
        yield Remark(
            "warning",
            "few_steps",
            f"{_count(holdings.traces, 'trace')} make {_count(few, 'optimizer step')}, too few to learn much from",
            "bring more traces, set train.traces_per_step lower, or train.epochs higher",
        )
    if not holdings.selection:
        yield Remark(
            "note",
            "no_selection",
            "no trace is held back to choose a checkpoint, so the last one is kept",
            "set ingest.selection_share=0.1",
        )


def _system_prompts(config: Config, holdings: Holdings) -> Iterator[Remark]:
    """Traces that are taught behind another system prompt than the problems are asked behind."""
    asked = config.student.system_prompt
    if not holdings.systems or 2 * holdings.systems < holdings.traces or holdings.system_prompt == asked:
        return
    have = f"{_of(holdings.systems, holdings.traces)} traces have a system prompt of their own"
    behind = (
        "what the chat template writes by itself" if asked == "template" else f"student.system_prompt={asked!r:.60}"
    )
    most = 2 * holdings.alike > holdings.traces
    which = f"{_of(holdings.alike, holdings.traces)} {holdings.system_prompt!r:.60}" if most else "different ones"
    yield Remark(
        "warning",
        "other_system_prompt",
        f"{have} ({which}), and problems are asked behind {behind}: where that is another one, the student is asked "
        "otherwise than it is taught",
        "set student.system_prompt to it (whole in the trace set's manifest.json; `dcod init` sets it)" if most else "",
    )


def _instead(holdings: Holdings) -> str:
    """A correction that can act on such traces."""
    several = holdings.prompts and holdings.alone < holdings.traces / 2
    if several and not doubts.little_known(holdings.known):
        return (
            "train.correction.name=naturalness train.correction.weights=live train.correction.gamma_max=4, which "
            "compares the traces of a prompt and helped where the start knew most of them (mean_student_probability of "
            "`dcod score`); train.twin=true says what it brought"
        )
    if holdings.traces and 2 * holdings.golds >= holdings.traces:
        return (
            "train.arms=auto ingest.pilot_share=0.2, which tries what suits the traces and keeps plain fine-tuning "
            "unless one is better; it takes about a thousand prompts"
        )
    return "what the table in README.md names: nothing gained where the student knows little of its traces"


def _default(key: str) -> float:
    return float(CorrectionConfig.model_fields[key].default)


def _of(part: int, whole: int) -> str:
    return f"all {whole:,}" if part == whole else f"{part:,} of {whole:,}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
