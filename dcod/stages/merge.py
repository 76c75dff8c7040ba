"""Merge: the outputs of all shards of a stage become one, in the order of the shards.

1. leave out the shards that were empty;
2. join the tables; scores get one drift curve and their figures anew, results one summary, and the other files of the
   first shard, which are of the model and not of a benchmark;
3. metrics: of scores, those of all; of results, those of each benchmark.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from dcod import benchmarks, storage
from dcod.config import Config
from dcod.errors import UserError
from dcod.score import scores
from dcod.stages import manifests, score, shards
from dcod.traces import count_traces

if TYPE_CHECKING:
    from dcod.tracking import Log

_TABLES = {"score": "scores.parquet", "evaluate": "examples.parquet"}
_KNOWN = {
    "score": {"scores.parquet", "drift.json"},
    "evaluate": {"examples.parquet", "summary.json", "recorded.json", "drift.json"},
}


def run(
    config: Config,
    out: Path,
    log: Log,  # noqa: ARG001 - every stage has it
    *,
    kind: str,
    traces: Path | None = None,
    **parts: Path,
) -> dict[str, float]:
    """Merges ``part0``, ``part1``, …; see the module. ``traces`` is the set that was scored."""
    if kind not in _TABLES:
        raise UserError(f"merge {kind!r}: expected {' or '.join(_TABLES)}")
    folders = shards.ordered(f"merge {kind}", parts)
    for folder in folders:
        unknown = {path.name for path in folder.iterdir()} - _KNOWN[kind] - {storage.MANIFEST, storage.MARK}
        assert not unknown, f"merge does not know what to do with {unknown}"
    if kind == "score" and len({scores.scored_by(folder) for folder in folders}) > 1:
        raise UserError("merge score: the shards are of different students; score all of them with one")
    drift, totals = score.Drift(), score.Totals()
    files = [pq.ParquetFile(folder / _TABLES[kind]) for folder in folders]
    count = sum(file.metadata.num_rows for file in files)
    if traces and count != count_traces(traces):
        raise UserError(
            f"merge score: {count} scores of {count_traces(traces)} traces; give each shard of a scoring once"
        )
    with pq.ParquetWriter(out / _TABLES[kind], files[0].schema_arrow, compression="zstd") as writer:
        for group in (file.read_row_group(n) for file in files for n in range(file.num_row_groups)):
            writer.write_table(group)
            if kind == "score":
                for figures in (drift, totals):
                    figures.add(group)
    if kind == "score":
        storage.write_json(out / "drift.json", drift.curve())
        facts = [manifests.read(folder)["facts"].get("student", {}) for folder in folders]
        manifests.note(out, student=max(facts, key=lambda told: "speed" in told))  # a killed shard may not know its own
        return totals.metrics()
    metrics = [manifests.read(folder)["metrics"] for folder in folders]
    summaries = [storage.read_json(folder / "summary.json", made_by="dcod evaluate") for folder in folders]
    if len({json.dumps(summary["model"]["digest"]) for summary in summaries}) > 1:
        raise UserError("merge evaluate: the shards are of different models")
    names = [name for summary in summaries for name in summary["benchmarks"]]
    if names and sorted(names) != sorted(map(benchmarks.key, config.evaluate.benchmarks)):
        raise UserError(f"merge evaluate: results of {', '.join(names)}; give each shard of an evaluation once")
    answered = {name: each for summary in summaries for name, each in summary["benchmarks"].items()}
    whole = summaries[0] | {"benchmarks": answered}
    if "contamination" in whole:  # counted against the benchmarks of each shard
        counts = [summary["contamination"] for summary in summaries]
        whole["contamination"] = {
            name: value if name == "traces" else sum((count[name] for count in counts), type(value)())
            for name, value in counts[0].items()
        }
    storage.write_json(out / "summary.json", whole)
    for name in ("recorded.json", "drift.json"):
        if (folders[0] / name).is_file():
            shutil.copyfile(folders[0] / name, out / name)
    return {name: value for each in metrics for name, value in each.items()}


def beyond(config: Config, out: Path) -> dict[str, float]:
    """As of the stage whose shards these were."""
    return score.beyond(config, out) if (out / _TABLES["score"]).is_file() else {}
