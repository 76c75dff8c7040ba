"""What the configured correction could do with some scores, before a GPU is asked for (docs/method.md, section 4)."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import torch

from dcod.config import TrainConfig
from dcod.models.batches import stored_record
from dcod.objective import family, weighting
from dcod.objective.corrections import CORRECTIONS, mean
from dcod.objective.feasibility import Remark
from dcod.score.scores import traces_of

_LOOKED_AT = 1024  # traces, the first of a set; whole prompts stand together in it


class Outlook:
    """Looks at the first traces for training of a set; tables are added one by one."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.seen: list[pa.Table] = []
        self.count = 0
        self.prompts: Counter[str] = Counter()

    def add(self, table: pa.Table) -> None:
        """Takes the traces of a table in."""
        table = table.filter(pc.equal(table["split"], "train"))
        self.prompts.update(table["prompt_id"].to_pylist())
        if room := _LOOKED_AT - self.count:
            self.seen.append(table.slice(0, room))
            self.count += len(self.seen[-1])

    def metrics(self) -> dict[str, float]:
        """Traces a prompt; and where stored scores suffice, how far weights lie apart and what full strength costs.

        ``log_weight_spread`` is the mean standard deviation within prompts of the traces' mean untempered log-weights,
        in nats; ``ess_at_full_strength`` is the rescaled effective sample size at ``gamma_max``.
        """
        correction = self.config.correction.model_copy(update={"ess_floor": 0.0, "weights": "stored"})
        figures = {"traces_a_prompt": self.prompts.total() / max(1, len(self.prompts))}
        traces = [trace for table in self.seen for trace in traces_of(table)]
        if not traces or correction.name in ("none", "iw_sft"):  # the second compares with a student yet to come
            return figures
        record = stored_record(traces)
        for alternatives in family.needs(correction):
            if all(getattr(record, name) is None for name in alternatives):
                return figures
        log_weights = CORRECTIONS[correction.name](correction, record).expand(record.mask.shape)
        each = mean(log_weights, record.mask)[:, 0].double()
        spreads = [each[record.prompts == prompt].std(correction=0) for prompt in record.prompts.unique()]
        return figures | {
            "log_weight_spread": float(torch.stack(spreads).mean()),
            "ess_at_full_strength": weighting.plan(correction, record).ess_at_max,
        }


def of_start(config: TrainConfig, mean_probability: float) -> list[Remark]:
    """What the start's own probability of the traces says of losses and weights that lean on it (arXiv 2510.00526)."""
    leaning = config.correction.name in ("support", "support_text", "token_support", "idft")
    leaning |= config.loss.name in ("gce", "deft") or config.focus > 0
    if not leaning or mean_probability >= _DOUBTFUL:
        return []
    how = "is harmful" if mean_probability < _HARMFUL else "brought nothing in published trials"
    text = f"the start gives the traces' tokens a mean probability of {mean_probability:.2f}"
    return [
        Remark(
            "warning",
            "unknown_to_the_start",
            f"{text}: what leans on the student's own belief {how} below {_DOUBTFUL:g} (some 0.8 is needed)",
            "compare it with plain fine-tuning, or take train.loss.name=log and a correction within prompts",
        )
    ]


_DOUBTFUL, _HARMFUL = 0.6, 0.1
