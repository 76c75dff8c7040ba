"""The world of the simulated month: jars whose code follows from their colour, and batches of traces about them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

from dcod.config import Config
from tests.tracked import fresh_store

MONTH = Path(__file__).resolve().parents[1] / "data" / "retrain" / "month.yaml"
CODES = {"red": 4, "blue": 7, "green": 2, "grey": 9}
ASKED = ("red", "blue", "green")  # by the benchmark
BATCHES = ("red", "more_red", "far", "blue", "green", "grey")
COLOURS = {"more_red": "red", "far": "red"}


def problem(colour: str, number: int) -> str:
    return f"{f'{colour} ' * 6}jar {number}"


def numbers(seed: int) -> list[int]:
    """Numbers of jars, in an order of the seed. Colours share the range, or a student could tell them by the number."""
    return random.Random(f"numbers {seed}").sample(range(1000, 10_000), 50 * len(ASKED) + 100 * len(BATCHES))


def benchmark(seed: int) -> list[dict[str, str]]:
    """50 problems of each colour."""
    colours = [colour for colour in ASKED for _ in range(50)]
    pairs = zip(colours, numbers(seed)[: len(colours)], strict=True)
    return [{"problem": problem(colour, number), "answer": str(CODES[colour])} for colour, number in pairs]


def batch(what: str, traces: int, seed: int) -> list[dict[str, str]]:
    """Traces as they arrive, in a format that ingestion knows; at most 100."""
    rng = random.Random(f"{what} {seed}")
    if what == "contaminated":
        pairs = [(row["problem"], row["answer"]) for row in rng.sample(benchmark(seed), traces)]
    else:
        colour, first = COLOURS.get(what, what), 50 * len(ASKED) + 100 * BATCHES.index(what)
        pairs = [(problem(colour, number), str(CODES[colour])) for number in numbers(seed)[first : first + traces]]
    rows = []
    for asked, code in pairs:
        thought = f"{_gibberish(rng)}\n" if what == "far" else ""
        rows.append({"problem": asked, "text": f"{thought}#### {code}", "answer": code})
    return rows


def _gibberish(rng: random.Random) -> str:
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(rng.randint(8, 24))]
    return " ".join(words)


def arrive(folder: Path, what: str, traces: int, seed: int) -> None:
    """Puts a batch into the folder that the schedule looks at."""
    from dcod.traces.prompts import prompt_for

    folder.mkdir(exist_ok=True)
    rows = [
        {"prompt": prompt_for("number", row["problem"]), "completion": row["text"], "gold": row["answer"]}
        for row in batch(what, traces, seed)
    ]
    (folder / f"{what}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def world(folder: Path, student: Path, seed: int) -> tuple[list[str], Config]:
    """A fresh world: the arguments of `dcod run`, and the configuration that they make."""
    from dcod.config import parse_config
    from dcod_pipelines.presets import text_of

    (folder / "traces").mkdir()
    rows = benchmark(seed)
    (folder / "jars.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    benchmarks = [{"name": "custom", "source": f"{folder / 'jars.jsonl'}?kind=number", "max_new_tokens": 12}]
    values: dict[str, Any] = {
        "seed": seed,
        "student.model": str(student),
        "student.max_length": 400,
        "ingest.sources": [str(folder / "traces")],
        "ingest.selection_share": 0.2,
        "train.correction.name": "surprisal",  # a teacher can be too far for it; plain fine-tuning takes any
        "train.correction.weights": "live",
        "train.allow_idle": True,  # one trace a prompt, which it leaves alone
        "train.learning_rate": 0.01,
        "train.epochs": 8,
        "train.traces_per_step": 8,
        "train.checkpoints.uri": "",
        "evaluate.benchmarks": benchmarks,
        "promote.tests_per_period": 10,
        "promote.min_problems": 50,
        "promote.max_unparseable": 1.0,
        "promote.max_truncated": 1.0,
        "promote.lease": str(folder / "lease"),
        "retrain.min_new_traces": 40,
        "retrain.replay_share": 0.5,
        "tracking": fresh_store(folder / "store").model_dump(),
    }
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    return ["run", "--preset", "retrain", *overrides], parse_config(text_of("retrain"), overrides)


def plan() -> dict[str, Any]:
    """What was written down."""
    found: dict[str, Any] = yaml.safe_load(MONTH.read_text(encoding="utf-8"))
    return found
