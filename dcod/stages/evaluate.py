"""Evaluate: a model answers the configured benchmarks, every answer is graded and accounted for.

1. load the problems; each has a fixed split, ``gate`` (decides) or ``report`` (is only reported);
2. build prompts, zero-shot or with worked examples from the training traces;
3. generate, grade, and count: correct + wrong + unparseable + truncated + error = answers;
4. write examples.parquet (one row an answer) and summary.json.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcod import benchmarks, metrics, models, prompts, storage
from dcod.benchmarks import Problem
from dcod.config import BenchmarkConfig, Config
from dcod.engines import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.traces import Message, read_traces
from dcod.tracking import Log

SECTIONS = ("student", "evaluate")
OUTCOMES = ("correct", "wrong", "unparseable", "truncated", "error")
SPLITS = ("gate", "report")

SCHEMA = pa.schema(
    [
        ("benchmark", pa.string()),
        ("problem_id", pa.string()),
        ("split", pa.string()),
        ("prompting", pa.string()),
        ("sample", pa.int32()),
        ("response", pa.string()),
        ("answer", pa.string()),
        ("gold", pa.string()),
        ("outcome", pa.string()),
        ("tokens", pa.int32()),
    ]
)


def run(
    config: Config, out: Path, log: Log, *, student: Path, traces: Path | None = None, few_shot: bool = False
) -> dict[str, float]:
    """Evaluates one model; see the module.

    Args:
        config: the whole configuration.
        out: an empty folder.
        log: metrics and texts go there.
        student: the model folder.
        traces: a trace set, for the worked examples of few-shot prompts.
        few_shot: put ``evaluate.few_shot`` worked examples before each problem of the report split.
    """
    if not config.evaluate.benchmarks:
        raise UserError(f"evaluate.benchmarks is empty; known: {', '.join(benchmarks.names())}")
    asked = list(config.evaluate.benchmarks)
    if few_shot and (config.evaluate.few_shot == 0 or traces is None):
        asked = []  # nothing to ask: the results are there, and empty
    tokenizer = prompts.load_tokenizer(student, config.student.chat_template)
    engine = TransformersEngine(student, tokenizer, config.student.dtype)
    shots = worked_examples(traces, config.evaluate.few_shot, config.seed) if few_shot and asked and traces else []
    prompting = "few_shot" if few_shot else "zero_shot"
    summary: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for benchmark in asked:
        key = benchmarks.key(benchmark)
        problems = benchmarks.load(benchmark, config.evaluate.report_share)
        if few_shot:  # only the report looks at it
            problems = [problem for problem in problems if problem.split == "report"]
        found = _answers(engine, benchmark, problems, shots, config)
        rows += [row | {"benchmark": key, "prompting": prompting} for row in found]
        summary[key] = {
            "fingerprint": benchmarks.fingerprint(benchmark),
            "role": benchmark.role,
            "version": benchmarks.get(benchmark.name).version,
            "prompting": {
                prompting: {s: summarise([r for r in found if r["split"] == s], benchmark.samples) for s in SPLITS}
            },
        }
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), out / "examples.parquet", compression="zstd")
    model = {"digest": models.digest(student), "uri": str(student)}
    storage.write_json(out / "summary.json", {"model": model, "benchmarks": summary})
    outcomes = Counter(f"{row['benchmark']} {row['outcome']}" for row in rows)
    log.text("outcomes.txt", "".join(f"{name} {count}\n" for name, count in sorted(outcomes.items())))
    return _flat(summary, prompting)


def worked_examples(traces: Path, count: int, seed: int) -> list[Message]:
    """Worked examples as chat turns, from ``count`` different training problems."""
    pool = {t.prompt_id: t for t in read_traces(traces) if t.split == "train" and len(t.prompt) == 1}
    chosen = random.Random(seed).sample(sorted(pool), min(count, len(pool)))
    return [
        turn
        for name in chosen
        for turn in (*pool[name].prompt, {"role": "assistant", "content": pool[name].completion})
    ]


def summarise(rows: Sequence[dict[str, Any]], samples: int) -> dict[str, Any]:
    """Counts, accuracy (avg@k) and its 95 % Wilson interval on one split.

    With several samples a problem the interval is a bootstrap over problems, since they hang together.
    """
    outcomes = Counter(row["outcome"] for row in rows)
    assert sum(outcomes[o] for o in OUTCOMES) == len(rows), "an answer has an unknown outcome"
    correct = outcomes["correct"]
    low, high = (0.0, 1.0)
    if rows and samples == 1:
        low, high = metrics.wilson_interval(correct, len(rows))
    elif rows:
        by_problem: dict[str, list[bool]] = {}
        for row in rows:
            by_problem.setdefault(row["problem_id"], []).append(row["outcome"] == "correct")
        low, high = metrics.bootstrap_interval([sum(v) / len(v) for v in by_problem.values()])
    return {
        "n": len({row["problem_id"] for row in rows}),
        "samples": samples,
        "accuracy": correct / len(rows) if rows else 0.0,
        "low": low,
        "high": high,
        "outcomes": {name: outcomes[name] for name in OUTCOMES},
        "mean_tokens": sum(row["tokens"] for row in rows) / len(rows) if rows else 0.0,
    }


def _answers(
    engine: TransformersEngine,
    benchmark: BenchmarkConfig,
    problems: Sequence[Problem],
    shots: Sequence[Message],
    config: Config,
) -> list[dict[str, Any]]:
    """Generates and grades; one row an answer, without benchmark and prompting."""
    encoded = [prompts.encode_prompt(engine.tokenizer, _with_shots(p.prompt, shots)) for p in problems]
    longest = max((len(tokens) for tokens in encoded), default=0) + benchmark.max_new_tokens
    room = getattr(engine.model.config, "max_position_embeddings", longest)
    if longest > room:
        raise UserError(
            f"evaluate: {benchmark.name} needs {longest} tokens (prompt and max_new_tokens), the model has {room}; "
            "lower max_new_tokens"
        )
    rows: list[dict[str, Any]] = []
    for sample in range(benchmark.samples):
        sampling = Sampling(benchmark.max_new_tokens, benchmark.temperature, benchmark.top_p, config.seed + sample)
        written = engine.generate(encoded, sampling, config.evaluate.batch_size)
        items = [(p, c.text, c.truncated) for p, c in zip(problems, written, strict=True)]
        grades = benchmarks.grade_all(benchmark, items)
        for (problem, text, _), completion, grade in zip(items, written, grades, strict=True):
            rows.append(
                {
                    "problem_id": problem.id,
                    "split": problem.split,
                    "sample": sample,
                    "response": text,
                    "answer": grade.answer,
                    "gold": problem.gold,
                    "outcome": grade.outcome,
                    "tokens": len(completion.token_ids),
                }
            )
    return rows


def _with_shots(prompt: list[Message], shots: Sequence[Message]) -> list[Message]:
    """Worked examples go after the system message, before the problem."""
    system = [m for m in prompt if m["role"] == "system"]
    return [*system, *shots, *(m for m in prompt if m["role"] != "system")]


def _flat(summary: dict[str, Any], prompting: str) -> dict[str, float]:
    """The summary as MLflow metrics: benchmark/split/figure."""
    out: dict[str, float] = {}
    for key, entry in summary.items():
        name = key.replace(":", "/")
        for split, values in entry["prompting"][prompting].items():
            if values["n"]:
                out |= {f"{name}/{split}/{figure}": float(values[figure]) for figure in ("accuracy", "low", "high")}
                out |= {f"{name}/{split}/{o}": float(n) for o, n in values["outcomes"].items()}
                out[f"{name}/{split}/mean_tokens"] = float(values["mean_tokens"])
    return out
