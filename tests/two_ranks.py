"""Run by torchrun from tests/test_training.py: trains on saved examples and writes the history of rank 0."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

from dcod import models, training
from dcod.config import TrainConfig


def main(student: str, examples: str, config: str, out: str) -> None:
    data = pickle.loads(Path(examples).read_bytes())
    result = training.train(
        models.load(Path(student)), data[6:], data[:6], TrainConfig.model_validate_json(config), 0, lambda m: None,
        lambda values, step: None,
    )  # fmt: skip
    if os.environ["RANK"] == "0":
        Path(out).write_text(json.dumps(result.history))


if __name__ == "__main__":
    main(*sys.argv[1:])
