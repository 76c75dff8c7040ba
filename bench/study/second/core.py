"""The core of the protocol: five regimes, SFT, sixteen methods and two controls, which two sittings can finish."""

from __future__ import annotations

from bench.study.second import choice
from bench.study.second.entries import ENTRIES, PRESET, SFT, SUPPORT
from bench.study.second.regimes import REGIMES

SITUATIONS = ("noisy_filtered", "noisy", "single", "two_teachers", "knows_little")
METHODS = (
    *(SFT, PRESET, "surprisal_cross", SUPPORT, "support_1", "support_4_cross", "support_text_4"),
    *("naturalness", "naturalness_cross", "naturalness_gce", "gce_25", "deft", "token_support_probability"),
    *("skew_kl_10", "forward_kl", "trace", "own_answers", "own_unverified", "shuffled"),
)
SHORTLIST = 2  # beside `support` and today's preset


def narrow() -> None:
    """Makes the core the whole protocol of this process: what is not in it is neither run nor asked for."""
    for name in set(REGIMES) - set(SITUATIONS):
        del REGIMES[name]
    for name in set(ENTRIES) - set(METHODS):
        del ENTRIES[name]
    choice.SHORTLIST = SHORTLIST
