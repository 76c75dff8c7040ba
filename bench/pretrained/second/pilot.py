"""`python -m bench.pretrained.second.pilot TASK`: what SFT comes to on problems apart, before any cell (README.md)."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import typer

from bench.pretrained.second import lab
from bench.pretrained.second.tasks import TASKS, style_for
from bench.study.lab import unscored
from dcod.engines import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.models import loading
from dcod.traces import prompts
from dcod.traces.scored import ScoredTrace


def pilot(name: str, traces: int = lab.TRACES, problems: int = 64, rate: float = 2e-4, epochs: int = 2) -> None:
    """Trains on the program's own solutions, four a prompt, and prints the greedy accuracy by style."""
    task, examples = TASKS[name], list[ScoredTrace]()
    for problem in task.problems(traces // 4, 700, "train"):
        for copy in range(4):
            text = prompts.encode_completion(lab.tokenizer(), task.write(problem, style_for(task, problem, copy)))
            examples.append(ScoredTrace(f"{len(examples)}", problem.text, lab.ask(problem), text, [], []))
    model = loading.load(lab.base())
    lab.fit(model, unscored(examples), 0, rate, epochs)
    asked = task.problems(problems, 701, "validation")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        engine = TransformersEngine(Path(folder), lab.tokenizer())
        written = engine.generate([lab.ask(p) for p in asked], Sampling(task.max_new_tokens), lab.BATCH)
    hits = [lab.right(problem, one) for problem, one in zip(asked, written, strict=True)]
    styles = Counter((task.style_of(one.text), hit) for one, hit in zip(written, hits, strict=True))
    print(f"{name}: greedy {100 * sum(hits) / len(hits):.0f} % of {len(hits)}; {dict(styles)}")


if __name__ == "__main__":
    typer.run(pilot)
