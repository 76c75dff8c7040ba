"""What `bench/gpu` tells of made-up results of a card, whole or cut off; and the page that is made of the real ones."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.gpu import report

ROOT = Path(__file__).resolve().parents[2]


def trained(rate: float, flops: float, peak: float) -> dict[str, Any]:
    return {"tokens_per_second": rate, "tflops_six_n": flops, "tflops_needed": flops - 10, "peak_gib": peak}


FACTS = {
    "date": "2020-01-02", "device": "cuda", "cores": 16, "python": "3.12.1", "card": "Card X", "memory_gib": 80.0,
    "driver": "580.1", "cuda": "13.0", "versions": {"torch": "2.11", "trl": "absent"},
}  # fmt: skip
TESTS = {
    "passed": 40,
    "failed": ["test_a::b: E"],
    "skipped": [],
    "notes": {"test_attention::x attention": "varlen flash"},
}
PROFILE = {
    "step_seconds": 1.2, "kernels_seconds": 1.0, "gaps_share": 0.04, "count": 900,
    "top": [{"kernel": f"gemm|{i}", "calls": 2, "ms": 30.0 - i} for i in range(20)],
}  # fmt: skip
LARGE = {
    "dcod": trained(12000.0, 400.0, 40.0),
    "TRL, Liger": trained(8000.0, 300.0, 44.0),
    "plain loop": {"error": "OutOfMemoryError: 90 GiB"},
    "dcod, live weights": trained(11000.0, 380.0, 40.0),
    "profile": PROFILE,
}
RESULTS: dict[str, Any] = {
    "facts": FACTS,
    "quick": False,
    "rates": {"flops": 8e14, "bytes_per_second": 3e12},
    "steps": {
        "tests": {"ended": 1, "seconds": 99.0, "found": TESTS, "tail": "E   assert 1 == 2"},
        "training 1.5B": {"ended": 0, "seconds": 170.0, "found": LARGE},
        "scoring 1.5B": {"ended": 0, "seconds": 40.0, "found": {"scoring": {"ways": {"dcod": {"of_bare": 0.93}}}}},
        "training 0.5B": {"ended": "cut off after 60 s", "seconds": 60.0, "found": {"dcod": trained(3e4, 350.0, 20.0)}},
        "noise": {"ended": 0, "seconds": 30.0, "found": {"bfloat16": {"token_mean": 0.0012345678}}},
        "study": {"ended": "no time was left", "seconds": 0.0, "found": {}},
    },
}


def test_the_page_of_a_card_tells_machine_targets_tests_tables_and_profile() -> None:
    text = report.readable(RESULTS)
    assert "Card X (80.0 GiB), driver 580.1, CUDA 13.0, Python 3.12.1, torch 2.11; 2020-01-02." in text
    assert "trl" not in text  # absent
    assert "- utilisation at 1.5B at least 45 %: 50.0%, met" in text
    assert "- at least 1.2 times TRL with Liger and packing: 1.50, met" in text
    assert "- at most its memory: 0.91, met" in text
    assert "- live weights cost at most 5 %: 9.1%, NOT met" in text
    assert "- scoring at 0.9 of the bare forward pass: 0.93, met" in text
    assert "| dcod | 12,000 | 1.50 | 50.0% | 48.8% | 40.0 |" in text
    assert "| plain loop | failed: OutOfMemoryError: 90 GiB | | | | |" in text
    assert "## Tests: 40 passed, 1 failed, 0 skipped" in text
    assert "- FAILED test_a::b: E" in text
    assert "attention: varlen flash" in text
    assert text.count("| `gemm/") == 10  # ten of the twenty that are kept
    assert "gaps between kernels 4.0%" in text
    assert "| training 0.5B | cut off after 60 s | 60.0 |" in text
    assert "token_mean: 0.001" in text
    assert "E   assert 1 == 2" in text


@pytest.mark.parametrize("count", range(len(RESULTS["steps"]) + 1))
def test_a_run_that_was_cut_off_is_told_as_far_as_it_came(count: int, tmp_path: Path) -> None:
    """After each step, also one that left nothing, or half of its contestants."""
    some = copy.deepcopy(RESULTS)
    some["steps"] = dict(list(some["steps"].items())[:count])
    for name, row in list(some["steps"].items())[-1:]:  # pytest writes all that it found, or nothing
        found = {} if name == "tests" else dict(list(row["found"].items())[:1])
        row |= {"ended": "cut off after 9 s", "found": found}
    report.write(tmp_path, some)
    assert json.loads((tmp_path / "results.json").read_text()) == some
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.count("cut off after 9 s") == min(count, 1)
    assert "Card X" in report.docs_part(some)
    empty = {**some, "steps": {name: {**row, "found": {}} for name, row in some["steps"].items()}}
    assert report.readable(empty).startswith("# dcod on a GPU")
    assert "Card X" in report.docs_part(empty)


def test_a_rehearsal_tells_no_figure_of_speed() -> None:
    some = {**RESULTS, "quick": True, "facts": {**FACTS, "device": "cpu"}}
    text = report.readable(some)
    assert "No GPU was at hand: 16 cores" in text
    assert "## Targets" not in text
    told = report.docs_part(some)
    assert told.startswith("No GPU was at hand, so")
    assert "3 of 6 steps ended well, 40 tests passed, 1 failed; 2020-01-02." in told
    assert "12,000" not in told


def test_the_command_puts_the_table_between_the_marks(tmp_path: Path) -> None:
    page, place = tmp_path / "page.md", tmp_path / "results.json"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    place.write_text(json.dumps(RESULTS))
    report.main(str(place), str(page))
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\nCard X")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "| dcod | 30,000 | – |" in text  # TRL did not run at 0.5B
    assert "- live weights cost at most 5 %: 9.1%, NOT met" in text
    report.main(str(place), str(page))
    assert page.read_text() == text
    page.write_text("no marks\n")
    for arguments, said in (((str(place), str(page)), "no line <!-- gpu"), ((str(tmp_path / "x"),), "x is missing")):
        done = subprocess.run(
            [sys.executable, "-m", "bench.gpu.report", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert said in done.stderr


def test_tests_are_counted_from_junit() -> None:
    xml = """<testsuites><testsuite>
      <testcase classname="tests.gpu.test_a" name="one">
        <properties><property name="apart" value="1e-6"/></properties>
      </testcase>
      <testcase classname="tests.gpu.test_a" name="two"><failure message="assert 1\n == 2">long</failure></testcase>
      <testcase classname="tests.gpu.test_a" name="three"><skipped message="needs a GPU"/></testcase>
      <testcase classname="tests.gpu.test_a" name="four"><error message="no fixture"/></testcase>
    </testsuite></testsuites>"""
    assert report.counts(xml) == {
        "passed": 1,
        "failed": ["test_a::two: assert 1 == 2", "test_a::four: no fixture"],
        "skipped": ["test_a::three: needs a GPU"],
        "notes": {"test_a::one apart": "1e-6"},
    }


def test_the_committed_results_are_those_of_the_page() -> None:
    """bench/gpu/results, with what it ran on; and the part of docs/performance.md that is made of it."""
    results = json.loads((report.RESULTS / "results.json").read_text())
    assert (report.RESULTS / "RESULTS.md").read_text() == report.readable(results)
    part = report.DOCS.read_text().split(report.BEGIN)[1].split(report.END)[0]
    assert part.strip() == report.docs_part(results).strip()
    assert {"date", "device", "python", "versions"} <= set(results["facts"])
    if results["facts"]["device"] == "cuda":
        assert {"card", "driver", "cuda"} <= set(results["facts"])
    else:
        assert "No GPU was at hand" in (report.RESULTS / "RESULTS.md").read_text()
        assert results["steps"]["tests"]["found"]["failed"] == []
        assert [name for name, row in results["steps"].items() if row["ended"] != 0] == []
    files = list(report.RESULTS.iterdir())
    assert 3 <= len(files) <= 8
    assert all(path.stat().st_size < 2**20 for path in files)
    told = "".join(path.read_text() for path in files if path.suffix in (".md", ".txt", ".json"))
    assert not [word for word in ("/root", "/tmp/", "/home/", "/work/") if word in told]
