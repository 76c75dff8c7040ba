"""`python -m bench.verdicts TRACES`: our verdicts beside those that came with real responses.

Prints a table by file, and every row on which the two differ; `--out FILE` writes all verdicts as JSON Lines. The
verdicts that came with the responses are other projects' and sometimes wrong, so what differs has to be read:
bench/results/verdicts.json names the rows that were, and what was found.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from dcod import grading

_TEXT = ("response", "generation", "generated_solution", "full_response", "output", "messages")
_GOLD = ("gold", "expected_answer", "ground_truth")
_THEIRS = ("upstream_correct", "symbolic_correct", "is_correct")
_LAST_NUMBER = ("gsm8k",)


@dataclass(frozen=True)
class Verdict:
    """One graded response: ours and, where there is one, the verdict that came with it."""

    file: str
    row: int
    gold: str
    answer: str | None
    outcome: str
    theirs: bool | None


def responses(folder: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """File, row number and row of every response with a reference answer below a folder."""
    for path in sorted(folder.rglob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            row = json.loads(line)
            if any(str(row.get(name) or "").strip() for name in _GOLD):
                yield str(path.relative_to(folder)), number, row


def verdicts(folder: Path) -> list[Verdict]:
    """All responses below a folder, graded."""
    found = list(responses(folder))

    def grade(item: tuple[str, int, dict[str, Any]]) -> Verdict:
        file, number, row = item
        text = next(row[name] for name in _TEXT if name in row)
        text = text[-1]["content"] if isinstance(text, list) else text
        gold = str(next(row[name] for name in _GOLD if name in row))
        theirs = next((bool(row[name]) for name in _THEIRS if row.get(name) is not None), None)
        one = grading.grade(text, gold, last_number=any(name in file for name in _LAST_NUMBER))
        return Verdict(file, number, gold, one.answer, one.outcome, theirs)

    return grading.in_parallel(grade, found)


def main(
    traces: Annotated[Path, typer.Argument(help="A folder of responses with reference answers.")],
    out: Annotated[Path | None, typer.Option(help="All verdicts, as JSON Lines.")] = None,
) -> None:
    """Grades all responses and prints where the verdicts differ."""
    found = verdicts(traces)
    if out:
        out.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found), encoding="utf-8")
    by_file: dict[str, Counter[str]] = {}
    for one in found:
        count = by_file.setdefault(one.file, Counter())
        right = one.outcome == "correct"
        count["rows"] += 1
        count["correct"] += right
        count["stricter"] += one.theirs is True and not right
        count["milder"] += one.theirs is False and right
    for file, count in by_file.items():
        print(
            f"{file}: {count['rows']} rows, {count['correct']} correct; right to them alone {count['stricter']}, "
            f"to us alone {count['milder']}"
        )
    for one in found:
        if one.theirs is not None and one.theirs != (one.outcome == "correct"):
            print(f"{one.file}:{one.row} {one.outcome}, theirs {one.theirs}: {one.answer!r:.80} for {one.gold!r:.60}")


if __name__ == "__main__":
    typer.run(main)
