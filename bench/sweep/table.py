"""The golden of the sweep, and the table of docs/students.md that is made from it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import transformers

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "bench" / "results" / "sweep.json"
PAGE = ROOT / "docs" / "students.md"
BEGIN, END = "<!-- made by `python -m bench.sweep --table` -->", "<!-- end -->"


def read() -> dict[str, Any]:
    """The golden; empty where there is none."""
    return json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.is_file() else {}


def write(rows: dict[str, Any]) -> None:
    """Keeps the rows of a sweep."""
    lines = ",\n".join(f"  {json.dumps(kind)}: {json.dumps(row)}" for kind, row in rows.items())
    GOLDEN.write_text(f'{{"transformers": "{transformers.__version__}", "types": {{\n{lines}\n}}}}\n', encoding="utf-8")


def of(rows: dict[str, Any]) -> str:
    """The rows as Markdown: types that are run in the same way share a line."""
    alike: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    out: dict[str, list[str]] = {"refused": [], "not built": [], "wrong": []}
    for kind, row in sorted(rows.items()):
        if row["result"] == "exact":
            alike[_head(row), ", ".join(row["layouts"]), row["padding"]].append(kind)
        else:
            out[row["result"]].append(f"- `{kind}`: {row.get('reason') or '; '.join(row.get('wrong', []))}")
    lines = ["| head | batches | prompts of a batch | types |", "|---|---|---|---|"]
    for (head, layouts, padding), kinds in sorted(alike.items(), key=lambda item: -len(item[1])):
        lines.append(f"| {head} | {layouts} | {padding} | {len(kinds)}: {', '.join(kinds)} |")
    titles = {"refused": "Refused, in one line:", "not built": "Not tried:", "wrong": "Wrong:"}
    for result, title in titles.items():
        lines += ["", title, "", *out[result]] if out[result] else []
    return "\n".join(lines)


def _head(row: dict[str, Any]) -> str:
    if row["head"] != "fused":
        return str(row["head"])
    parts = ["factor"] * (row["logit_scale"] != 1) + ["cap"] * bool(row["soft_cap"]) + ["bias"] * row["bias"]
    return " with ".join(["fused", *([", ".join(parts)] if parts else [])])


def page() -> str:
    """docs/students.md as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{of(read()['types'])}\n\n{END}{rest.split(END)[1]}"


def into_docs() -> None:
    """Writes the table."""
    PAGE.write_text(page(), encoding="utf-8")
