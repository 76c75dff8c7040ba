"""Tables that are not Parquet: CSV, TSV, Arrow, and folders that `datasets` saved."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from dcod.traces import sources
from dcod.traces.rows import RawRow

ROWS = [{"question": "2+2?", "response": 'It is\n\\boxed{4}, "four".', "gold": "4"}, {"question": "3?", "gold": None}]


def read(path: Path) -> list[RawRow]:
    return list(sources.read_rows(str(path)))


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv.gz", ",")])
def test_fields_in_lines(tmp_path: Path, name: str, mark: str) -> None:
    lines = [
        mark.join(("question", "response", "gold")),
        f'2+2?{mark}"It is\n\\boxed{{4}}, ""four""."{mark}4',
        f"3?{mark}{mark}",
    ]
    data = ("\ufeff" + "\r\n".join(lines) + "\r\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    found = read(tmp_path / name)
    assert [row.row for row in found] == [ROWS[0], {"question": "3?", "response": None, "gold": None}]
    assert [row.line for row in found] == [3, 4]


@pytest.mark.parametrize(
    ("text", "code"), [("a,b\n1\n", "bad_row"), ("a,a\n1,2\n", "bad_row"), ('a,b\n"1,2\n', "broken_file")]
)
def test_what_is_wrong_with_a_line_is_told(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    (found,) = read(tmp_path / "a.csv")
    assert found.error == code


@pytest.mark.parametrize(("file", "mark"), [("a.csv", ";"), ("a.csv", "\t"), ("a.csv", "|"), ("a.tsv", ",")])
@pytest.mark.parametrize("answer", ["It is 4", "Well, it\tis 4; or | so"])
@pytest.mark.parametrize("name", ["prompt", "prompt, as; asked|"])
def test_the_first_line_tells_what_fields_stand_apart_by(
    tmp_path: Path, file: str, mark: str, answer: str, name: str
) -> None:
    quoted = name if name == "prompt" else f'"{name}"'
    (tmp_path / file).write_text(f'{quoted}{mark}completion{mark}gold\n2+2?{mark}"{answer}"{mark}"4,5"\n')
    (found,) = read(tmp_path / file)
    assert found.row == {name: "2+2?", "completion": answer, "gold": "4,5"}


@pytest.mark.parametrize("first", ["prompt", '"a;b"', '"a', "p;q,r"])
def test_one_column_stays_one_and_the_sign_of_the_ending_goes_first(tmp_path: Path, first: str) -> None:
    (tmp_path / "a.csv").write_text(f"{first}\n1\n")
    (found,) = read(tmp_path / "a.csv")
    assert found.row == {first.strip('"'): "1"} if "," not in first and first != '"a' else found.error


def test_a_folder_that_datasets_saved(tmp_path: Path) -> None:
    from datasets import Dataset

    rows: list[dict[str, Any]] = [{"q": str(number), "turns": [{"role": "user"}]} for number in range(600)]
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"))
    found = read(tmp_path / "set")
    assert [row.row for row in found] == rows
    assert [row.line for row in found] == list(range(1, 601))
