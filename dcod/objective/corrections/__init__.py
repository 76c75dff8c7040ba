"""Corrections: a family on one page (``_family``), and any other in a file of its own, found by looking in this folder.

A new one is a file here: NAME.py with a ``CORRECTION``, which ``entry`` of ``_types`` makes of a
formula, of what its weights are compared within and of what it needs. One that does not look at what
the student finds likely joins ``_NOT_CROSSED`` in dcod/config/losses.py besides. No file here loads torch.
"""

from dcod.objective.corrections._find import CORRECTIONS, group_of, needed, needs, prepared
from dcod.objective.corrections._types import IW_SFT_BOUND, Correction, Group, Needs, entry

__all__ = [
    "CORRECTIONS",
    "IW_SFT_BOUND",
    "Correction",
    "Group",
    "Needs",
    "entry",
    "group_of",
    "needed",
    "needs",
    "prepared",
]
