"""Made-up scores of a step, and configurations that leave a formula bare."""

from __future__ import annotations

import pyarrow as pa
import torch

from dcod.config import CorrectionConfig
from dcod.objective.step_scores import StepScores
from dcod.traces import scored


def plain(name: str, **knobs: object) -> CorrectionConfig:
    """Nothing clipped, truncated or floored, no ESS floor."""
    given = {"clip": 1e9, "truncate": 1e9, "floor": 0.0, "ess_floor": 0.0, "bucket_width": 1}
    return CorrectionConfig.model_validate({"name": name, **given, **knobs})


def random_record(traces: int = 12, width: int = 40, seed: int = 0, prompts: int = 4) -> StepScores:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, width + 1, (traces,), generator=generator)
    draw = lambda: -torch.rand(traces, width, generator=generator) * 3  # noqa: E731
    mask = torch.arange(width)[None] < lengths[:, None]
    record = StepScores(
        draw(), mask, torch.arange(traces) % prompts, behavior_logprobs=draw(), entropies=-draw(), start_logprobs=draw()
    )
    record.start_mass, record.start_ranks, record.local_logprobs = draw().exp(), (-40 * draw()).ceil() + 1, draw()
    record.given, record.progress = 0.1 + torch.rand(traces, generator=generator), torch.full((traces,), 0.5)
    for name, kind in scored.told(scored.KIND).items():
        if name in scored.told(scored.DEMAND):
            record.demanded[name] = -draw() if pa.types.is_list(kind) else -draw()[:, 0]
    record.success = 0.1 + 0.8 * torch.rand(traces, generator=generator)
    return record
