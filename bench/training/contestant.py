"""`python -m bench.training.contestant JOB NAME`: one contestant in this process; its measures on the last line."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.training import jobs

# name: the module with `run`, and what it is called with
CONTESTANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dcod, SFT": ("ours", {}),
    "dcod, DFT": ("ours", {"focus": 1.0}),
    "dcod, DFT, padded": ("ours", {"focus": 1.0, "layout": "padded"}),
    "dcod, DFT, 640 at once": ("ours", {"focus": 1.0, "micro_batch_tokens": 640}),
    "dcod, DFT, without oneDNN": ("ours", {"focus": 1.0, "onednn": False}),
    "dcod, surprisal": ("ours", {"correction": {"name": "surprisal"}}),
    "dcod, surprisal live": ("ours", {"correction": {"name": "surprisal", "weights": "live"}}),
    "plain loop": ("plain", {}),
    "TRL, DFT": ("trl_sft", {"loss_type": "dft"}),
    "TRL, SFT": ("trl_sft", {"loss_type": "nll"}),
    "TRL, DFT, sorted 4": ("trl_sft", {"loss_type": "dft", "micro_batch": 4}),
    "TRL, DFT, sorted 2": ("trl_sft", {"loss_type": "dft", "micro_batch": 2}),
    "TRL, DFT, sorted 1": ("trl_sft", {"loss_type": "dft", "micro_batch": 1}),
    "TRL, DFT, recomputing": ("trl_sft", {"loss_type": "dft", "micro_batch": 2, "activation_checkpointing": True}),
}
SAME = [  # the losses of each row must be the same, step by step
    ["plain loop", "dcod, SFT", "TRL, SFT"],
    [name for name in CONTESTANTS if "DFT" in name],
]


def measure(folder: Path, name: str) -> dict[str, Any]:
    """Runs one contestant on a job."""
    import torch
    from transformers import AutoModelForCausalLM

    from dcod.models import loading

    job, examples = jobs.load(folder)
    torch.set_num_threads(job.threads)
    module, knobs = CONTESTANTS[name]
    if not knobs.get("onednn", True):
        os.environ["DCOD_ONEDNN"] = "0"
    knobs = {key: value for key, value in knobs.items() if key != "onednn"}
    run = import_module(f"bench.training.{module}").run
    torch.manual_seed(0)
    # dcod's way of loading makes the layers faster, which is dcod's alone
    own = module == "ours"
    model = (
        loading.load(Path(job.model)) if own else AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32)
    )
    clock, before = jobs.Clock(), jobs.resident_bytes()
    run(job, examples, model, clock, **knobs)
    peak = jobs.peak_bytes()
    return {**clock.measured(job, examples), "peak_bytes": peak, "above_model_bytes": peak - before}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2])))
