"""Decide: does a scheduled run train, and on what? From data, with the reasons (dcod.retrain.decide).

1. a challenger that the gate accepted and nobody promoted yet comes first: its decision is handed on;
2. the traces are told apart by the digests of their sources: *new* ones no finished run has tried; *unlearned* ones the
   champion was not trained on; the others are *old* (dcod.retrain.history, which asks MLflow);
3. a sample of each new source is scored by the start: how far is it, and can the correction be made? A sample of new
   and of held-out old traces is scored by the champion: is there anything to learn?
4. the monitors (dcod.retrain.monitors) look at teacher, champion and evaluator; what is beyond its limit is a warning;
5. decide; with ``go``, write ``selected/``: the unlearned traces but those of sources that are too far, and a share of
   the old problems (``retrain.start=base``: all traces but the far ones); with arms, beside them the champion's arm
   where it is taken over (dcod.retrain.arms);
6. write retraining.json, also to MLflow, and the figures as metrics of the run: one point of their series.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from dcod import benchmarks, storage
from dcod.config import Config, CorrectionConfig
from dcod.config.arms import CHOSEN
from dcod.engines import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.ingest import assemble
from dcod.models import loading
from dcod.models.batches import stored_record
from dcod.objective import arms as objective
from dcod.objective import corrections, weighting
from dcod.objective.feasibility import Holdings
from dcod.promote.decision import Reason
from dcod.retrain import arms, decide, history, monitors
from dcod.retrain.arms import Kept
from dcod.retrain.decide import Evidence, Losses, RetrainDecision, Source
from dcod.score import fields
from dcod.score.parts import in_tokens
from dcod.stages.evaluate import evaluator_of
from dcod.traces import FILE, Trace, holdings, prompts, read_traces, sources_of, write_traces
from dcod.traces.scored import ScoredTrace
from dcod.tracking.registry import Registry
from dcod.tracking.runs import StageRun
from dcod.train import loop
from dcod.train.sets import ListedTraces, Schedule

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DAY = 86_400


def run(
    config: Config,
    out: Path,
    log: StageRun,
    *,
    start: Path,
    champion: Path,
    traces: Path,
    clock: Callable[[], float] = time.time,
) -> dict[str, float]:
    """Decides; see the module.

    Args:
        config: the whole configuration.
        out: an empty folder.
        log: the run of the stage; its tracker is where the history is.
        start: the model that training would begin with.
        champion: the registry's, or the start where there is none.
        traces: all traces, as ingested.
        clock: seconds since 1970.
    """
    registry, name = Registry(log.tracker), config.promote.registered_model
    version = registry.champion(name)
    waiting = history.waiting(registry, name, version, out)
    learned, tried = history.learned(registry, version), history.tried(log.tracker, name)
    pool = Pool(list(read_traces(traces)), learned.keys(), tried.keys() | learned.keys())
    before = history.latest(log.tracker, name)

    judge = Judge(config, champion)
    begin = judge if loading.digest(start) == judge.digest else Judge(config, start)
    measured = measure(pool, judge, begin, before.get("far", []))
    far, probe, fingerprints = measured.far, judge.answers(), judge.fingerprints()
    figures = {
        **_figures(pool, measured),
        **_teacher(pool, traces, measured, config),
        **monitors.student(probe, before.get("probe", {})),
        **monitors.evaluator(fingerprints, before.get("evaluators", {})),
    }
    warnings = monitors.warnings(figures, config.retrain.limits, before.get("champion") == judge.digest)
    evidence = _evidence(config, pool, measured, not learned, waiting.version if waiting else 0)
    decision, anew = decide.decide(evidence, config.retrain, warnings), False
    if decision.outcome == "go":
        picked = _write_selected(out / history.SELECTED, pool, far, config)
        if config.train.compared:
            chosen, held = history.chosen(registry, version), holdings.of(picked, begin.tokens)
            moved = monitors.moved(figures, config.retrain.limits)
            decision, anew = _with_arm(out, decision, config, log, chosen, moved, held, clock())
    record = {
        **(decision.to_dict() | {"pilot": anew}),
        "at": clock(),
        "figures": figures,
        "champion": judge.digest,
        "probe": probe,
        "evaluators": fingerprints,
        "far": sorted(far),
        "tried": tried | {key: file for key, file in sources_of(traces).items() if key not in far},
    }
    storage.write_json(out / history.RECORD, record)
    _tell(log, name, decision, record)
    return {}


def _evidence(config: Config, pool: Pool, measured: Measured, first: bool, waiting: int) -> Evidence:
    """What the decision is made from."""
    lone = alone(pool.near(measured.far), config.train.correction)
    return Evidence(list(measured.sources.values()), first, measured.losses, waiting, lone, config.train.allow_idle)


def _with_arm(
    out: Path,
    decision: RetrainDecision,
    config: Config,
    log: StageRun,
    chosen: Kept | None,
    moved: Sequence[str],
    held: Holdings,
    now: float,
) -> tuple[RetrainDecision, bool]:
    """The decision with what is said of the arms, and whether they are compared anew.

    Beside the selected traces is left the arm that is taken over, or how many pilots the period had.
    """
    folder = out / history.SELECTED
    why = arms.anew(chosen, config.train, moved, held.alone / held.traces, config.retrain.pilot_every, now)
    if chosen is not None and not why:
        why = objective.left_out(config.train, chosen.arm, held)
    text = f"the arms are compared anew: {why}"
    if chosen is not None and not why:
        date = time.strftime("%Y-%m-%d", time.gmtime(chosen.at))
        text = f"{chosen.arm.name}, the champion's arm since the pilot of {date}, is taken over"
        storage.write_json(folder / CHOSEN, replace(chosen, why=text).to_dict())
    elif config.promote.schedule == "repeated":  # all pilots of a period share the level
        since = now - config.promote.period_days * _DAY
        count = history.pilots(log.tracker, config.promote.registered_model, since)
        storage.write_json(folder / arms.PILOTS, {"before": count})
    return replace(decision, reasons=(*decision.reasons, Reason("arm", text, True))), chosen is None or bool(why)


def _tell(log: StageRun, name: str, decision: RetrainDecision, record: Mapping[str, Any]) -> None:
    """Keeps a decision about a registered model in the run of its stage."""
    log.text(history.RECORD, json.dumps(record, indent=2, sort_keys=True))
    log.text("decision.txt", decision.text())
    log.tag(history.MODEL, name)
    log.tag(history.OUTCOME, decision.outcome)
    log.tag("dcod.decision", decision.code)
    series = {"go": float(decision.outcome == "go"), "warnings": float(len(decision.warnings))}
    day = int(record["at"] // _DAY)  # points of several runs make a series
    log.metrics({**record["figures"], **series}, step=day)


@dataclass
class Pool:
    """All traces, told apart by their sources.

    Attributes:
        traces: all.
        learned: digests of sources that the champion was trained on.
        known: those, and the ones that a finished run tried.
    """

    traces: list[Trace]
    learned: Set[str]
    known: Set[str]

    @property
    def old(self) -> list[Trace]:
        """Traces that the champion was trained on."""
        return [trace for trace in self.traces if trace.source_digest in self.learned]

    @property
    def new(self) -> dict[str, list[Trace]]:
        """Traces that nobody tried, by the digest of their source."""
        by_file: dict[str, list[Trace]] = {}
        for trace in self.traces:
            if trace.source_digest not in self.known:
                by_file.setdefault(str(trace.source_digest), []).append(trace)
        return by_file

    def near(self, far: Set[str]) -> list[Trace]:
        """Traces that nobody tried, without those of some sources."""
        return [trace for digest, group in self.new.items() if digest not in far for trace in group]


class Judge:
    """One model, and what it says about traces and problems.

    Attributes:
        digest: of the model.
        tokens: digest of its tokenizer.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.digest = config, loading.digest(folder)
        self.tokenizer: PreTrainedTokenizerBase = prompts.of_student(folder, config.student)
        self.tokens = prompts.tokenizer_digest(self.tokenizer)
        self._engine = TransformersEngine(folder, self.tokenizer, config.student.dtype)

    def score(self, traces: Sequence[Trace]) -> list[ScoredTrace]:
        """The traces with log-probs and entropies."""
        examples = [in_tokens(trace, self.tokenizer, self.tokens) for trace in traces]
        if examples:
            needed = corrections.needed(self.config.train)
            ways = [way for way in fields.asked(self.config) if needed.intersection(way.fields)]
            fields.annotate(self._engine, examples, self.config.score.model_copy(update={"top_k": 0}), ways)
        return examples

    def distance(self, traces: Sequence[Trace], total: int) -> Source:
        """How far this model is from a source, by the yardstick of the correction in steps of the configured size."""
        # the anchor's top-k is the score stage's to record
        train = self.config.train.model_copy(update={"anchor": 0.0, "epochs": 1})
        correction = yardstick(train.correction)
        plans: list[tuple[float, float, float, int]] = []
        listed = ListedTraces(self.score(traces))
        loop.check(train, listed)
        schedule = Schedule(listed, train, self.config.seed)
        tempered = correction.name != "none" and correction.gamma_max > 0.0
        for number in range(len(schedule)):
            record = stored_record(schedule[number])
            plan = weighting.plan(correction, record)
            told = weighting.diagnostics(correction, plan, record)
            share = plan.gamma / correction.gamma_max if tempered else 1.0
            plans.append((share, told.get("clipped_share", 0.0), plan.ess_at_max, int(record.mask.sum())))
        tokens = sum(row[3] for row in plans)
        gamma, clipped, ess = (sum(row[i] * row[3] for row in plans) / tokens for i in range(3))
        return Source(str(traces[0].source_file), total, gamma, clipped if correction.name != "none" else 0.0, ess)

    def answers(self) -> dict[str, dict[str, str]]:
        """Greedy answers to the probe, by problem: a digest of what was said, and the outcome."""
        answered = {}
        for one in self.config.evaluate.benchmarks:
            problems = [p for p in benchmarks.load(one, self.config.evaluate.report_share) if p.split == "report"]
            problems = sorted(problems, key=lambda p: _rank(p.text))[: self.config.retrain.probe]
            asked = [prompts.encode_prompt(self.tokenizer, problem.prompt) for problem in problems]
            limit = Sampling(benchmarks.plan(one).max_new_tokens)
            said = self._engine.generate(asked, limit, self.config.evaluate.batch_size) if asked else []
            pairs = [(p, c.text, c.truncated) for p, c in zip(problems, said, strict=True)]
            for (problem, text, _), grade in zip(pairs, benchmarks.grade_all(one, pairs), strict=True):
                key = f"{benchmarks.key(one)}/{problem.id}"
                answered[key] = {"said": hashlib.sha256(text.encode()).hexdigest()[:16], "outcome": grade.outcome}
        return answered

    def fingerprints(self) -> dict[str, str]:
        """How each benchmark is evaluated."""
        evaluator = evaluator_of(self.config, self.tokenizer)
        return {benchmarks.key(one): benchmarks.fingerprint(one, evaluator) for one in self.config.evaluate.benchmarks}


