"""The core of the second study is a part of it, and nothing else is asked for then."""

from __future__ import annotations

import subprocess
import sys

from bench.study.second import core
from bench.study.second.entries import ENTRIES
from bench.study.second.regimes import REGIMES

NARROWED = """
from bench.study.second import choice, core, entries, plan, regimes
core.narrow()
assert tuple(sorted(regimes.REGIMES)) == tuple(sorted(core.SITUATIONS))
cells = list(plan.tuning([entries.SFT], regimes.REGIMES, {}))
assert len(cells) == 5 * (5 + 2 * 9), len(cells)
screening = list(plan.screening({name: (2e-3, 2) for name in regimes.REGIMES}))
assert {cell.method for cell in screening} == set(core.METHODS) - set(entries.unknown())
assert choice.shortlist({})[1] == entries.PRESET
"""


def test_the_core_is_a_part_of_the_protocol() -> None:
    assert set(core.SITUATIONS) < set(REGIMES)
    assert set(core.METHODS) < set(ENTRIES)
    assert len(set(core.METHODS)) == 19
    done = subprocess.run([sys.executable, "-c", NARROWED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
