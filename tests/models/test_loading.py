"""Where a student of the hub comes from when no hub can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcod.errors import UserError
from dcod.models import loading

NAME = next(iter(loading.PACKAGED))


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packaged model's folder in a cache, and no hub."""
    import huggingface_hub

    def away(*_: object, **__: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", away)
    monkeypatch.setenv("DCOD_CACHE", str(tmp_path))
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    folder = tmp_path / "models" / NAME.replace("/", "--")
    folder.mkdir(parents=True)
    return folder


def test_the_stand_in_is_for_one_machine_and_for_no_revision(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loading._from_hub(NAME, "main") == stand_in
    with pytest.raises(UserError, match="the hub cannot be reached"):
        loading._from_hub(NAME, "v1.0")
    monkeypatch.setenv("KFP_POD_NAME", "fetch-1")
    with pytest.raises(UserError, match="the hub cannot be reached"):
        loading._from_hub(NAME, "main")
