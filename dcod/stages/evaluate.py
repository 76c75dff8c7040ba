"""Evaluate: a model answers the configured benchmarks, every answer is graded and accounted for.

1. load the problems; each has a fixed split, ``gate`` (decides) or ``report`` (is only reported);
2. build prompts, zero-shot or with worked examples from the training traces;
3. generate (or, with ``responses``, read recorded answers: no model is loaded), grade, and count:
   correct + wrong + unparseable + truncated + error = answers;
4. record a few greedy answers, token by token, which the registered model must reproduce before it is promoted;
5. with traces given, look for problems of the benchmarks in them (dcod.ingest.contamination), and measure how far the
   model is from the teacher on the selection split, per position;
6. write examples.parquet (one row an answer), summary.json, and recorded.json.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcod import benchmarks, storage
from dcod.benchmarks import Problem
from dcod.config import BenchmarkConfig, Config
from dcod.engines import Engine, Sampling, by_name, reproduce
from dcod.errors import UserError
from dcod.evaluate import responses as recorded
from dcod.evaluate import summaries
from dcod.evaluate.responses import Response
from dcod.evaluate.results import EXAMPLES, SUMMARY, ZERO_SHOT, SplitFigures, load_results, of_summary
from dcod.evaluate.summaries import OUTCOMES
from dcod.grading import Grade
from dcod.ingest.contamination import KINDS, Contamination
from dcod.models import fitting, loading
from dcod.stages.manifests import note
from dcod.stages.shards import Shard, Work
from dcod.traces import Message, Trace, prompts, read_traces, said, turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dcod.tracking import Log

REPORT = "report"
SPLITS = ("gate", REPORT)
_BUCKET = 16  # positions a point of the drift curve
_HITS = 20  # contaminated traces that are named

_SHOWN, _LONGEST = 200, 4000  # answers of a benchmark in MLflow's table, and characters of one
SCHEMA = pa.schema(
    [
        ("benchmark", pa.string()),
        ("problem_id", pa.string()),
        ("problem", pa.string()),
        ("split", pa.string()),
        ("prompting", pa.string()),
        ("sample", pa.int32()),
        ("response", pa.string()),
        ("answer", pa.string()),
        ("gold", pa.string()),
        ("outcome", pa.string()),
        ("tokens", pa.int32()),
        ("truncated", pa.bool_()),  # the limit ended it, whatever the outcome
        ("looping", pa.bool_()),
        ("contradicting", pa.bool_()),
        ("repetition", pa.float32()),
        ("figures", pa.string()),  # what else the benchmark counts, as JSON
    ]
)


def run(
    config: Config,
    out: Path,
    log: Log,
    *,
    student: Path | None = None,
    traces: Path | None = None,
    responses: Path | None = None,
    few_shot: bool = False,
    report_only: bool = False,
) -> dict[str, float]:
    """Evaluates one model, or grades what one wrote; see the module.

    Args:
        config: the whole configuration.
        out: an empty folder.
        log: metrics and texts go there.
        student: the model folder.
        traces: a trace set, for step 5 and the worked examples of few-shot prompts.
        responses: recorded answers, instead of a student.
        few_shot: put ``evaluate.few_shot`` worked examples before each problem of the report split.
        report_only: ask the problems of the report split alone.

    Raises:
        UserError: no benchmark is configured, or one twice, or there is not exactly one of student and responses.
    """
    if not config.evaluate.benchmarks:
        raise UserError(f"evaluate.benchmarks is empty; known: {', '.join(benchmarks.names())}")
    if (student is None) == (responses is None):
        raise UserError("evaluate: give a student, or a file of recorded responses, not both")
    shots = worked_examples(traces, config.evaluate.few_shot, config.seed) if few_shot and traces else []
    loaded = _problems(config, few_shot or report_only) if shots or not few_shot else []
    prompting = "few_shot" if few_shot else ZERO_SHOT
    summary: dict[str, Any] = {"benchmarks": {}}
    if responses is not None:
        written = recorded.read(responses, [(benchmarks.key(one), problems) for one, problems in loaded])
        summary["model"] = {"digest": storage.digest_file(responses), "uri": str(responses)}
        summary["evaluator"] = {"engine": ["recorded"]}
    else:
        assert student is not None
        written, summary["model"], summary["evaluator"] = _ask(config, out, student, loaded, traces, shots, few_shot)
    rows: list[dict[str, Any]] = []
    for (benchmark, problems), groups in zip(loaded, written, strict=True):
        key, said = benchmarks.key(benchmark), _graded(benchmark, problems, groups)
        rows += [row | {"benchmark": key, "prompting": prompting} for row in said]
        samples = len(groups[0]) if groups else benchmarks.plan(benchmark).samples
        splits = {split: _summarise(benchmark, [r for r in said if r["split"] == split], samples) for split in SPLITS}
        summary["benchmarks"][key] = {
            "fingerprint": benchmarks.fingerprint(benchmark, summary["evaluator"]),
            "role": benchmark.role,
            "version": benchmarks.get(benchmark.name).version,
            "sampling": asdict(benchmarks.plan(benchmark)) if student else {},
            "prompting": {prompting: splits},
        }
    if traces is not None:
        summary["contamination"] = contamination(config, traces)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), out / EXAMPLES, compression="zstd")
    storage.write_json(out / SUMMARY, summary)
    _tell(log, rows)
    return _flat(of_summary(summary).rows)


def _tell(log: Log, rows: list[dict[str, Any]]) -> None:
    log.text("outcomes.txt", _outcomes(rows))
    log.table("answers.json", _shown(rows))


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first answers to the first problems of each benchmark, for a page that compares runs."""
    taken: Counter[str] = Counter()
    out = []
    for row in rows:
        if row["sample"] == 0 and taken[row["benchmark"]] < _SHOWN:
            taken[row["benchmark"]] += 1
            out.append({key: row[key] for key in ("benchmark", "problem_id", "split", "outcome", "answer", "gold")})
            out[-1] |= {key: str(row[key])[:_LONGEST] for key in ("problem", "response")}
    return out


