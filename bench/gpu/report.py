"""From results.json to RESULTS.md, and to the table of docs/performance.md (`python -m bench.gpu.report`)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from dcod import storage

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "gpu" / "results"
DOCS = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- gpu: made by python -m bench.gpu.report -->", "<!-- /gpu -->"
Row = dict[str, Any]


def counts(xml: str) -> Row:
    """Of a junit file: how many tests passed, failed and were skipped, and the names of those that failed."""
    import xml.etree.ElementTree as ET

    cases = ET.fromstring(xml).iter("testcase")  # noqa: S314 (pytest wrote it)
    found: Row = {"passed": 0, "failed": [], "skipped": [], "notes": {}}
    for case in cases:
        name = f"{case.get('classname', '').rsplit('.', 1)[-1]}::{case.get('name')}"
        tags = {child.tag: child for child in case}
        for value in case.iter("property"):
            found["notes"][f"{name} {value.get('name')}"] = value.get("value")
        if "failure" in tags or "error" in tags:
            why = (tags.get("failure", tags.get("error")).get("message") or "")[:300]  # type: ignore[union-attr]
            found["failed"].append(f"{name}: {' '.join(why.split())}")
        elif "skipped" in tags:
            found["skipped"].append(f"{name}: {tags['skipped'].get('message')}")
        else:
            found["passed"] += 1
    return found


def write(out: Path, results: Row) -> None:
    """Both files, whole or as they were."""
    storage.write_text(out / "results.json", json.dumps(results, indent=1) + "\n")  # in the order of the steps
    storage.write_text(out / "RESULTS.md", readable(results))


def machine(results: Row) -> str:
    """Card, driver, versions and date in a sentence."""
    facts = results["facts"]
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items() if v != "absent")
    if facts["device"] == "cpu":
        return f"No GPU was at hand: {facts['cores']} cores, Python {facts['python']}, {versions}; {facts['date']}."
    return (
        f"{facts['card']} ({facts['memory_gib']} GiB), driver {facts['driver']}, CUDA {facts['cuda']}, "
        f"Python {facts['python']}, {versions}; {facts['date']}."
    )


def training_table(rows: Row, rate: float) -> list[str]:
    """Contestants of one shape; utilisation of the card's measured matmul rate by both counts."""
    lines = ["| | tokens/s | x TRL, Liger | utilisation, 6N | as needed | peak GiB |", "|---|---|---|---|---|---|"]
    base = rows.get("TRL, Liger", {}).get("tokens_per_second")
    for name, row in rows.items():
        if name == "profile":
            continue
        if "error" in row:
            lines.append(f"| {name} | failed: {row['error'][:160]} | | | | |")
            continue
        six, need = (row[key] * 1e12 / rate for key in ("tflops_six_n", "tflops_needed"))
        times = f"{row['tokens_per_second'] / base:.2f}" if base else "–"
        peak = row["peak_gib"] if row["peak_gib"] is not None else "–"
        lines.append(f"| {name} | {row['tokens_per_second']:,.0f} | {times} | {six:.1%} | {need:.1%} | {peak} |")
    return lines


def targets(results: Row) -> list[str]:
    """What was aimed at, and whether it was met; only where it was measured on a card."""
    rate, out = results["rates"]["flops"], list[str]()
    rows = results["steps"].get("training 1.5B", {}).get("found", {})
    good = {name: row for name, row in rows.items() if "tokens_per_second" in row}

    def say(what: str, value: float, met: bool, digits: str = ".2f") -> None:
        out.append(f"- {what}: {value:{digits}}, {'met' if met else 'NOT met'}")

    if "dcod" in good:
        share = good["dcod"]["tflops_six_n"] * 1e12 / rate
        say("utilisation at 1.5B at least 45 %", share, share >= 0.45, ".1%")
    if {"dcod", "TRL, Liger"} <= good.keys():
        times = good["dcod"]["tokens_per_second"] / good["TRL, Liger"]["tokens_per_second"]
        say("at least 1.2 times TRL with Liger and packing", times, times >= 1.2)
        if good["dcod"]["peak_gib"]:
            memory = good["dcod"]["peak_gib"] / good["TRL, Liger"]["peak_gib"]
            say("at most its memory", memory, memory <= 1.0)
    if {"dcod", "dcod, live weights"} <= good.keys():
        cost = good["dcod"]["tokens_per_second"] / good["dcod, live weights"]["tokens_per_second"] - 1
        say("live weights cost at most 5 %", cost, cost <= 0.05, ".1%")
    ways = results["steps"].get("scoring 1.5B", {}).get("found", {}).get("scoring", {}).get("ways")
    if ways:
        say("scoring at 0.9 of the bare forward pass", ways["dcod"]["of_bare"], ways["dcod"]["of_bare"] >= 0.9)
    return out


