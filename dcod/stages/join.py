"""Join: the trace set of an ingestion that was fanned out; `ingest` in one pod writes the same, byte for byte.

1. check that the shards are all there, and read the sources that are there now;
2. read the sources again, without examining them, and put what `examine` found out beside each row;
3. go on as `ingest` does: the limit, duplicates across all shards, the split, the accounts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod.config import Config
from dcod.errors import UserError
from dcod.ingest import assemble, examined_rows, feed
from dcod.stages import ingest, manifests
from dcod.stages.digests import code_digest, output_digest
from dcod.stages.manifests import note
from dcod.stages.shards import Shard
from dcod.traces import prompts, turns

if TYPE_CHECKING:
    from dcod.tracking import Log

source_digests = ingest.source_digests


def run(config: Config, out: Path, log: Log, *, student: Path, **parts: Path) -> dict[str, float]:
    """Makes the trace set of the shards ``part0``, ``part1``, …; see the module.

    Raises:
        UserError: a shard is missing, the shards are of another ingestion, or as `ingest`.
    """
    files = feed.files(config)
    digests = feed.digests(config)
    examined = [folder / examined_rows.FILE for folder in _ordered(config, student, parts, digests)]
    tokenizer = prompts.of_student(student, config.student)
    note(out, turns=turns.of(tokenizer).table())
    rows = feed.watched(feed.blocks(files, config.ingest.row_bytes), files)
    with assemble.building(config.ingest, out) as builder:
        outcomes = examined_rows.joined(rows, examined)
        builder.write(out, outcomes, tokenizer=prompts.tokenizer_digest(tokenizer))
    return ingest.finished(out, log, builder, [source.path for source in feed.addressed(config)])


def _ordered(config: Config, student: Path, parts: dict[str, Path], read: dict[str, str]) -> list[Path]:
    """The shards' folders by their numbers, if they are of this ingestion; ``read`` are its sources."""
    resolved = config.model_dump(mode="json")
    wanted: dict[str, Any] = {"inputs": {"student": output_digest(student)}, "code": code_digest("examine")}
    by_number: dict[int, Path] = {}
    for folder in parts.values():
        manifest = manifests.read(folder)
        shard = Shard.of(manifest["options"]["part"])
        wanted["config"] = {name: resolved[name] for name in manifest["config"]}
        known = all(manifest[name] == value for name, value in wanted.items())
        if shard.count != len(parts) or shard.number in by_number or not known:
            raise UserError(f"join {folder}: shard {shard} of another ingestion; give each shard of one once")
        odd = sorted(set(read.items()) ^ set(manifest["sources"].items()))
        if odd:
            raise examined_rows.changed(odd[0][0])
        by_number[shard.number] = folder
    return [by_number[number] for number in sorted(by_number)]
