"""The weights of a scored set as a table: a column for whatever trains with it; see docs/weights.md.

They are those of the first epoch of dcod's own training with stored scores (:func:`dcod.train.loop.first_epoch`). What
a loss or ``train.focus`` would add is no weight, and is not in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dcod.config import Config, TrainConfig
from dcod.errors import UserError
from dcod.objective import feasibility
from dcod.objective.feasibility import Holdings
from dcod.train import loop
from dcod.train.sets import TraceSet

if TYPE_CHECKING:
    from dcod.traces.scored import ScoredTrace

FILE = "weights.parquet"
SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()),
        ("prompt_id", pa.string()),
        ("split", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("completion_mask", pa.list_(pa.int8())),
        ("weights", pa.list_(pa.float32())),
    ]
)
_ROWS = 512  # that are written at once


@dataclass(frozen=True)
class WeightedTrace:
    """A trace in the student's tokens, and what each counts.

    Attributes:
        trace_id: as in the trace set, whose traces.parquet has its text, verdict, file and line.
        prompt_id: the same for all traces of a prompt.
        split: ``train``, or ``selection`` for traces that are held back to select by.
        input_ids: prompt and completion, the end of the turn included.
        completion_mask: 1 where a token counts in the loss, 0 in the prompt.
        weights: one a token; 0 in the prompt, and 1 throughout the completions of the selection split.
    """

    trace_id: str
    prompt_id: str
    split: str
    input_ids: list[int]
    completion_mask: list[int]
    weights: list[float]


def weighted(splits: Mapping[str, TraceSet], config: Config) -> Iterator[WeightedTrace]:
    """The traces of a scored set with their weights, read as they are asked for.

    Args:
        splits: of :func:`dcod.score.scores.open_scores`.
        config: ``train`` decides the weights, ``seed`` the steps that they are compared within.

    Raises:
        UserError: no correction is named, the scores lack what it needs, or every weight would be 1.
    """
    if config.train.correction.name == "none":
        raise UserError(
            "train.correction.name=none gives every trace the weight 1; name a correction, for example "
            "train.correction.name=surprisal, which needs nothing but several traces a prompt"
        )
    loop.check(config.train, splits["train"])
    if loop.made_in_training(config.train, splits["train"]):
        raise UserError(
            "train.correction.name=success: its weights are made by `dcod train`, which asks a student first; take "
            "another correction here"
        )
    check_active(config.train, splits["train"])
    for example, weights in loop.first_epoch(splits["train"], config.train, config.seed):
        yield _row(example, "train", weights)
    held = splits["selection"]
    for number in range(len(held)):
        (example,) = held.take([number])
        yield _row(example, "selection", [1.0] * len(example.completion_tokens))


def write(folder: Path, traces: Iterable[WeightedTrace]) -> int:
    """Writes ``weights.parquet`` into a folder; says how many traces it holds."""
    count = 0
    with pq.ParquetWriter(folder / FILE, SCHEMA, compression="zstd") as writer:
        rows = iter(traces)
        while some := list(islice(rows, _ROWS)):
            writer.write_table(pa.Table.from_pylist([asdict(row) for row in some], schema=SCHEMA))
            count += len(some)
    return count


def check_active(train: TrainConfig, traces: TraceSet) -> None:
    """Refuses a correction that comes out as 1 for every trace, unless that is asked for (``train.allow_idle``).

    Raises:
        UserError: why it does nothing, and the way out.
    """
    per_prompt, count = np.bincount(traces.prompts), len(traces)
    held = Holdings(
        count,
        len(per_prompt),
        int((per_prompt == 1).sum()),
        logprobs=count,
        totals=count,
        top_k=count,
        weights=count,
        selection=count,
    )
    if why := feasibility.refused_as_idle(train, held):
        raise UserError(why)


def _row(example: ScoredTrace, split: str, weights: list[float]) -> WeightedTrace:
    before, after = len(example.prompt_tokens), len(example.completion_tokens)
    return WeightedTrace(
        example.trace_id,
        example.prompt_id,
        split,
        [*example.prompt_tokens, *example.completion_tokens],
        [0] * before + [1] * after,
        [0.0] * before + weights,
    )
