"""The scored trace set: ``scores.parquet``, one row a trace in the student's own tokens.

Storage is 4 bytes a token for each of token ids, log-probs and entropies, and 8 K for each recorded top-k,
before compression.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcod.errors import UserError
from dcod.packing import Example

SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()),
        ("prompt_id", pa.string()),
        ("split", pa.string()),
        ("prompt_tokens", pa.list_(pa.int32())),
        ("completion_tokens", pa.list_(pa.int32())),
        ("student_logprobs", pa.list_(pa.float32())),
        ("entropies", pa.list_(pa.float32())),
        ("behavior_logprobs", pa.list_(pa.float32())),
        ("behavior_total", pa.float32()),
        ("teacher_top_ids", pa.list_(pa.list_(pa.int32()))),
        ("teacher_top_logprobs", pa.list_(pa.list_(pa.float32()))),
        ("start_top_ids", pa.list_(pa.list_(pa.int32()))),
        ("start_top_logprobs", pa.list_(pa.list_(pa.float32()))),
    ],
    metadata={"dcod.scores.version": "2"},
)


def write_scores(path: Path, examples: Sequence[Example], splits: Sequence[str]) -> None:
    """Writes the scored traces."""
    rows: list[dict[str, Any]] = [
        {name: getattr(example, name) for name in SCHEMA.names if name != "split"} | {"split": split}
        for example, split in zip(examples, splits, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")


def read_scores(folder: Path) -> dict[str, list[Example]]:
    """The scored traces by split.

    Raises:
        UserError: the folder holds no scores.
    """
    path = folder / "scores.parquet"
    if not path.is_file():
        raise UserError(f"{folder}: no scores.parquet in it; make it with `dcod score`")
    out: dict[str, list[Example]] = {"train": [], "selection": []}
    for row in pq.read_table(path).to_pylist():
        out[row.pop("split")].append(Example(**row))
    return out
