"""The first screen of a report: what a refusal comes from, and what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from dcod.promote import rules
from dcod.promote.compare import Comparison
from dcod.reports import report
from dcod.reports.run_page import RunPage
from dcod.traces import write_traces
from tests.reports.test_report import decision


def test_a_refusal_for_want_of_problems_says_what_to_do_on_the_first_screen(tmp_path: Path) -> None:
    """And why the interval beside it excludes 0."""
    four = Comparison("sums", "primary", 60, 1, 0.4, 1 / 3, 4, 0, 4 / 60, 0.003, 0.16, 0.0625, 0.01, 0.1)
    refused = rules.improves(four, 0.0625, 0.05, "")
    few = replace(decision(promote=False), reasons=(refused,), comparisons=(four,))
    (tmp_path / "counts.json").write_text(json.dumps({"read": 28, "accepted": 28, "problems": 28, "quarantined": {}}))
    write_traces(tmp_path / "traces.parquet", [])
    text = report.page(RunPage(title="run", decision=few, results={}, ingest=tmp_path))
    first = text[: text.index("<nav")]
    assert (
        "<strong>What to do</strong> Bring more problems: sums needs about 106 on the gate split, and has 60" in first
    )
    assert "p = 0.062, 60 problems; the interval excludes 0 all the same: it is an approximation" in first
    assert "<dt>traces</dt><dd>28, to 28 problems</dd>" in first
    other = replace(few, reasons=(refused, rules.share("sums", "truncated", 0.9, 0.5)))
    assert "What to do" not in report.page(RunPage(title="run", decision=other, results={}))
    won = replace(few, reasons=(rules.improves(four, 0.0625, 0.1, ""),))
    assert "all the same" not in report.page(RunPage(title="run", decision=won, results={}))
