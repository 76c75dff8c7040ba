"""`--midsize`: one more regime, whose student has thirty million weights and knows most of what it is asked.

Added after the protocol, and never run yet: it wants a GPU, where its start takes some two minutes. The stages, seeds,
measures and rule are the protocol's; rates are a tenth of those of students that are three hundred times as small.
"""

from __future__ import annotations

from bench.study.second import choice
from bench.study.second.entries import ENTRIES, PRESET, SFT, SUPPORT
from bench.study.second.regimes import LATER, REGIMES

NAME = "midsize"
METHODS = (SFT, PRESET, SUPPORT, "naturalness", "naturalness_gce", "gce_25", "shuffled")
RATES = (1e-4, 2e-4, 4e-4)
SHORTLIST = 2  # beside `support` and today's preset


def narrow() -> None:
    """Makes this regime the whole protocol of this process; its workers find it among the later ones."""
    REGIMES.clear()
    REGIMES[NAME] = LATER[NAME]
    for name in set(ENTRIES) - set(METHODS):
        del ENTRIES[name]
    choice.GRID = choice.grid(RATES)
    choice.SHORTLIST = SHORTLIST
