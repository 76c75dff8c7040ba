"""Inputs made to hang `dcod ingest` or to take its memory: the command ends, with every row accounted for.

Each run takes a folder of them: what all of them together do within a minute of processor time and 2 GB, each does.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

MB = 10**6
CPU_SECONDS, MEMORY = 60.0, 2 * 10**9
GOOD: dict[str, Any] = {"problem": "2 + 2?", "response": "It is \\boxed{4}.", "gold": "4"}
KEYS = {f"c{number}": number for number in range(100_000)}
PUMPS = (
    *(
        " ",
        "\t",
        "\n",
        "?",
        "<|im_end|>",
        "Q: ",
        "1,",
        "1+",
        "-",
        "(",
        "\\frac{",
        "=",
        "<<1=",
        "and ",
        "not ",
        ". ",
        "√",
    ),
    *(
        "√",
        "%",
        "$",
        "\\(",
        "*",
        "\\",
        "<think>",
        "</think>",
        "{",
        "}",
        "\\boxed{",
        "\\boxed{4} ",
        "####",
        "the answer is ",
    ),
    *("Question:", "<|start_header_id|>", "| a ", "```"),
)
ANSWERS = (
    *(" ", "1,", "1+", "-", "(", "\\frac{1}{", "=", "√", "%", "1 ", "\\text{a}", "^2", "^{", "_{1}", "!", " or "),
    *("\\cup ", "km ", "\\pm ", "\\sqrt{", "9"),
)

# A process counts as its own what its parent held at the fork, so a small one starts the command, and asks for its and
# its workers' figures.
LAUNCH = """
import os, sys
out = os.dup(1)
os.dup2(2, 1)
pid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(pid, 0)
os.write(out, f"{os.waitstatus_to_exitcode(status)} {used.ru_utime + used.ru_stime} {used.ru_maxrss}".encode())
"""


def row(**more: Any) -> bytes:
    return json.dumps(GOOD | more).encode() + b"\n"


def packed(unit: bytes, megabytes: int) -> bytes:
    codec, chunk = zlib.compressobj(9, wbits=31), unit * (2**20 // len(unit))
    return b"".join(codec.compress(chunk) for _ in range(megabytes)) + codec.flush()


def lines(folder: Path, name: str, *made: bytes) -> tuple[str, int]:
    (folder / f"{name}.jsonl").write_bytes(b"".join(made))
    return f"{name}.jsonl", len(made)


def texts(folder: Path) -> Iterator[tuple[str, int]]:
    """Files of long texts and numbers: each with the number of its rows."""
    nines = "9" * 10 * MB
    yield lines(folder, "text", row(response="word " * (12 * MB)), row(response="x" * (60 * MB)))
    yield lines(folder, "question", row(problem="x" * (60 * MB)))
    yield lines(folder, "wide", json.dumps({**GOOD, "response": "\U0001f600" * (15 * MB)}, ensure_ascii=False).encode())
    yield lines(
        folder,
        "digits",
        row(gold=nines),
        row(response=f"\\boxed{{{nines}}}"),
        row(response=f"so {nines}"),
        row(temperature=nines),
        b'{"problem": "a", "response": "\\\\boxed{4}", "gold": ' + nines.encode() + b"}\n",
    )


def shapes(folder: Path) -> Iterator[tuple[str, int]]:
    """Deep and wide rows."""
    yield lines(
        folder, "deep", b"[" * (10 * MB) + b"\n", b'{"a":' * MB + b"1" + b"}" * MB + b"\n", b'{"a":' + b"[1," * (9 * MB)
    )
    yield lines(
        folder,
        "ids",
        row(id="i" * (30 * MB)),
        row(teacher="i" * (30 * MB)),
        row(id="../../etc/passwd", licence="l" * MB),
    )
    yield lines(
        folder,
        "columns",
        row(**KEYS),
        json.dumps(KEYS).encode()[:-1] + b', "c99999": 1}\n',
        json.dumps(dict.fromkeys(map(str, range(2 * MB)), 0)).encode(),
    )
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    yield lines(folder, "turns", json.dumps({"messages": turns * 200_000}).encode())


def files(folder: Path) -> Iterator[tuple[str, int]]:
    """Archives and tables that are much larger than they look: each with the number of its rows, broken ones too."""

    def file(name: str, content: bytes, count: int) -> tuple[str, int]:
        (folder / name).write_bytes(content)
        return name, count

    yield file("blank-bomb.jsonl.gz", gzip.compress(row()) + packed(b"\n", 4000), 2)
    yield file("row.jsonl.gz", packed(b"x", 2000), 1)
    yield file("brackets.json.gz", packed(b"[", 1000), 1)
    yield file("zeros.jsonl.zst", zstandard.compress(b"\n" * (10**9)), 1)
    yield file("blank.jsonl", b"\n" * (100 * MB) + row(), 1)
    pq.write_table(pa.table({name: ["x"] for name in KEYS}), folder / "columns.parquet")
    yield "columns.parquet", 1
    cells = {"problem": ["2+2?"] * 2, "response": ["y" * (200 * MB), "\\boxed{4}"], "gold": ["4"] * 2}
    pq.write_table(pa.table(cells), folder / "cell.parquet")
    yield "cell.parquet", 2


def answers(folder: Path) -> Iterator[tuple[str, int]]:
    """Responses that repeat what the expressions look for, at lengths that are read whole."""
    whole = [row(response=f"{number}{pump * (60_000 // len(pump))}") for number, pump in enumerate(PUMPS)]
    (folder / "whole.jsonl").write_bytes(b"".join(whole))
    yield "whole.jsonl", len(whole)
    inside = [(f"{pump * (size // len(pump))}1", pump * 10 + "1") for pump in ANSWERS for size in (60_000, 1_000)]
    boxed = [row(response=f"So it is \\boxed{{{said}}}.", gold=gold) for said, gold in inside]
    (folder / "boxed.jsonl").write_bytes(b"".join(boxed))
    yield "boxed.jsonl", len(boxed)
    towers = [row(response=f"\\boxed{{{said}}}") for said in ("9^{9^{9^9}}", "1e999999999", "10^{10^{10}}")]
    (folder / "towers.jsonl").write_bytes(b"".join(towers))
    yield "towers.jsonl", len(towers)


def ingest(folder: Path, student: Path, *options: str) -> tuple[int, str, float, int]:
    """Runs the command: exit code, what it said, processor seconds and bytes of its largest process."""
    words = ["ingest", "--no-track", "--traces", str(folder), "--student", str(student), "--out", f"{folder}-out"]
    command = [sys.executable, "-m", "dcod", *words, *options]
    environment = {**os.environ, "DCOD_CACHE": f"{folder}-cache"}
    with open(f"{folder}.said", "wb") as said:
        done = subprocess.run(
            [sys.executable, "-c", LAUNCH, *command], stdout=subprocess.PIPE, stderr=said, env=environment, check=True
        )
    code, seconds, kibibytes = done.stdout.split()
    return int(code), Path(f"{folder}.said").read_text(), float(seconds), int(kibibytes) * 1024


@pytest.mark.slow
@pytest.mark.parametrize("made", [texts, shapes, files, answers])
def test_the_command_ends_and_accounts_for_every_row(tmp_path: Path, tiny_student: Path, made: Any) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    expected = dict(made(folder))
    (folder / "good.jsonl").write_bytes(row())
    assert len(expected) == {texts: 4, shapes: 4, files: 7, answers: 3}[made]
    code, said, seconds, memory = ingest(folder, tiny_student)
    assert (code, "Traceback" in said) == (0, False), said[-2000:]
    most = len(ANSWERS) * 2 * 5.0 if made is answers else CPU_SECONDS  # a comparison may take 5 s; there are many
    assert (seconds < most, memory < MEMORY) == (True, True), (seconds, memory)
    found = json.loads((tmp_path / "in-out" / "sources.json").read_text())["files"]
    for item in found:
        assert item["read"] == item["accepted"] + sum(item["quarantined"].values())
    read = {Path(item["file"]).name: item["read"] for item in found}
    assert read == expected | {"good.jsonl": 1}


@pytest.mark.slow
def test_a_folder_of_nothing_else_is_one_line(tmp_path: Path, tiny_student: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(row(response="\\boxed{" * 40_000) + row(gold="9" * MB) + b"[" * MB)
    code, said, seconds, memory = ingest(folder, tiny_student)
    assert (code, len(said.splitlines())) == (2, 1), said[-2000:]
    assert "none of 3 rows was accepted" in said
    assert (seconds < CPU_SECONDS, memory < MEMORY) == (True, True)
