"""Inputs that once hung a run or took its memory: each ends at a stated limit, and every row is accounted for."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import socket
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcod.config import Config
from dcod.errors import UserError
from dcod.ingest import examine
from dcod.traces import Trace, bounded, formats, reading, rows, sources, synthetic
from dcod.traces.formats import RowError
from dcod.traces.formats import _fields as fields
from dcod.traces.prompts import prompt_for
from dcod.traces.rows import RawRow

GOOD = b'{"question": "2+2?", "answer": "#### 4"}\n'


def errors(path: Path) -> list[tuple[int, str]]:
    return [(row.line, row.error) for row in sources.read_rows(str(path))]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ((GOOD * 300).decode().encode("utf-16"), "UTF-16"),
        ((GOOD * 300).decode().encode("utf-16-be"), "UTF-16"),
        ((GOOD * 300).decode().encode("utf-32"), "UTF-32"),
        ((GOOD * 300).decode().encode("utf-32-le"), "UTF-32"),
        (gzip.compress(gzip.compress(GOOD)), "packed with gzip twice"),
        (bz2.compress(GOOD), "bzip2"),
        (b"PAR1" + GOOD, "Parquet"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\n\n", "the file is a PNG picture, which holds no rows; give JSON Lines"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\n\n", "a JPEG picture"),
        (b"GIF89a\x01\x00\n\n", "a GIF picture"),
        (b"%PDF-1.7\n%\xe2\xe3\n", "a PDF document"),
    ],
    ids=["utf-16", "utf-16-be", "utf-32", "utf-32-le", "gzip twice", "bzip2", "Parquet", "PNG", "JPEG", "GIF", "PDF"],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.png"])
def test_a_file_of_another_kind_is_one_line(tmp_path: Path, content: bytes, said: str, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    (row,) = sources.read_rows(str(tmp_path / name))
    assert row.error == "other_encoding"
    assert said in row.message


def test_a_zip_archive_is_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.jsonl", "w") as archive:
        archive.writestr("a.jsonl", GOOD)
    assert errors(tmp_path / "a.jsonl") == [(1, "other_encoding")]


def test_text_that_begins_with_letters_of_a_kind_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"PK\n" + GOOD)
    assert errors(tmp_path / "a.jsonl") == [(1, "bad_json"), (2, "")]


def test_an_archive_unpacks_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "ARCHIVE", 10_000)
    monkeypatch.setattr(reading, "_FEED", 64)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(GOOD + b"\n" * 3_000_000))
    assert [error for _, error in errors(tmp_path / "a.jsonl.gz")] == ["", "broken_file"]
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(GOOD * 1000))
    assert {error for _, error in errors(tmp_path / "b.jsonl.gz")} == {""}


def test_rows_behind_millions_of_blank_lines_keep_their_numbers(tmp_path: Path) -> None:
    blank = b"\n" * (reading._CHUNK + 7)
    (tmp_path / "a.jsonl").write_bytes(b" \n" + blank + GOOD + blank + GOOD)
    assert errors(tmp_path / "a.jsonl") == [(len(blank) + 2, ""), (2 * len(blank) + 3, "")]


def test_depth_and_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(depth: int) -> bytes:
        return b'{"a": ' + b"[" * (depth - 1) + b'"]}[{"' + b"]" * (depth - 1) + b"}"

    assert rows.loads(nested(rows.DEPTH))[1] == ""
    assert rows.loads(nested(rows.DEPTH + 1))[1] == "row_too_complex"
    assert rows.loads(b'{"a": "' + b"[" * 1000 + b'"}')[1] == ""  # text, not brackets
    assert rows.loads(b'{"a": ' + b"[" * 100_000)[1] == "row_too_complex"
    monkeypatch.setattr(rows, "VALUES", 100)
    assert rows.loads(json.dumps({"a": [1] * 98}).encode())[1] == ""
    assert rows.loads(json.dumps({"a": [1] * 100}).encode())[1] == "row_too_complex"


def test_brackets_without_end_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"question": "2+2?", "answer": "#### 4"}, ' + b"[" * 5_000_000)
    (first, second) = sources.read_rows(str(tmp_path / "a.json"))
    assert (first.error, second.error) == ("", "broken_file")
    assert "100001 deep" in second.message


def test_a_long_key_is_not_quoted_whole() -> None:
    key = "k" * 100_000
    row = rows.parse("f", 1, "d", f'{{"{key}": 1, "{key}": 2}}'.encode())
    assert (row.error, len(row.message) <= 1000) == ("duplicate_key", True)
    with pytest.raises(RowError) as caught:
        formats.detect({key: 1})
    assert len(caught.value.message) < 1000


def written(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, store_schema=False, **options)
    return path


def test_a_page_whose_values_stand_in_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array(["x" * 200_000]))
    path = written(tmp_path / "a.parquet", pa.table({"question": values}), dictionary_pagesize_limit=2**27)
    monkeypatch.setattr(bounded, "_BATCH_BYTES", 2**20)
    assert [len(block) for block in sources.blocks(sources.expand(str(path))[0])] == [5] * 100
    monkeypatch.setattr(bounded, "FREE", 2**24)
    found = errors(path)
    assert found[-1] == (len(found), "broken_file")
    assert 10 < len(found) < 200


def test_long_cells_of_a_table_are_refused_alone(tmp_path: Path) -> None:
    messages = [[{"role": "user", "content": "y" * size}] for size in (5, 3_000_000, 7)]
    path = written(tmp_path / "a.parquet", pa.table({"messages": messages}))
    found = [row for block in reading.blocks(path, "f", "d", 1_000_000) for row in block.rows()]
    assert [row.error for row in found] == ["", "row_too_long", ""]
    assert [row.line for row in found] == [1, 2, 3]


def test_sizes_of_values_within_values() -> None:
    column = pa.array([["abc", None], [], None, ["x" * 100]])
    assert bounded.sizes(column).tolist() == [8 + 11 + 8, 8, 8, 8 + 108]
    assert bounded.sizes(column.slice(3)).tolist() == [8 + 108]
    assert bounded.sizes(pa.array([{"a": "xy"}, {"a": None}])).tolist() == [64 + 10, 64 + 8]
    assert bounded.sizes(pa.array(["ab", "c", "ab"]).dictionary_encode()).tolist() == [10, 9, 10]


def test_a_time_that_no_calendar_has_is_one_row(tmp_path: Path) -> None:
    times = pa.array([2**62, 0], pa.timestamp("ms"))
    path = written(tmp_path / "a.parquet", pa.table({"question": ["a", "b"], "when": times}))
    assert errors(path) == [(1, "bad_row"), (2, "")]


@pytest.mark.parametrize("limit", ["COLUMNS", "_ROWS"])
def test_too_many_columns_or_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    path = written(tmp_path / "a.parquet", pa.table({f"c{i}": pa.nulls(5, pa.string()) for i in range(9)}))
    assert len(errors(path)) == 5
    monkeypatch.setattr(bounded, limit, 4)
    monkeypatch.setattr(bounded, "EXPANSION", 0)
    (row,) = sources.read_rows(str(path))
    assert row.error == "broken_file"
    assert ("9 columns" if limit == "COLUMNS" else "5 rows") in row.message


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "round.jsonl").symlink_to("round.jsonl")
    (tmp_path / "nowhere.jsonl").symlink_to("missing.jsonl")
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(tmp_path)  # a socket's path must be short
    try:
        listener.bind("s.jsonl")
    finally:
        os.chdir(here)
    cases = {"pipe": "a pipe", "round": "in a circle", "nowhere": "leads nowhere", "s": "a socket"}
    for name, said in cases.items():
        with pytest.raises(UserError, match=said):
            sources.expand(str(tmp_path / f"{name}.jsonl"))
    for device, said in (("/dev/zero", "a device"), ("/proc/kmsg", "lies in /proc"), ("/proc/version", "copy it")):
        with pytest.raises(UserError, match=said):
            sources.expand(device)
    with pytest.raises(UserError, match="no file matches"):
        sources.expand(str(tmp_path / "p*.jsonl"))
    listener.close()


def test_what_a_folder_holds_beside_traces_is_told(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.jsonl").write_bytes(GOOD)
    for name in ("notes.txt", "b.csv", "deep/c.csv", ".hidden.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "linked").symlink_to(tmp_path / "deep")
    (tmp_path / "up").symlink_to(tmp_path)  # a circle of folders
    (tmp_path / "gone.jsonl").symlink_to("missing")
    os.mkfifo(tmp_path / "deep" / "pipe.jsonl")
    left: list[tuple[str, str]] = []
    assert [unit.name for unit in sources.expand(str(tmp_path), left)] == [str(tmp_path / "deep" / "a.jsonl")]
    text = sources.told(left)
    assert text.startswith("left out: 3 x another ending; name the file to read it (such as ")
    assert "2 x a link to a folder; name it as a source" in text
    assert "1 x a link that leads nowhere (such as 'gone.jsonl')" in text
    assert "1 x a pipe" in text
    assert "hidden" not in text
    assert sources.told(sources.left_out([str(tmp_path), "reasoning-gym://chain_sum"])) == text
    assert sources.told([]) == ""


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/a\xff.jsonl"
    try:
        Path(os.fsdecode(path)).write_bytes(GOOD)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    (row,) = sources.read_rows(str(tmp_path))
    assert row.file == f"{tmp_path}/a\\xff.jsonl"
    assert row.row


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD * 1000)
    blocks = sources.blocks(sources.expand(str(path))[0])
    next(blocks)
    with path.open("ab") as file:
        file.write(GOOD)
    with pytest.raises(UserError, match=r"a\.jsonl: changed while it was read"):
        list(blocks)


def test_a_file_that_can_no_longer_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not taken for a fault of the output, which `ingest` tells of every other OSError."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD)

    def shut(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reading, "_kind", shut)
    with pytest.raises(UserError, match=r"source .*a\.jsonl: cannot be read \(Permission denied\)"):
        errors(path)
    monkeypatch.setattr("dcod.storage.files.digest_file", shut)
    with pytest.raises(UserError, match=r"source .*a\.jsonl: cannot be read \(Permission denied\)"):
        errors(path)


def test_many_keys_and_one_of_them_twice() -> None:
    keys = ", ".join(f'"k{i}": 0' for i in range(300_000))
    row = rows.parse("f", 1, "d", f'{{{keys}, "k299999": 1}}'.encode())
    assert (row.error, row.message) == ("duplicate_key", "the key 'k299999' stands twice in one object")


def test_a_hub_set_is_never_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    with pytest.raises(UserError, match=r"\./owner/name is here"):
        sources.expand("hub://owner/name")


@pytest.mark.parametrize(
    "options", ["problems=999999999999", "problems=1e300", "traces=5000", "seed=1" + "0" * 30, "max_terms=1e99"]
)
def test_absurd_numbers_of_a_synthetic_set_are_refused(options: str) -> None:
    with pytest.raises(UserError, match=f"{options.partition('=')[0]}="):
        synthetic.parse(f"reasoning-gym://chain_sum?{options}")


def test_fields_are_bounded_before_they_are_read() -> None:
    long = "9" * (fields.TEXT + 1)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"completion": long}, "too_long"),
        ({"gold": long}, "too_long"),
        ({"prompt": [{"role": "user", "content": long}]}, "too_long"),
        ({"teacher": "t" * 1001}, "bad_field"),
        ({"licence": "t" * 1001}, "bad_field"),
        ({"tokenizer_digest": "t" * 1001}, "bad_field"),
        ({"temperature": "9" * 101}, "bad_field"),
        ({"temperature": "1e999999999"}, "bad_field"),
        ({"top_p": -(10**400)}, "bad_field"),
    ]
    for change, code in cases:
        row = {"prompt": [{"role": "user", "content": "2+2?"}], "completion": "4", **change}
        with pytest.raises(RowError) as caught:
            formats.get("dcod_rows").to_trace(row)
        assert caught.value.code == code


def test_a_text_is_bounded_before_it_is_cut_into_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tokenizer is there to be asked."""
    examiner = object.__new__(examine.Examiner)
    examiner.config = Config.model_validate({"student": {"max_length": 10}})
    trace = Trace(prompt_for("number", "2+2?"), "x" * 400)
    with pytest.raises(RowError, match="max_length is 10"):
        examiner._fit(examine.Examined(trace), trace)
    monkeypatch.setattr(examine, "LONGEST", 1000)
    row = RawRow("f", 1, "d", {"question": "2+2?", "answer": "#### " + "9" * 2000}, format="gsm8k")
    assert examiner.row(row).code == "too_long"


def test_a_digest_is_not_taken_of_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match="a pipe"):
        sources.Unit("a", tmp_path / "a.jsonl").digest()
