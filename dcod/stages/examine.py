"""Examine: what ingestion finds out about each row alone, for one shard of the sources; `join` makes the trace set.

The shard is every n-th block of rows of all sources, so that one big file is spread over all shards. Each reads all
sources; that is a small part of the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dcod.config import Config
from dcod.ingest import examined_rows, feed
from dcod.ingest.examine import Examiner, examined
from dcod.ingest.examined_rows import ShardOf
from dcod.stages import ingest, shards

if TYPE_CHECKING:
    from dcod.tracking import Log

source_digests = ingest.source_digests


def run(config: Config, out: Path, log: Log, *, student: Path, part: str) -> dict[str, float]:  # noqa: ARG001
    """Examines the rows of ``part``, such as 2/4; see the module.

    Nobody knows here which problems `join` will accept first, so ``ingest.limit`` spares no row the examining.

    Raises:
        UserError: ``part`` is not of that form, or as `ingest`.
    """
    share = ShardOf(*shards.parse(part))
    examiner = Examiner(config, student)
    files = feed.files(config)
    rows = share.of(feed.blocks(files, config.ingest.row_bytes))
    workers = feed.processes(feed.size(files) // share.count)
    count = examined_rows.write(out / examined_rows.FILE, examined(rows, examiner, lambda: None, workers))
    return {"rows": float(count)}