def readable(results: Row) -> str:
    """RESULTS.md."""
    steps, rates = results["steps"], results["rates"]
    lines = ["# dcod on a GPU", "", machine(results)]
    if results["quick"]:
        lines += ["", "A rehearsal on tiny shapes: that everything runs, and no figure of speed."]
    lines += [
        "",
        f"bfloat16 matmul {rates['flops'] / 1e12:.4g} TFLOP/s, copy {rates['bytes_per_second'] / 1e12:.3g} TB/s.",
    ]
    lines += ["", "| step | ended | seconds |", "|---|---|---|"]
    lines += [
        f"| {name} | {row['ended'] if row['ended'] else 'well'} | {row['seconds']} |" for name, row in steps.items()
    ]
    if not results["quick"] and results["facts"]["device"] == "cuda" and targets(results):
        lines += ["", "## Targets", "", *targets(results)]
    if tests := steps.get("tests", {}).get("found"):
        lines += [
            "",
            f"## Tests: {tests['passed']} passed, {len(tests['failed'])} failed, {len(tests['skipped'])} skipped",
            "",
        ]
        lines += [f"- FAILED {name}" for name in tests["failed"]]
        lines += [f"- skipped {name}" for name in tests["skipped"]]
        lines += [f"- {name}: {value}" for name, value in tests["notes"].items()]
    for name in ("training 1.5B", "training 0.5B"):
        if rows := steps.get(name, {}).get("found"):
            lines += ["", f"## {name}", "", *training_table(rows, rates["flops"])]
            lines += profile(rows.get("profile"))
    for name in ("scoring 1.5B", "static 1.5B", "curves", "noise", "study"):
        if rows := steps.get(name, {}).get("found"):
            lines += ["", f"## {name}", "", *(f"- {key}: {brief(value)}" for key, value in rows.items())]
    lines += [
        f"\n## {name}: its last lines\n\n```\n{row['tail'][-1500:]}\n```"
        for name, row in steps.items()
        if "tail" in row
    ]
    return "\n".join(lines) + "\n"


def profile(found: Row | None) -> list[str]:
    """The ten kernels that take most of a step."""
    if not found:
        return []
    gaps = "" if found["gaps_share"] is None else f", gaps between kernels {found['gaps_share']:.1%}"
    lines = ["", f"One step under the profiler: {found['step_seconds']} s{gaps}; {found['count']} kernels.", ""]
    lines += ["| kernel | calls | ms |", "|---|---|---|"]
    return lines + [
        f"| `{row['kernel'].replace('|', '/')[:90]}` | {row['calls']} | {row['ms']} |" for row in found["top"][:10]
    ]


def brief(value: Any) -> str:
    """A finding in a line."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"(\d\.\d{3})\d+", r"\1", text.replace('"', ""))[:700]


def docs_part(results: Row) -> str:
    """What docs/performance.md says of the card; of a rehearsal that it was one."""
    if results["quick"] or results["facts"]["device"] == "cpu":
        steps, tests = results["steps"], results["steps"].get("tests", {}).get("found") or {"passed": 0, "failed": []}
        ended = f"{sum(row['ended'] == 0 for row in steps.values())} of {len(steps)} steps ended well"
        said = f"{ended}, {tests['passed']} tests passed, {len(tests['failed'])} failed; {results['facts']['date']}."
        return f"No GPU was at hand, so `bench/gpu/run.sh` was rehearsed on a CPU, on tiny shapes: {said}"
    rate = results["rates"]["flops"]
    lines = [machine(results), f"Measured bfloat16 matmul: {rate / 1e12:.0f} TFLOP/s."]
    for name in ("training 1.5B", "training 0.5B"):
        if rows := results["steps"].get(name, {}).get("found"):
            lines += ["", f"{name}:", "", *training_table(rows, rate)]
    told = [
        f"- {name}, {key}: {brief(value)}"
        for name in ("scoring 1.5B", "static 1.5B", "noise")
        for key, value in (results["steps"].get(name, {}).get("found") or {}).items()
    ]
    return "\n".join([*lines, "", *targets(results), *told])


def main(place: str = str(RESULTS / "results.json"), docs: str = str(DOCS)) -> None:
    """Puts the table of some results between the marks of the page."""
    if not Path(place).is_file():
        print(f"{place} is missing: bench/gpu/run.sh writes it", file=sys.stderr)
        raise SystemExit(2)
    page, results = Path(docs).read_text(encoding="utf-8"), json.loads(Path(place).read_text(encoding="utf-8"))
    if BEGIN not in page or END not in page:
        print(f"{docs}: no line {BEGIN} and {END} in it", file=sys.stderr)
        raise SystemExit(2)
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    Path(docs).write_text(f"{before}{BEGIN}\n{docs_part(results)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
