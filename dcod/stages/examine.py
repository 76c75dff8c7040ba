"""Examine: what ingestion finds out about each row alone, for one shard of the sources; `join` makes the trace set.

The shard is every n-th block of rows of all sources, so that one big file is spread over all shards. Each reads all
sources; that is a small part of the work.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dcod.config import Config
from dcod.ingest import examined_rows, feed
from dcod.ingest.examine import Examiner, examined
from dcod.stages import ingest
from dcod.stages.shards import Shard, Work

if TYPE_CHECKING:
    from dcod.tracking import Log

source_digests = ingest.source_digests


def run(config: Config, out: Path, log: Log, *, student: Path, part: str) -> dict[str, float]:  # noqa: ARG001
    """Examines the rows of ``part``, such as 2/4; see the module.

    Nobody knows here which problems `join` will accept first, so every row is examined, whatever ``ingest.limit`` is.

    Raises:
        UserError: ``part`` is not of that form, or as `ingest`.
    """
    shard = Shard.of(part)
    examiner = Examiner(config, student)
    files = feed.files(config)
    rows = shard.scattered(feed.blocks(files, config.ingest.row_bytes))
    workers = feed.processes(feed.size(files) // shard.count)
    count = examined_rows.write(out / examined_rows.FILE, examined(rows, examiner, lambda: None, workers))
    return {"rows": float(count)}


def narrow(shard: Shard, work: Work, scratch: Path) -> Work:  # noqa: ARG001
    """The shard, for `run` to pick its blocks while it reads: what has none writes a table without rows."""
    return replace(work, options={**work.options, "part": str(shard)})
