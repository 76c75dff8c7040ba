"""The contract that the fuzzer checks, on the inputs that it begins with and on those that it once found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import readers, targets
from tests.traces.formats.test_fuzz import SEEDS


def test_the_first_inputs_keep_the_contract(tmp_path: Path) -> None:
    readers.seeds(tmp_path / "seeds")
    found = sorted((tmp_path / "seeds").iterdir())
    assert len(found) == len(readers.NAMES) + len(SEEDS)  # one of each kind of file, one of each format's row
    for path in found:
        readers.check(path.read_bytes(), tmp_path)
        readers.check(path.read_bytes()[:-7], tmp_path)  # cut


@pytest.mark.parametrize("name", targets.TARGETS)
def test_every_target_takes_its_corpus(name: str) -> None:
    found = sorted((targets.CORPUS / name).iterdir())
    assert 4 <= len(found) <= 40
    for path in found:
        data = path.read_bytes()
        for end in (len(data), len(data) // 2, 1, 0):
            targets.TARGETS[name](data[:end])
