"""The stage `choose`: what it says of a winner, on pilots that were made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcod import storage
from dcod.config import Config
from dcod.promote.outcome import CHOICE
from dcod.reports import arms as report
from dcod.stages import choose, piloting
from dcod.stages.asked import SCHEMA, of_answers
from dcod.tracking import NullLog

BENCHMARK = {"name": "reasoning_gym", "source": "reasoning-gym://gcd?problems=20&seed=1"}


def tried(folder: Path, name: str, right: set[float]) -> Path:
    """A pilot of one seed whose student is right at some temperatures alone."""
    rows: list[dict[str, Any]] = [
        {
            "split": split, "seed": 0, "temperature": temperature, "problem_id": f"{split} {i}", "sample": 0,
            "value": float(temperature in right), "outcome": "correct" if temperature in right else "wrong",
            "answer": "1", "gold": "1", "response": "#### 1", "tokens": 3, "truncated": False,
        }
        for split in ("selection", "pilot") for temperature in (0.0, 0.6) for i in range(30)
    ]  # fmt: skip
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / piloting.ANSWERS)
    figures = {"share": 0.1, "tokens": 9.0, "steps": 3.0, "seconds": 1.0, **of_answers(rows)}
    arm = {"arm": {"name": name}, "sft": name == "sft", "state": piloting.TRAINED, "why": "", "seeds": [0]}
    storage.write_json(folder / piloting.ARM, {**arm, "figures": figures, "alone": 1.0, "before": 0})
    return folder


def chosen(folder: Path, benchmarks: list[dict[str, Any]], right: set[float]) -> dict[str, Any]:
    """The choice between plain fine-tuning, which is never right, and one arm."""
    folder.mkdir()
    config = Config.model_validate(
        {
            "train": {"arms": [{"name": "trust", "loss": {"name": "gce"}}], "pilot": {"min_problems": 5}},
            "ingest": {"pilot_share": 0.1, "selection_share": 0.1},
            "evaluate": {"benchmarks": benchmarks},
        }
    )
    (folder / "out").mkdir()
    pilots = {name: tried(folder / name, name, which) for name, which in (("sft", set()), ("trust", right))}
    choose.run(config, folder / "out", NullLog(), **pilots)
    made: dict[str, Any] = json.loads((folder / "out" / CHOICE).read_text())
    return made


@pytest.mark.parametrize(
    ("right", "asked", "said"),
    [
        ({0.6}, ["auto"], "chosen at temperature 0.6, asked greedy by report and gate"),
        ({0.6}, ["auto", 0.6], "chosen at temperature 0.6, asked greedy and at temperature 0.6 by report and gate"),
        ({0.0, 0.6}, [0.6], "chosen greedy, asked at temperature 0.6 by report and gate"),
        ({0.6}, [0.6], ""),
        ({0.0}, ["auto"], ""),
        (set(), ["auto"], ""),  # plain fine-tuning is kept
    ],
)
def test_a_winner_that_is_asked_at_another_temperature_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: set[float], asked: list[Any], said: str
) -> None:
    monkeypatch.setattr(choose, "_reported", lambda *_: {})  # asking them is the evaluation's
    benchmarks = [BENCHMARK | {"temperature": one} for one in asked]
    guard = BENCHMARK | {"role": "guard", "temperature": 0.9}
    choice = chosen(tmp_path / "a", [*benchmarks, guard], right)
    assert choice["choice"]["arm"] == ("trust" if right else "sft")
    assert choice["otherwise"] == said
    assert choice["choice"]["why"].endswith(f"; {said}") == bool(said)
    first, *lines = report.lines(report.answer(plain=not right, choice=choice).to_dict())
    assert said in first
    if right:
        how = "greedy" if 0.0 in right else "at temperature 0.6"
        assert f"Serve trust {how}, where it was best" in "\n".join(lines)


def test_without_a_benchmark_a_winner_is_chosen_and_nothing_is_compared(tmp_path: Path) -> None:
    choice = chosen(tmp_path / "a", [], {0.0, 0.6})
    assert (choice["choice"]["arm"], choice["report"], choice["otherwise"]) == ("trust", [], "")
    assert report.answer(plain=False, choice=choice).text.startswith(report.NO_REPORT)
