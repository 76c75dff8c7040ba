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
        traces = tmp_path / "runs" / "pipeline" / name / "ingest" / "traces"
        decision.mkdir(parents=True)
        (traces / "quarantine.parquet").mkdir(parents=True)
        (decision / "report.html").write_text(name)
        (decision / "manifest.json").write_text("{}")
        latest.mark(decision, traces, link)
        assert latest.report_of(None, link).read_text() == name
        assert (link / "traces" / "quarantine.parquet").resolve() == traces / "quarantine.parquet"
        assert sorted(one.name for one in decision.iterdir()) == ["manifest.json", "report.html"]  # as it was
        assert len(list(link.parent.iterdir())) == 3  # the runs, the link, and one folder of links
    assert (tmp_path / "runs/pipeline/first/ingest/traces/quarantine.parquet").is_dir()
    assert latest.report_of(tmp_path / "runs" / "pipeline" / "first").read_text() == "first"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no report\.html in it"):
        latest.report_of(tmp_path / "empty")


def test_a_run_without_its_traces_and_the_links_of_earlier_versions(tmp_path: Path) -> None:
    decision, link = tmp_path / "decision", tmp_path / "latest"
    decision.mkdir()
    (decision / "manifest.json").write_text("{}")
    link.symlink_to(decision)  # as versions before made it
    latest.mark(decision, None, link)
    assert [one.name for one in link.iterdir()] == ["manifest.json"]
    (decision / "manifest.json").unlink()  # the run was deleted
    latest.mark(decision, None, link)
    assert list(link.iterdir()) == []
    assert decision.is_dir()


def test_what_somebody_put_into_it_stays(tmp_path: Path) -> None:
    decision, link = tmp_path / "decision", tmp_path / "latest"
    decision.mkdir()
    (decision / "manifest.json").write_text("{}")
    latest.mark(decision, None, link)
    before = link.resolve()
    (link / "notes.txt").write_text("mine")
    latest.mark(decision, None, link)
    assert link.resolve() != before
    assert [one.name for one in before.iterdir()] == ["notes.txt"]


def test_what_is_a_users_own_is_left(tmp_path: Path) -> None:
    decision = tmp_path / "decision"
    decision.mkdir()
    (decision / "manifest.json").write_text("{}")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to("theirs")
    for name in ("file", "theirs", "link"):
        latest.mark(decision, None, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "theirs").is_symlink()
    assert (tmp_path / "link").readlink() == Path("theirs")
    assert len(list(tmp_path.iterdir())) == 4
