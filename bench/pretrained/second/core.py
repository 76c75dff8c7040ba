"""The core of the protocol: SFT, and what `auto` tries where a prompt has several traces."""

from __future__ import annotations

from bench.pretrained.second import choice
from bench.study.second.entries import SFT

METHODS = (SFT, "naturalness", "naturalness_gce")
GRID = ((1e-4, 2), (2e-4, 2), (4e-4, 2))


def narrow() -> None:
    """Makes the core the whole protocol of this process: what is not in it is neither run nor asked for."""
    choice.COUNTS = (4,)
    choice.METHODS = METHODS
    choice.GRID = GRID
