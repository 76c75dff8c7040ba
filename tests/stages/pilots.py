"""A tiny student, traces that say one thing only, and the pilots of its arms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dcod.config import Config
from dcod.stages import piloting
from dcod.stages.execute import RunContext, execute
from dcod.traces import synthetic
from dcod.traces.prompts import prompt_for
from tests.tiny import save_tiny_student

ARMS = [
    {"name": "trust", "loss": {"name": "gce", "power": 0.5}},
    {"name": "ratio", "correction": {"name": "support"}},
]


class Place:
    """Traces and scores of a tiny student, and the pilots of its arms."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.student = folder, folder / "student"
        save_tiny_student(self.student)
        rows = [
            {"prompt": prompt_for("number", p.question)[0]["content"], "completion": "#### 1", "gold": "1"}
            for p in synthetic.problems("reasoning-gym://gcd?problems=60&seed=1&max_value=60")
        ]
        (folder / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.config = Config.model_validate(
            {
                "student": {"model": str(self.student), "max_length": 400},
                "ingest": {"sources": [str(folder / "traces.jsonl")], "selection_share": 0.2, "pilot_share": 0.3},
                "train": {
                    "learning_rate": 0.02, "epochs": 6, "traces_per_step": 4, "arms": ARMS,
                    "checkpoints": {"uri": str(folder / "checkpoints")},
                    "pilot": {"share": 0.8, "seeds": 2, "samples": 1, "temperatures": [0.0, 1.0], "min_problems": 5,
                              "max_new_tokens": 8},
                },
                "evaluate": {"benchmarks": [{
                    "name": "reasoning_gym", "max_new_tokens": 8,
                    "source": "reasoning-gym://gcd?problems=20&seed=90000&max_value=60",
                }]},
                "score": {"checkpoints": {"uri": str(folder / "checkpoints")}},
            }
        )  # fmt: skip
        self.run("ingest", "traces", student=self.student)
        self.run("score", "scores", student=self.student, traces=folder / "traces")

    def run(
        self, stage: str, out: str, config: Config | None = None, /, arm: str = "", first: bool = False, **inputs: Path
    ) -> Path:
        options: dict[str, Any] = ({"arm": arm} if arm else {}) | ({"first": True} if first else {})
        execute(stage, config or self.config, self.folder / out, inputs, RunContext(tracked=False), **options)
        return self.folder / out

    def pilot(self, arm: str, config: Config | None = None) -> Path:
        inputs = {"student": self.student, "traces": self.folder / "traces", "scores": self.folder / "scores"}
        return self.run("pilot", f"pilot-{arm}", config, arm=arm, **inputs)


def graded(rows: Any, outcome: str) -> Any:
    """Answers that are all right, or all wrong."""
    for name, one in (("outcome", outcome), ("value", float(outcome == "correct"))):
        rows = rows.set_column(rows.schema.get_field_index(name), name, [[one] * len(rows)])
    return rows


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / piloting.ARM).read_text())


def with_pilots(folder: Path) -> Place:
    """The place, with the pilots of all its arms."""
    made = Place(folder)
    for arm in ("sft", "trust", "ratio"):
        made.pilot(arm)
    return made
