"""Decide: does a scheduled run train, and on what? From data, with the reasons (dcod.retrain.decide).

1. a challenger that the gate accepted and nobody promoted yet comes first: its decision is handed on;
2. the traces are told apart by the digests of their sources: *new* ones no finished run has tried; *unlearned* ones the
   champion was not trained on; the others are *old* (dcod.retrain.history, which asks MLflow);
3. a sample of each new source is scored by the start: how far is it, and can the correction be made? A sample of new
   and of held-out old traces is scored by the champion: is there anything to learn?
4. the monitors (dcod.retrain.monitors) look at teacher, champion and evaluator; what is beyond its limit is a warning;
5. decide; with ``go``, write ``selected/``: the unlearned traces but those of sources that are too far, and a share of
   the old problems (``retrain.start=base``: all traces but the far ones); with arms, beside them what the last pilot
   chose, where that is taken over (dcod.stages.taking_over);
6. write retraining.json, also to MLflow, and the figures as metrics of the run: one point of their series.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from dcod import benchmarks, storage
from dcod.config import Config, CorrectionConfig
from dcod.engines import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.ingest import assemble
from dcod.models import loading
from dcod.models.batches import stored_record
from dcod.objective import corrections, weighting
from dcod.retrain import decide, history, monitors, pools
from dcod.retrain.decide import Evidence, Losses, RetrainDecision, Source
from dcod.retrain.pools import Pool
from dcod.score import fields
from dcod.score.parts import in_tokens
from dcod.stages import taking_over
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
        **_teacher(pool, traces, measured, config, pool.old, pool.known, pool.known),
        **monitors.student(probe, before.get("probe", {})),
        **monitors.evaluator(fingerprints, before.get("evaluators", {})),
    }
    warnings = monitors.warnings(figures, config.retrain.limits, before.get("champion") == judge.digest)
    evidence = _evidence(config, pool, measured, not learned, waiting.version if waiting else 0)
    decision, pilot, now = decide.decide(evidence, config.retrain, warnings), False, clock()
    if decision.outcome == "go":
        picked = _write_selected(out / history.SELECTED, pool, far, config)
        if config.train.compared:
            moved = _moved(next(history.piloted(log.tracker, name), {}), figures, pool, traces, measured, judge)
            given = (picked, holdings.of(picked, begin.tokens), moved, now)
            decision, pilot = taking_over.settle(out / history.SELECTED, config, registry, decision, *given)
    record = {
        **(decision.to_dict() | {"pilot": pilot}),
        "at": now,
        "figures": figures,
        "champion": judge.digest,
        "probe": probe,
        "evaluators": fingerprints,
        "far": sorted(far),
        "new": sorted(pool.new.keys() - far),
        "tried": tried | {key: file for key, file in sources_of(traces).items() if key not in far},
    }
    storage.write_json(out / history.RECORD, record)
    _tell(log, name, decision, record)
    return {}


def _evidence(config: Config, pool: Pool, measured: Measured, first: bool, waiting: int) -> Evidence:
    """What the decision is made from."""
    lone = alone(pool.near(measured.far), config.train.correction)
    return Evidence(list(measured.sources.values()), first, measured.losses, waiting, lone, config.train.allow_idle)


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
            problems = sorted(problems, key=lambda p: pools.rank(p.text))[: self.config.retrain.probe]
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
    old = judge.score(pools.sample([trace for trace in pool.old if trace.split == "selection"], section.sample))
    chosen = {digest: pools.sample(group, section.sample) for digest, group in pool.new.items()}
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


def _teacher(
    pool: Pool,
    traces: Path,
    measured: Measured,
    config: Config,
    old: Sequence[Trace],
    judged: Collection[str],
    known: Collection[str],
) -> dict[str, float]:
    """What the monitors say of the teacher: new traces against old ones.

    Args:
        pool: the traces.
        traces: their folder.
        measured: samples of both sides, scored.
        config: the whole configuration.
        old: the others.
        judged: the files whose share of right rows is compared with, by digest.
        known: the files whose teachers are known.
    """
    new = [trace for group in pool.new.values() for trace in group]
    figures = monitors.teacher([one.completion for one in new], [one.completion for one in old], config.seed)
    figures |= monitors.makeup(new, old, pool.of(known))
    figures |= monitors.surprisal(measured.new, measured.old, config.train.correction.bucket_width)
    sides: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for file in storage.read_json(traces / assemble.SOURCES, made_by=assemble.MADE_BY)["files"]:
        counts = {"accepted": file["accepted"], **file["quarantined"]}
        if file["digest"] not in pool.known:
            sides[0].update(counts)
        elif file["digest"] in judged:
            sides[1].update(counts)
    return figures | monitors.verdicts(*sides)


def _moved(
    last: Mapping[str, Any], figures: Mapping[str, float], pool: Pool, traces: Path, measured: Measured, judge: Judge
) -> list[str]:
    """How the new traces differ from those that were new at the last pilot, whatever the champion learned since.

    A teacher is another one where no trace up to that pilot names it. Without a pilot, or without its traces, the
    ``figures`` tell, which are against what the champion learned. ``last`` is the pilot's record.
    """
    section, then = judge.config.retrain, pool.of(set(last.get("new", ())))
    if then:
        held = pools.sample([trace for trace in then if trace.split == "selection"], section.sample)
        scored = replace(measured, old=judge.score(held))
        figures = _teacher(pool, traces, scored, judge.config, then, last["new"], last["tried"])
    return monitors.moved(figures, section.limits)


def _write_selected(folder: Path, pool: Pool, far: Set[str], config: Config) -> list[Trace]:
    """The traces to train on, as a trace set; returns them."""
    folder.mkdir()
    least = config.train.pilot.min_problems if config.train.compared else 0
    picked = pools.selected(pool, far, config.retrain, least)
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
        "pilot": splits["pilot"],
    }