def table(folder: Path) -> str:
    """The results of a folder as lines of text: every accuracy with its interval and what n could detect."""
    results = load_results(folder)
    lines = []
    for row in results.rows:
        if not row.n:
            continue
        counts = ", ".join(f"{n} {outcome}" for outcome, n in row.outcomes.items() if n)
        lines.append(
            f"{row.benchmark} ({row.split}, {row.prompting.replace('_', '-')}): {row.accuracy:.1%} [{row.low:.1%}, "
            f"{row.high:.1%}], {row.n} problems x {row.samples}: {counts}; detectable difference "
            f"{row.detectable * 100:.1f} points"
        )
        at_k = [f"{name} {value:.1%} [{low:.1%}, {high:.1%}]" for name, (value, low, high) in row.at_k.items()]
        more = at_k + [f"{name} {value:.1%}" for name, value in row.figures.items()]
        lines += [f"  {', '.join(more)}"] if more else []
        steady = [f"{name} {value:.4g}" for name, value in row.stability.items()]
        lines.append(f"  stability: {', '.join(steady)}")
    if results.contamination:
        lines.append(
            "contamination: " + ", ".join(f"{results.contamination[kind]} {kind}" for kind in ("traces", *KINDS))
        )
    return "\n".join(lines)


def worked_examples(traces: Path, count: int, seed: int) -> list[Message]:
    """Worked examples as chat turns, from ``count`` different training problems."""
    if not count:
        return []
    pool = {t.prompt_id: t for t in read_traces(traces) if t.split == "train" and len(_turns_of(t.prompt)) == 1}
    chosen = random.Random(seed).sample(sorted(pool), min(count, len(pool)))
    return [
        turn
        for name in chosen
        for turn in (*_turns_of(pool[name].prompt), {"role": "assistant", "content": pool[name].completion})
    ]


def narrow(shard: Shard, work: Work, scratch: Path) -> Work | None:  # noqa: ARG001
    """Some of the benchmarks."""
    section = work.config.evaluate
    some = list(shard.scattered(section.benchmarks))
    config = work.config.model_copy(update={"evaluate": section.model_copy(update={"benchmarks": some})})
    return replace(work, config=config) if some else None


