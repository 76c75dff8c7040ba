"""`python -m bench.verdicts TRACES`: our verdicts beside those that came with real responses.

Prints a table by file, and every row on which the two differ; `--out FILE` keeps all verdicts as JSON Lines, and a run
that finds some there goes on from them. The verdicts that came with the responses are other projects' and sometimes
wrong, so what differs has to be read: bench/results/verdicts.json names the rows that were, and what was found. Rows
that are not in it are printed as not read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from dcod import grading
from dcod.storage.outputs import write_text

READ = Path(__file__).parent / "results" / "verdicts.json"
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


def verdicts(folder: Path, files: Sequence[str] = ()) -> list[Verdict]:
    """All responses below a folder, or of some of its files, graded."""
    found = [item for item in responses(folder) if not files or item[0] in files]

    def grade(item: tuple[str, int, dict[str, Any]]) -> Verdict:
        file, number, row = item
        text = next(row[name] for name in _TEXT if name in row)
        text = text[-1]["content"] if isinstance(text, list) else text
        gold = str(next(row[name] for name in _GOLD if name in row))
        theirs = next((bool(row[name]) for name in _THEIRS if row.get(name) is not None), None)
        one = grading.grade(text, gold, last_number=any(name in file for name in _LAST_NUMBER))
        return Verdict(file, number, gold, one.answer, one.outcome, theirs)

    return grading.in_parallel(grade, found)


def differ(one: Verdict) -> bool:
    """Whether our verdict is another than the one that came with the response."""
    return one.theirs is not None and one.theirs != (one.outcome == "correct")


def read_by_hand() -> dict[tuple[str, int], dict[str, Any]]:
    """The rows on which the two differ, each with what reading it found (``found``, ``why``), by file and row."""
    rows = json.loads(READ.read_text(encoding="utf-8"))["disagreements"]
    return {(row["file"], row["row"]): row for row in rows}


def main(
    traces: Annotated[Path, typer.Argument(help="A folder of responses with reference answers.")],
    out: Annotated[Path | None, typer.Option(help="All verdicts, as JSON Lines, file by file; gone on with.")] = None,
) -> None:
    """Grades all responses and prints where the verdicts differ."""
    found = [Verdict(**json.loads(line)) for line in out.read_text().splitlines()] if out and out.exists() else []
    done = {one.file for one in found}
    for name in dict.fromkeys(file for file, _, _ in responses(traces) if file not in done):
        found += verdicts(traces, [name])
        if out:
            write_text(out, "".join(json.dumps(asdict(one)) + "\n" for one in found))
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
    read = read_by_hand()
    for one in filter(differ, found):
        known = read.get((one.file, one.row), {})
        why = f"{known['found']}, {known['why']}" if known.get("outcome") == one.outcome else "NOT READ"
        print(
            f"{one.file}:{one.row} {one.outcome}, theirs {one.theirs}: {one.answer!r:.80} for {one.gold!r:.60}: {why}"
        )


if __name__ == "__main__":
    typer.run(main)
