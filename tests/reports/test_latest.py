"""The newest report is found, whatever came before."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcod.errors import UserError
from dcod.reports import latest


def test_the_newest_decision_is_found(tmp_path: Path) -> None:
    link = tmp_path / "runs" / "latest"
    with pytest.raises(UserError, match="no run has ended here yet"):
        latest.report_of(None, link)
    link.parent.mkdir()
    for name in ("first", "second"):
        decision = tmp_path / "runs" / "pipeline" / name / "gate" / "decision"
        decision.mkdir(parents=True)
        (decision / "report.html").write_text(name)
        (decision / "manifest.json").write_text("{}")
        latest.mark(decision, link)
        assert latest.report_of(None, link).read_text() == name
    assert latest.report_of(tmp_path / "runs" / "pipeline" / "first").read_text() == "first"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no report\.html in it"):
        latest.report_of(tmp_path / "empty")


def test_what_is_a_users_own_is_left(tmp_path: Path) -> None:
    decision = tmp_path / "decision"
    decision.mkdir()
    (decision / "manifest.json").write_text("{}")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to("theirs")
    for name in ("file", "theirs", "link"):
        latest.mark(decision, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "theirs").is_symlink()
    assert (tmp_path / "link").readlink() == Path("theirs")
    assert len(list(tmp_path.iterdir())) == 4
