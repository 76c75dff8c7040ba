"""A whole run on a made-up set where a correction is known to help: the pilot finds it, and the run trains it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from bench.study import lab
from bench.study.second.regimes import REGIMES
from tests.pipelines.test_distill import dcod
from tests.tracked import fresh_store

REGIME, SEED = REGIMES["two_teachers"], 10  # bench.pilot_real knows what naturalness brings here: 9 to 26 points
PROMPTS, ASKED = 2000, 700
# What the study's networks read: the problem as it is, and what is written to it up to its end.
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}<end>{% endif %}{% endfor %}"


def write_set(folder: Path, work: Path) -> None:
    """The start with its tokenizer, the traces of both teachers, and problems that nothing was trained on."""
    shutil.copytree(lab.start(REGIME, SEED, work), folder / "start")
    tokenizer = lab.tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder / "start")
    drawn = lab.problems(REGIME, PROMPTS, SEED, distinct=True)
    rows = []
    for trace in lab.sampled(REGIME, PROMPTS, SEED, work)[0]:
        problem = drawn[int(trace.prompt_id)]
        text = tokenizer.decode(trace.completion_tokens, skip_special_tokens=True)
        rows.append({"prompt": problem.text, "completion": text, "gold": problem.answer})
    asked = lab.problems(REGIME, ASKED, lab.TEST + SEED, distinct=True)
    for name, lines in (
        ("traces", rows),
        ("problems", [{"problem": one.text, "answer": one.answer} for one in asked]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.mark.long
def test_a_correction_that_helps_is_found_trained_and_told(tmp_path: Path) -> None:
    write_set(tmp_path, tmp_path / "study")
    values = {
        "name": "wins",
        "student": {"model": str(tmp_path / "start"), "max_length": 96},
        "ingest": {"sources": [str(tmp_path / "traces.jsonl")], "answers": "last_number",
                   "selection_share": 0.2, "pilot_share": 0.2},
        "train": {
            "arms": [{"name": "near", "correction": {"name": "naturalness", "weights": "live", "gamma_max": 4.0}}],
            "pilot": {"share": 1.0}, "learning_rate": 2e-3, "epochs": 4, "traces_per_step": 32,
        },
        "evaluate": {
            "benchmarks": [{"name": "custom", "source": f"{tmp_path}/problems.jsonl?kind=as_is", "max_new_tokens": 48}],
            "few_shot": 0,
        },
        "promote": {"lease": str(tmp_path / "lease")},
        "tracking": fresh_store(tmp_path / "store").model_dump(),
    }  # fmt: skip
    path = tmp_path / "dcod.yaml"
    path.write_text(yaml.safe_dump(values))
    done = dcod(tmp_path, "run", "--config", str(path))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads((tmp_path / "runs/latest/answer.json").read_text())
    assert answer["choice"]["choice"]["arm"] == "near", answer["choice"]["choice"]["why"]
    assert "at pilot size" in answer["text"]  # no twin is trained: its pilot answered the report problems