@dataclass(frozen=True)
class Measured:
    """What start and champion say of samples of the traces.

    Attributes:
        sources: how far each new source is from the start, by its digest.
        far: those that are too far.
        new, old: scored by the champion: traces of the other new sources; held-out ones that it was trained on.
    """

    sources: dict[str, Source]
    far: Set[str]
    new: list[ScoredTrace]
    old: list[ScoredTrace]

    @property
    def losses(self) -> Losses:
        """Mean nats a token of each trace."""
        return Losses(*([-fmean(one.student_logprobs) for one in side] for side in (self.new, self.old)))


def measure(pool: Pool, judge: Judge, begin: Judge, left_out: Sequence[str]) -> Measured:
    """Scores samples of the traces.

    Args:
        pool: the traces.
        judge: the champion.
        begin: the start.
        left_out: digests of sources that were too far the last time.
    """
    section = judge.config.retrain
    old = judge.score(sample([trace for trace in pool.old if trace.split == "selection"], section.sample))
    chosen = {digest: sample(group, section.sample) for digest, group in pool.new.items()}
    sources = {
        digest: replace(begin.distance(group, len(pool.new[digest])), left_out=digest in left_out)
        for digest, group in chosen.items()
    }
    far = {digest for digest, source in sources.items() if source.too_far(section.limits)}
    new = judge.score([trace for digest, group in chosen.items() if digest not in far for trace in group])
    return Measured(sources, far, new, old)


