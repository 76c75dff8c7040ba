"""What scoring records where it is asked for, beside log-probs and entropies: one file each, found by looking in here.

A new one is a file here, NAME.py with a ``WAY`` of ``_types``, and what it makes is declared in dcod/traces/scored.py.
"""

from dcod.score.fields._find import annotate, asked, demanded
from dcod.score.fields._types import Way

__all__ = ["Way", "annotate", "asked", "demanded"]