def contamination(config: Config, traces: Path) -> dict[str, Any]:
    """Training traces whose prompts hold problems of the configured benchmarks: counts by kind, and a few of them."""
    check = Contamination(config.evaluate.benchmarks)
    counts: Counter[str] = Counter()
    named: list[str] = []
    for trace in read_traces(traces):
        counts["traces"] += 1
        hit = check.find(trace.prompt)
        if hit:
            counts[hit.kind] += 1
            if len(named) < _HITS:
                named.append(f"{hit.kind} {hit.benchmark}: {trace.source_file}:{trace.source_line}")
    return {**{kind: counts[kind] for kind in ("traces", *KINDS)}, "named": named}


def _problems(config: Config, narrow: bool) -> list[tuple[BenchmarkConfig, Sequence[Problem]]]:
    """What is asked, by benchmark; ``narrow``: of the report split, all that is looked at of few-shot."""
    asked = list(config.evaluate.benchmarks)
    names = [benchmarks.key(one) for one in asked]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"evaluate.benchmarks: {', '.join(twice)} stands there twice; evaluate them one after the other"
        )
    loaded = [(one, benchmarks.load(one, config.evaluate.report_share)) for one in asked]
    return [(one, [p for p in problems if p.split == REPORT or not narrow]) for one, problems in loaded]


def _ask(
    config: Config,
    out: Path,
    student: Path,
    loaded: Sequence[tuple[BenchmarkConfig, Sequence[Problem]]],
    traces: Path | None,
    shots: Sequence[Message],
    few_shot: bool,
) -> tuple[list[list[list[Response]]], dict[str, str], dict[str, Any]]:
    """Answers by benchmark, problem and sample; the model; and what ran it, which is part of every fingerprint."""
    section = config.evaluate
    tokenizer = prompts.of_student(student, config.student)
    encoded = [
        [prompts.encode_prompt(tokenizer, _with_shots(problem.prompt, shots)) for problem in problems]
        for _, problems in loaded
    ]
    fitting.check_tokenizer(student, tokenizer)
    for (benchmark, problems), tokens in zip(loaded, encoded, strict=True):
        _fits(benchmark, tokens, student)
        asked = [_with_shots(problem.prompt, shots) for problem in problems]
        said.warn(f"evaluate: {benchmark.name}", tokenizer, asked, tokens)
    engine = by_name.load(section.engine, student, tokenizer, config.student.dtype)
    note(out, turns=turns.of(tokenizer).table())
    written = []
    for (benchmark, _), tokens in zip(loaded, encoded, strict=True):
        groups: list[list[Response]] = [[] for _ in tokens]
        plan = benchmarks.plan(benchmark)
        for sample in range(plan.samples):
            sampling = Sampling(plan.max_new_tokens, plan.temperature, plan.top_p, config.seed, sample=sample)
            for group, completion in zip(groups, engine.generate(tokens, sampling, section.batch_size), strict=True):
                group.append(Response(completion.text, completion.truncated, len(completion.token_ids)))
        written.append(groups)
    padding = vars(engine).get("padding", "left")
    if padding != "left":
        note(out, student={"padding": padding})
    if not few_shot and section.engine.name != "openai":
        reproduce.record(engine, [one for tokens in encoded for one in tokens], section.engine.name, config, out)
    if traces is not None and not few_shot and section.drift_traces:
        storage.write_json(out / "drift.json", _drift(engine, tokenizer, traces, section.drift_traces))
    return written, {"digest": loading.digest(student), "uri": str(student)}, evaluator_of(config, tokenizer)


