"""A whole run in which an arm wins: the pilot finds it, it is trained on all traces, judged and told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest

from bench.study import lab
from bench.study.regimes import running
from bench.study.second.regimes import REGIMES
from tests.pipelines.test_distill import answered
from tests.tracked import fresh_store

REGIME, SEED = REGIMES["noisy_filtered"], 0
PROMPTS, ASKED, WRONG = 900, 400, 2
# What the study's networks read: the problem as it is, and what is written to it up to its end.
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}<end>{% endif %}{% endfor %}"


def write_set(folder: Path) -> None:
    """A start with its tokenizer; to every problem a right solution, and two wrong ones that weigh next to nothing."""
    shutil.copytree(lab.start(REGIME, SEED, folder / "study"), folder / "start")
    tokenizer = lab.tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder / "start")
    rng, right, rows = Random(SEED), running(), []
    for problem in lab.problems(REGIME, PROMPTS, SEED, distinct=True):
        solution = right(rng, problem)
        steps = solution.rpartition("#")[0]
        ends = [problem.answer, *(str((int(problem.answer) + by) % 10) for by in range(1, WRONG + 1))]
        rows += [
            {
                "prompt": problem.text,
                "completion": f"{steps}#{end}",
                "gold": problem.answer,
                "weight": 0.01 if place else 1.0,
            }
            for place, end in enumerate(ends)
        ]
    asked = lab.problems(REGIME, ASKED, lab.TEST + SEED, distinct=True)
    problems = [{"problem": one.text, "answer": one.answer} for one in asked]
    for name, lines in (("traces", rows), ("problems", problems)):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.mark.long
def test_an_arm_that_helps_is_found_trained_and_told(tmp_path: Path) -> None:
    """Weights of one's own that leave the wrong traces out: nobody needs a study to know that they help here."""
    write_set(tmp_path)
    values = {
        "name": "wins",
        "student": {"model": str(tmp_path / "start"), "max_length": 96},
        "ingest": {"sources": [str(tmp_path / "traces.jsonl")], "keep": "all", "answers": "last_number",
                   "selection_share": 0.2, "pilot_share": 0.2},
        "train": {
            "arms": [{"name": "trusted", "correction": {"name": "given"}}, {"name": "mild", "loss": {"name": "gce"}}],
            "pilot": {"share": 0.5}, "learning_rate": 2e-3, "epochs": 4, "traces_per_step": 32,
        },
        "evaluate": {
            "benchmarks": [{"name": "custom", "source": f"{tmp_path}/problems.jsonl?kind=as_is", "max_new_tokens": 48}],
            "few_shot": 0,
        },
        "promote": {"lease": str(tmp_path / "lease")},
        "tracking": fresh_store(tmp_path / "store").model_dump(),
    }  # fmt: skip
    answer, said = answered(tmp_path, values)
    choice = answer["choice"]["choice"]
    assert choice["arm"] == "trusted", choice["why"]
    assert min(one["low"] for one in choice["against"] if one["name"] == "trusted") > 0.1
    assert answer["text"].startswith("The correction brought +")
    assert "at pilot size" in answer["text"]  # no twin is trained: its pilot answered the report problems
    assert "The pilot chose trusted" in answer["text"]
    assert said.count(answer["text"]) == 1
    trained = json.loads((tmp_path / "runs/latest/arm.json").read_text())
    assert trained["arm"]["name"] == "trusted"  # the whole student is of the arm, whatever the gate says of it
