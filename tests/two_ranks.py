"""Run by torchrun: trains on saved examples; rank 0 writes the history and the best student."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dcod.config import TrainConfig
from dcod.models import loading
from dcod.traces.prompts import load_tokenizer
from dcod.train import loop
from dcod.train.checkpoints import Checkpoints


def main(student: str, folder: str, config: str, kept: str = "", stop_at: str = "0") -> None:
    out = Path(folder)
    train, selection = pickle.loads((out / "examples").read_bytes())

    def metrics(_: dict[str, float], step: int) -> None:
        if step == int(stop_at) > 0:
            raise RuntimeError("stopped on purpose")

    def save(trained: Any) -> None:
        trained.save_pretrained(out / "best")
        with torch.no_grad():
            logits = trained(torch.arange(3, 21).reshape(2, 9)).logits
        save_file({"logits": logits.contiguous()}, out / "said")

    knobs = TrainConfig.model_validate_json(config)
    store = Checkpoints(kept) if kept else None
    tokenizer = load_tokenizer(Path(student))
    result = loop.train(loading.load(Path(student)), train, selection, knobs, 0, save, metrics, store, tokenizer)
    if os.environ["RANK"] == "0":
        (out / "history").write_text(json.dumps(result.history))


if __name__ == "__main__":
    main(*sys.argv[1:])
