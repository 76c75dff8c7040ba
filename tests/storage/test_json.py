"""A JSON file of an output folder is read, or missed in one line that names the command that writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcod import storage
from dcod.errors import UserError


def test_what_was_written_is_read(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "a.json", {"b": [1, None]})
    assert storage.read_json(tmp_path / "a.json", made_by="dcod score") == {"b": [1, None]}


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe{}", b"[1, 2]", b"7", b"[" * 100_000])
def test_anything_else_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError) as caught:
        storage.read_json(tmp_path / "a.json", made_by="dcod score")
    assert str(caught.value) == f"{tmp_path}: no a.json in it; give the folder that `dcod score` wrote"