def evaluator_of(config: Config, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What runs a model in an evaluation, which is part of every fingerprint."""
    return {
        "engine": by_name.identity(config.evaluate.engine),
        "dtype": config.student.dtype,
        "template": prompts.template_digest(tokenizer),
        "ends": sorted(turns.of(tokenizer).table()["stops"]),
        "seed": config.seed,
    }


def _fits(benchmark: BenchmarkConfig, encoded: Sequence[Sequence[int]], student: Path) -> None:
    longest = max((len(tokens) for tokens in encoded), default=0) + benchmarks.plan(benchmark).max_new_tokens
    what = f"evaluate: {benchmark.name} (prompt and max_new_tokens)"
    fitting.check_room(student, longest, what, "lower max_new_tokens")
    fitting.check_tokens(student, encoded, f"evaluate: {benchmark.name}")


def _graded(
    benchmark: BenchmarkConfig, problems: Sequence[Problem], groups: Sequence[Sequence[Response]]
) -> list[dict[str, Any]]:
    """One row an answer, without benchmark and prompting."""
    said = [(p, i, r) for p, group in zip(problems, groups, strict=True) for i, r in enumerate(group)]
    grades: list[Grade] = benchmarks.grade_all(benchmark, [(p, r.text, r.truncated) for p, _, r in said])
    return [
        {
            "problem_id": problem.id,
            "problem": problem.text,
            "split": problem.split,
            "sample": sample,
            "response": response.text,
            "answer": grade.answer,
            "gold": problem.gold,
            "outcome": grade.outcome,
            "tokens": response.tokens,
            "truncated": response.truncated,
            "figures": json.dumps(dict(grade.figures)),
            **summaries.of_answer(response.text),
        }
        for (problem, sample, response), grade in zip(said, grades, strict=True)
    ]


def _outcomes(rows: Sequence[dict[str, Any]]) -> str:
    counts = Counter(f"{row['benchmark']} {row['outcome']}" for row in rows)
    return "".join(f"{name} {count}\n" for name, count in sorted(counts.items()))


def _summarise(benchmark: BenchmarkConfig, rows: Sequence[dict[str, Any]], samples: int) -> dict[str, Any]:
    count = benchmarks.get(benchmark.name).figures
    further = count([json.loads(row["figures"]) for row in rows]) if count else {}
    return {**summaries.summarise(rows, samples), "figures": further}


def _drift(engine: Engine, tokenizer: PreTrainedTokenizerBase, traces: Path, count: int) -> dict[str, Any]:
    """Per position, in buckets: how surprised the model is by the teacher beyond its own entropy, in nats."""
    from dcod.traces.scored import ScoredTrace

    def example(trace: Trace) -> ScoredTrace:
        return ScoredTrace(
            trace_id=trace.trace_id,
            prompt_id=trace.prompt_id,
            prompt_tokens=prompts.encode_prompt(tokenizer, trace.prompt),
            completion_tokens=prompts.encode_completion(tokenizer, trace.completion),
            student_logprobs=[],
            entropies=[],
        )

    chosen = [example(t) for t in islice((t for t in read_traces(traces) if t.split == "selection"), count)]
    if not chosen:
        raise UserError(
            f"{traces}: no trace of the selection split to measure the drift on; set evaluate.drift_traces=0"
        )
    sums: defaultdict[int, float] = defaultdict(float)
    losses: defaultdict[int, float] = defaultdict(float)
    tokens: Counter[int] = Counter()
    for logprobs, entropies in engine.score(chosen, 4096):
        for position, (logprob, entropy) in enumerate(zip(logprobs, entropies, strict=True)):
            bucket = position // _BUCKET
            sums[bucket] += -logprob - entropy
            losses[bucket] -= logprob
            tokens[bucket] += 1
    places = sorted(tokens)
    return {
        "traces": len(chosen),
        "positions": [bucket * _BUCKET for bucket in places],
        "count": [tokens[bucket] for bucket in places],
        "mean_surprisal": [sums[bucket] / tokens[bucket] for bucket in places],
        "mean_loss": [losses[bucket] / tokens[bucket] for bucket in places],
    }


def _with_shots(prompt: list[Message], shots: Sequence[Message]) -> list[Message]:
    """Worked examples go after the system message, before the problem."""
    system = [m for m in prompt if m["role"] == "system"]
    return [*system, *shots, *_turns_of(prompt)]


def _turns_of(prompt: Sequence[Message]) -> list[Message]:
    return [message for message in prompt if message["role"] != "system"]


def _flat(rows: Sequence[SplitFigures]) -> dict[str, float]:
    """The figures as MLflow metrics: benchmark/split/figure."""
    out: dict[str, float] = {}
    for row in rows:
        if not row.n:
            continue
        figures = {name: getattr(row, name) for name in ("accuracy", "low", "high", "detectable", "mean_tokens")}
        figures |= {outcome: row.outcomes[outcome] for outcome in OUTCOMES}
        figures |= {name.replace("@", "_at_"): value for name, (value, _, _) in row.at_k.items()}
        figures |= {f"stability/{name}": value for name, value in row.stability.items()}
        figures |= row.figures
        prefix = f"{row.benchmark.replace(':', '/')}/{row.split}"
        out |= {f"{prefix}/{name}": float(value) for name, value in figures.items()}
    return out
