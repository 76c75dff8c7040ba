"""Shards of a stage that is fanned out: score by traces, evaluate by benchmarks. `merge` puts them together again.

A shard is written as 2/4: the second of four. A shard may be empty; it writes ``empty.json`` and nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq

from dcod import storage, traces
from dcod.config import Config
from dcod.errors import UserError

EMPTY = "empty.json"


def part(stage: str, shard: str, config: Config, inputs: dict[str, Path], scratch: Path) -> tuple[Config, bool]:
    """Narrows a stage down to one shard; ``inputs`` is changed in place.

    Args:
        stage: score or evaluate.
        shard: such as 2/4.
        config: the whole configuration.
        inputs: the stage's input folders.
        scratch: an empty folder, for an input that is cut.

    Returns:
        The configuration of the shard, and whether anything is left to do.

    Raises:
        UserError: ``shard`` is not of that form.
    """
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", shard)
    if not found or int(found[1]) > int(found[2]):
        raise UserError(f"shard {shard!r}: expected k/n with 1 <= k <= n, such as 2/4")
    number, count = int(found[1]), int(found[2])
    if stage == "evaluate":
        mine = config.evaluate.benchmarks[number - 1 :: count]
        section = config.evaluate.model_copy(update={"benchmarks": mine})
        return config.model_copy(update={"evaluate": section}), bool(mine)
    assert stage == "score", f"{stage} has no shards"
    total = traces.count_traces(inputs["traces"])
    begin, end = ((total * k) // count for k in (number - 1, number))
    with pq.ParquetWriter(scratch / "traces.parquet", traces.SCHEMA, compression="zstd") as writer:
        for batch in traces.read_batches(inputs["traces"], range(begin, end)):
            writer.write_batch(batch, row_group_size=len(batch))
    inputs["traces"] = scratch
    return config, end > begin


def write_empty(out: Path) -> None:
    """The output of an empty shard."""
    with storage.output_folder(out) as scratch:
        storage.write_json(scratch / EMPTY, {"empty": True})
