"""Shards of a stage that is fanned out: score by traces, evaluate by benchmarks. `merge` puts them together again.

A shard is written as 2/4: the second of four. A shard may be empty; it writes ``empty.json`` and nothing else.
Ingestion fans out by rows, as two stages of its own: `examine` and `join`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from dcod import storage, traces
from dcod.config import Config
from dcod.errors import UserError
from dcod.storage import parquet

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
    number, count = parse(shard)
    if stage == "evaluate":
        mine = config.evaluate.benchmarks[number - 1 :: count]
        section = config.evaluate.model_copy(update={"benchmarks": mine})
        return config.model_copy(update={"evaluate": section}), bool(mine)
    assert stage == "score", f"{stage} has no shards"
    total = traces.count_traces(inputs["traces"])
    begin, end = ((total * k) // count for k in (number - 1, number))
    with parquet.Writer(scratch / traces.FILE, traces.schema_of(inputs["traces"])) as writer:
        for batch in traces.read_batches(inputs["traces"], range(begin, end)):
            writer.write(pa.Table.from_batches([batch], traces.SCHEMA))
    inputs["traces"] = scratch
    return config, end > begin


def parse(shard: str) -> tuple[int, int]:
    """The number of a shard, from 1, and how many there are.

    Raises:
        UserError: it is not of that form.
    """
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", shard)
    if not found or int(found[1]) > int(found[2]):
        raise UserError(f"shard {shard!r}: expected k/n with 1 <= k <= n, such as 2/4")
    return int(found[1]), int(found[2])


def write_empty(out: Path) -> None:
    """The output of an empty shard."""
    with storage.output_folder(out) as scratch:
        storage.write_json(scratch / EMPTY, {"empty": True})
