"""What the studies run on: `--device auto`, `cpu` or `cuda`."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path

import typer

from bench.gpu import card

LEAST_GIB = 8.0  # of a card; a worker with a student of 30 million weights takes some 2


class Device(StrEnum):
    """`auto`: a GPU where there is one; `cpu`: leaves it alone; `cuda`: refuses to go on without one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


HELP = "auto: a GPU if there is one; cpu: leaves it alone; cuda: nothing else will do. Workers share the one GPU."


def used(device: Device) -> str:
    """`cuda` or `cpu`, for this process and its workers.

    Raises:
        typer.Exit: with code 2, where `cuda` is asked for and no GPU will do; one line says why.
    """
    if device is Device.CPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return "cpu"
    why = card.refusal("cuda", LEAST_GIB)
    if why and device is Device.CUDA:
        print(f"--device=cuda: {why}", file=sys.stderr)
        raise typer.Exit(2)
    if why:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return "cpu" if why else "cuda"


def beside(folder: Path, device: str) -> Path:
    """Where what a GPU made is kept: the same seed makes other networks there, which nothing else is paired with."""
    return folder / device if device == "cuda" else folder
