"""The check of skipped tests that .ci/run ends with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PASSED = '<testcase classname="tests.a" name="one"/>'
SKIPPED = '<testcase classname="tests.a" name="two"><skipped message="{}"/></testcase>'


@pytest.mark.parametrize(
    ("cases", "status", "said"),
    [
        ([PASSED], 0, "1 tests ran, 0 were skipped"),
        ([PASSED, SKIPPED.format("needs a GPU")], 0, "1 tests ran, 1 were skipped"),
        ([PASSED, SKIPPED.format("needs a GPU or so")], 1, "tests.a.two was skipped: needs a GPU or so"),
        ([PASSED, SKIPPED.format("no weed here")], 1, "tests.a.two was skipped: no weed here"),
        ([SKIPPED.format("needs a GPU")], 1, "no test ran"),
        ([], 1, "no test ran"),
    ],
)
def test_only_listed_skips_pass(tmp_path: Path, cases: list[str], status: int, said: str) -> None:
    report, allowed = tmp_path / "report.xml", tmp_path / "allowed.txt"
    report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>", encoding="utf-8")
    allowed.write_text("# reasons\nneeds a GPU\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / ".ci" / "check_skips.py"), str(allowed), str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert said in done.stdout + done.stderr
