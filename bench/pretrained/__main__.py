"""`python -m bench.pretrained`: SFT against the default correction on SmolLM2-135M, with intervals.

1. a teacher: the same model, fine-tuned on worked sums in three styles (running total, signs apart, all at once)
   with a hint, the running total's solution, in its prompt;
2. it samples traces at temperature 1, its log-probs recorded; wrong ones are dropped; the hint leaves the prompt;
3. for each seed and method a student is trained from the pre-trained start on the very same traces and steps;
4. greedy and sampled accuracy on problems that nobody saw, paired by problem.

Cells are kept one a line in results.jsonl as they end, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from bench.study.lab import cached, unscored
from bench.study.methods import METHODS
from dcod import storage
from dcod.config import TrainConfig
from dcod.engines import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.evaluate import statistics
from dcod.grading import find
from dcod.models import loading
from dcod.score.scores import read_scores, write_scores
from dcod.traces import prompts, synthetic
from dcod.traces.scored import ScoredTrace
from dcod.train import loop

STUDENT = "HuggingFaceTB/SmolLM2-135M-Instruct"
SUMS = "reasoning-gym://chain_sum?problems={}&seed={}&min_terms=4&max_terms=4&min_digits=1&max_digits=1"
HERE = Path(__file__).parent
TEACHER_PROBLEMS, TRAIN_PROBLEMS, TEST_PROBLEMS = 240, 140, 120
TRACES, SAMPLES, MAX_NEW = 4, 4, 64
SEEDS = (0, 1, 2)
KINDS = ("greedy", "sampled")
NOTE = """Intervals are over the problems (bootstrap, of each problem's mean over the seeds), not over seeds. A cell
that is missing was not run: the command goes on with it.
"""
MARK = "Worked before:"  # what stands in front of the hint


def problems(count: int, seed: int) -> list[synthetic.SyntheticProblem]:
    """Sums of four digits."""
    return synthetic.problems(SUMS.format(count, seed))


def _prompt(tokenizer: Any, problem: synthetic.SyntheticProblem, hint: str = "") -> list[int]:
    text = f"{problem.question}\n{MARK}\n{hint}" if hint else problem.question
    return prompts.encode_prompt(tokenizer, prompts.prompt_for("number", text))


def _hint(problem: synthetic.SyntheticProblem) -> str:
    return synthetic.WRITERS["chain_sum"][0](problem)


def _fit(model: Any, examples: list[ScoredTrace], method: str, seed: int) -> loop.Result:
    config = TrainConfig.model_validate(
        {"learning_rate": 2e-4, "epochs": 1, "traces_per_step": 8, "micro_batch_tokens": 1024, **METHODS[method]}
    )
    return loop.train(model, examples, [], config, seed, save_best=lambda _: None, metrics=lambda *_: None)


def teacher(base: Path, work: Path) -> Path:
    """The fine-tuned teacher; see the module."""

    def make(folder: Path) -> None:
        tokenizer = prompts.load_tokenizer(base)
        examples = []
        for problem in problems(TEACHER_PROBLEMS, 1_000_000):
            for text in synthetic.worked(problem, 1, seed=1):  # one style a problem, drawn by the problem
                tokens = _prompt(tokenizer, problem, _hint(problem))
                completion = prompts.encode_completion(tokenizer, text)
                examples.append(ScoredTrace(problem.id, problem.id, tokens, completion, [], []))
        model = loading.load(base)
        _fit(model, unscored(examples), "sft", seed=1)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return cached(work / "teacher", make)


def traces(base: Path, seed: int, work: Path) -> list[ScoredTrace]:
    """Verified traces of the teacher for one seed, scored by teacher and start."""

    def make(folder: Path) -> None:
        engine = TransformersEngine(teacher(base, work), prompts.load_tokenizer(base))
        drawn = problems(TRAIN_PROBLEMS, 2_000_000 + 10_000 * seed)
        hinted = [_prompt(engine.tokenizer, p, _hint(p)) for p in drawn for _ in range(TRACES)]
        written = engine.generate(hinted, Sampling(MAX_NEW, temperature=1.0, seed=seed), batch_size=140)
        kept = []
        for number, (prompt, completion) in enumerate(zip(hinted, written, strict=True)):
            problem = drawn[number // TRACES]
            if not completion.truncated and find(completion.text, last_number=True) == problem.answer:
                kept.append(ScoredTrace(f"{problem.id}/{number}", problem.id, prompt, completion.token_ids, [], []))
        engine.annotate(kept, 2048)
        plain = {p.id: _prompt(engine.tokenizer, p) for p in drawn}
        for example in kept:
            example.behavior_logprobs = example.student_logprobs
            example.prompt_tokens = plain[example.prompt_id]
        TransformersEngine(base, engine.tokenizer).annotate(kept, 2048)
        write_scores(folder / "scores.parquet", kept, ["train"] * len(kept))
        storage.write_json(folder / "counts.json", {"sampled": len(hinted), "kept": len(kept)})

    return read_scores(cached(work / f"traces-{seed}", make))["train"]


def measure(folder: Path, tokenizer: Any, seed: int) -> dict[str, list[float]]:
    """Greedy and sampled accuracy of a student, problem by problem."""
    engine = TransformersEngine(folder, tokenizer)
    drawn = problems(TEST_PROBLEMS, 9_000_000)
    out = {}
    for name, samples, temperature in (("greedy", 1, 0.0), ("sampled", SAMPLES, 1.0)):
        asked = [_prompt(tokenizer, p) for p in drawn for _ in range(samples)]
        written = engine.generate(asked, Sampling(MAX_NEW, temperature=temperature, seed=seed), batch_size=120)
        right = [find(c.text, last_number=True) == drawn[i // samples].answer for i, c in enumerate(written)]
        out[name] = [sum(right[i : i + samples]) / samples for i in range(0, len(right), samples)]
    return out


def cell(base: Path, method: str, seed: int, work: Path) -> dict[str, Any]:
    """Trains and measures one student; ``start`` is not trained."""
    began, tokenizer = time.monotonic(), prompts.load_tokenizer(base)
    row: dict[str, Any] = {"method": method, "seed": seed}
    if method == "start":
        return row | measure(base, tokenizer, seed)
    examples, model = traces(base, seed, work), loading.load(base)
    result = _fit(model, examples, method, seed)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        row |= measure(Path(folder), tokenizer, seed)
    row["mean_gamma"] = sum(r["gamma"] for r in result.history) / len(result.history)
    return row | {"traces": len(examples), "seconds": round(time.monotonic() - began)}


def table(rows: list[dict[str, Any]]) -> str:
    """Accuracies, and the differences to SFT paired by seed and problem."""
    by_key = {(row["method"], row["seed"]): row for row in rows}
    titles = "method", "seeds", "greedy", "sampled (avg@4)", "greedy against SFT", "sampled against SFT", "γ"
    lines = [f"| {' | '.join(titles)} |", f"{'|---' * len(titles)}|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        found = [row for row in rows if row["method"] == method]
        pairs = [(row, by_key["sft", row["seed"]]) for row in found if ("sft", row["seed"]) in by_key]
        cells = [method, str(len(found)), *(_mean([row[kind] for row in found]) for kind in KINDS)]
        for kind in KINDS:
            differences = [
                [a - b for a, b in zip(left[kind], right[kind], strict=True)]
                for left, right in pairs
                if method not in ("sft", "start")
            ]
            each = ", ".join(f"{100 * fmean(one):+.1f}" for one in differences)
            cells.append(f"{_mean(differences, sign='+')}; seeds {each}" if differences else "")
        cells.append(f"{fmean(row.get('mean_gamma', 0.0) for row in found):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _mean(values: list[list[float]], sign: str = "") -> str:
    """In percent, with the interval over problems: seeds share theirs, so each problem counts once, by its mean."""
    by_problem = [fmean(seeds) for seeds in zip(*values, strict=True)]
    low, high = (100 * end for end in statistics.bootstrap_interval(by_problem))
    return f"{100 * fmean(by_problem):{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def main(
    compared: Annotated[str, typer.Option(help="Methods of bench.study, by comma.")] = "sft,surprisal",
    work: Path = Path("runs/pretrained"),
    results: Path = HERE / "results.jsonl",
) -> None:
    """Runs what is missing, then rewrites the table."""
    base = loading.resolve(STUDENT)
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []
    known = {(row["method"], row["seed"]) for row in rows}
    wanted = [("start", 0), *((method, seed) for seed in SEEDS for method in compared.split(","))]
    for method, seed in wanted:
        if (method, seed) in known:
            continue
        row = cell(base, method, seed, work)
        row |= {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        }
        rows.append(row)
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{method} seed {seed}: sampled {sum(row['sampled']) / len(row['sampled']):.3f}", flush=True)
    storage.write_text(
        HERE / "RESULTS.md", f"# SmolLM2-135M: SFT against the default correction\n\n{table(rows)}\n{NOTE}"
    )
    print(table(rows))


if __name__ == "__main__":
    typer.run(main)
