"""What the configured correction could do with some scores, before a GPU is asked for (docs/method.md, section 4)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import torch

from dcod.config import TrainConfig
from dcod.models.batches import stored_record
from dcod.objective import corrections, doubts, weighting
from dcod.objective.corrections import CORRECTIONS
from dcod.objective.feasibility import Remark
from dcod.score.scores import SCHEMA, traces_of

COLUMNS = [name for name in SCHEMA.names if "top" not in name.split("_")]  # which no correction looks at

_SAME = 1e-6  # of 1: the effective sample size of weights that are all alike
_HARMFUL = 0.1
_MOST = 1024  # traces that are looked at
_MOST_TOKENS = 2**20  # of them, each as long as the longest


class Outlook:
    """Looks at some prompts of a set, with all of their traces for training; tables are added one by one.

    Prompts are drawn by a hash of their identity: those of a prompt need not stand together, as those of `dcod teach`
    do not, and the shards of a scoring draw the same. Memory does not grow with the set.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.bound = 2**32  # of the hash
        self.seen = pa.table({name: pa.array([], SCHEMA.field(name).type) for name in COLUMNS})

    def add(self, table: pa.Table) -> None:
        """Takes the traces of a table in."""
        table = table.filter(pc.equal(table["split"], "train")).select(COLUMNS)
        self.seen = pa.concat_tables([self.seen, self._drawn(table)])
        while self._too_many() and pc.count_distinct(self.seen["prompt_id"]).as_py() > 1:
            self.bound //= 2
            self.seen = self._drawn(self.seen)

    def _drawn(self, table: pa.Table) -> pa.Table:
        if self.bound == 2**32:
            return table
        hashes = [zlib.crc32(name.encode()) for name in table["prompt_id"].to_pylist()]
        return table.filter(pa.array([value < self.bound for value in hashes], pa.bool_()))

    def _too_many(self) -> bool:
        longest = pc.max(pc.list_value_length(self.seen["completion_tokens"])).as_py() or 0
        return len(self.seen) > _MOST or len(self.seen) * longest > _MOST_TOKENS

    def metrics(self) -> dict[str, float]:
        """Traces a prompt; and where stored scores suffice, how far weights lie apart and what full strength costs.

        ``log_weight_spread`` is the mean standard deviation within prompts of the traces' mean untempered log-weights,
        in nats; ``ess_at_full_strength`` is the rescaled effective sample size at ``gamma_max``.
        """
        correction = self.config.correction.model_copy(update={"ess_floor": 0.0, "weights": "stored"})
        traces = traces_of(self.seen)
        figures = {"traces_a_prompt": len(traces) / max(1, len({trace.prompt_id for trace in traces}))}
        if not traces or correction.name in ("none", "iw_sft"):  # the second compares with a student yet to come
            return figures
        record = stored_record(traces)
        for alternatives in corrections.needs(correction):
            if record.known().keys().isdisjoint(alternatives):
                return figures
        log_weights = CORRECTIONS[correction.name](correction, record).expand(record.mask.shape)
        each = record.mean(log_weights)[:, 0].double()
        spreads = [each[record.prompts == prompt].std(correction=0) for prompt in record.prompts.unique()]
        return figures | {
            "log_weight_spread": float(torch.stack(spreads).mean()),
            "ess_at_full_strength": weighting.plan(correction, record).ess_at_max,
        }


def of_start(config: TrainConfig, mean_probability: float) -> list[Remark]:
    """What the start's own probability of the traces says of losses and weights that lean on it.

    Nothing where arms are compared: `train.correction` is none of them, and each is compared with plain fine-tuning.
    """
    why = "" if config.compared else doubts.doubted(config, mean_probability)
    if not why:
        return []
    leaning = doubts.leaning(config)
    harm = "; published trials found it harmful (arXiv 2510.00526)" if mean_probability < _HARMFUL else ""
    return [
        Remark(
            "warning",
            "unknown_to_the_start",
            f"{' and '.join(leaning)}: {why}{harm}",
            f"compare it with plain fine-tuning (train.twin=true), or set {' '.join(leaning.values())}",
        )
    ]


def of_weights(config: TrainConfig, metrics: Mapping[str, float]) -> list[Remark]:
    """Whether the configured correction tells the traces apart at all, by the figures of an :class:`Outlook`."""
    name = config.correction.name
    if name == "none" or metrics.get("ess_at_full_strength", 0.0) < 1.0 - _SAME:
        return []
    text = f"train.correction.name={name} finds no difference between the traces: every weight is 1"
    given = "bring weights that differ, or take another correction"
    way_out = given if name == "given" else "take another correction, or train.correction.name=none"
    return [Remark("idle", "equal_weights", text, way_out)]