def yardstick(correction: CorrectionConfig) -> CorrectionConfig:
    """What a distance is measured by: the correction where it compares positions, else the surprisal of the tokens.

    A correction that compares the traces of a prompt has nothing to say of one that is alone with its prompt, nor of
    how far all traces of a prompt are.
    """
    if correction.name == "none" or corrections.group_of(correction) == "position":
        return correction
    return correction.model_copy(update={"name": "surprisal", "scope": "token", "group": "auto"})


def alone(traces: Sequence[Trace], correction: CorrectionConfig) -> float:
    """The share of traces that are alone with their prompt, where the correction compares the traces of a prompt."""
    if not traces or corrections.group_of(correction) != "prompt":
        return 0.0
    counts = Counter(trace.prompt_id for trace in traces)
    return sum(count == 1 for count in counts.values()) / len(traces)


def sample(traces: Sequence[Trace], count: int) -> list[Trace]:
    """So many traces, all of a prompt together; which ones is a hash of the prompt, so new ones displace few."""
    return sorted(traces, key=lambda trace: (_rank(trace.prompt_id), trace.trace_id))[:count]


def selected(pool: Pool, far: Set[str], config: Config) -> list[Trace]:
    """The traces to train on, in the order of ingestion."""
    if config.retrain.start == "base":
        return [trace for trace in pool.traces if trace.source_digest not in far]
    share = config.retrain.replay_share
    return [
        trace
        for trace in pool.traces
        if trace.source_digest not in far
        and (trace.source_digest not in pool.learned or _rank(trace.prompt_id) / 2**64 < share)
    ]


