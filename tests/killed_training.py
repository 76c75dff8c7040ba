"""Run by tests/train/test_checkpoints.py: trains with a checkpoint a step, and may kill itself inside one."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from dcod.config import TrainConfig
from dcod.models import loading
from dcod.storage import outputs, parts
from dcod.train import checkpoints, loop
from dcod.train.checkpoints import Checkpoints
from tests.train.test_checkpoints import KNOBS, make_examples


def killing(function: Callable[..., Any], when: Callable[..., bool], after: bool) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        hit = when(*arguments)
        if hit and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        out = function(*arguments, **keywords)
        if hit and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return out

    return wrapped


def main(student: str, folder: str, die: str) -> None:
    out = Path(folder)
    calls = iter(range(10_000))
    fourth = lambda *_: next(calls) == 3  # noqa: E731
    if die == "begin":
        checkpoints.weights_of = killing(checkpoints.weights_of, fourth, False)
    elif die == "model":
        checkpoints.moments_of = killing(checkpoints.moments_of, fourth, False)
    elif die == "optimizer":
        checkpoints.moments_of = killing(checkpoints.moments_of, fourth, True)
    elif die == "mark":
        checkpoints.TrainState.to_json = killing(checkpoints.TrainState.to_json, fourth, False)
    elif die == "rename":
        outputs._take_place = killing(outputs._take_place, fourth, False)
    elif die == "prune":
        parts.remove_folder = killing(parts.remove_folder, lambda path: "step-" in Path(path).name and fourth(), False)
    examples = make_examples(Path(student))
    model = loading.load(Path(student))
    config = TrainConfig.model_validate({**KNOBS, "epochs": 4, "checkpoints": {"every": 1}})
    print("training", flush=True)
    result = loop.train(
        model, examples[4:], examples[:4], config, 0, lambda _: None, lambda *_: None, Checkpoints(str(out / "kept"))
    )
    (out / "history.json").write_text(json.dumps(result.history))
    save_file(checkpoints.weights_of(model), out / "final.safetensors.part")
    os.replace(out / "final.safetensors.part", out / "final.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