def _figures(pool: Pool, measured: Measured) -> dict[str, float]:
    """The counts of the traces, how far they are at worst, and the champion's loss."""
    losses = {"champion_loss_new": measured.losses.new, "champion_loss_old": measured.losses.old}
    return {
        "new_traces": float(sum(map(len, pool.new.values()))),
        "old_traces": float(len(pool.old)),
        "left_out_traces": float(sum(len(pool.new[digest]) for digest in measured.far)),
        **decide.worst(list(measured.sources.values())),
        **{name: fmean(each) for name, each in losses.items() if each},
    }


def _teacher(pool: Pool, traces: Path, measured: Measured, config: Config) -> dict[str, float]:
    """What the monitors say of the teacher."""
    completions = [trace.completion for group in pool.new.values() for trace in group]
    figures = monitors.teacher(completions, [trace.completion for trace in pool.old], config.seed)
    figures |= monitors.surprisal(measured.new, measured.old, config.train.correction.bucket_width)
    sides: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for file in storage.read_json(traces / assemble.SOURCES, made_by=assemble.MADE_BY)["files"]:
        sides[file["digest"] in pool.known].update({"accepted": file["accepted"], **file["quarantined"]})
    return figures | monitors.verdicts(*sides)


def _write_selected(folder: Path, pool: Pool, far: Set[str], config: Config) -> list[Trace]:
    """The traces to train on, as a trace set; returns them."""
    folder.mkdir()
    picked = selected(pool, far, config)
    write_traces(folder / FILE, picked)
    storage.write_json(folder / assemble.COUNTS, _counts(pool, picked, far))
    return picked


def _counts(pool: Pool, picked: Sequence[Trace], far: Set[str]) -> dict[str, Any]:
    """What became of the ingested traces, as counts of a trace set, for the report and the model card."""
    too_far = sum(trace.source_digest in far for trace in pool.traces)
    splits = Counter(trace.split for trace in picked)
    left = {"too_far": too_far, "not_replayed": len(pool.traces) - len(picked) - too_far}
    return {
        "read": len(pool.traces),
        "accepted": len(picked),
        "quarantined": {reason: count for reason, count in left.items() if count},
        "problems": len({trace.prompt_id for trace in picked}),
        "train": splits["train"],
        "selection": splits["selection"],
    }


def _rank(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
