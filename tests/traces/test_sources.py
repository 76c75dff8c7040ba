"""Sources: every row comes out once, with its place; what cannot be read is said in one line."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dcod import storage
from dcod.errors import UserError
from dcod.traces import sources
from dcod.traces.sources import RawRow

GOOD = {"question": "2+2?", "answer": "#### 4"}


def rows(uri: Any) -> list[RawRow]:
    return list(sources.read_rows(str(uri)))


def lines(*values: object) -> str:
    return "".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values)


def test_json_lines_with_broken_ones_between(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_bytes(
        b"\xef\xbb\xbf"
        + lines(GOOD, '{"question": "2', "", "[1]", '{"a": 1, "a": 2}').encode()
        + b'{"a": "\xff"}\n{"a": "\x00"}\r\n'
        + json.dumps(GOOD).encode()
    )
    found = rows(file)
    assert [(row.line, row.error) for row in found] == [
        (1, ""),
        (2, "bad_json"),
        (4, "bad_row"),
        (5, "duplicate_key"),
        (6, "bad_encoding"),
        (7, "bad_encoding"),
        (8, ""),
    ]
    assert found[0].row == GOOD
    assert found[-1].row == GOOD
    assert {row.file for row in found} == {str(file)}
    assert {row.digest for row in found} == {storage.digest_file(file)}
    assert found[1].raw == b'{"question": "2'
    assert found[4].raw == b'{"a": "\xff"}'
    assert all(row.message for row in found if row.error)


def test_hostile_json_is_a_broken_row(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_text(lines("[" * 100_000, '{"a": ' + "9" * 10_000 + "}", GOOD))
    assert [row.error for row in rows(file)] == ["row_too_complex", "bad_json", ""]


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (json.dumps([GOOD, 3, GOOD], indent=2), ["", "bad_row", ""]),
        (json.dumps(GOOD, indent=2), [""]),
        (lines(GOOD, GOOD), ["", ""]),
        ("[" + json.dumps(GOOD) + ",", ["", "broken_file"]),
        ('[{"a": "]}\\\\"}, {"b": "\\"["} , {c}, {"d": [[1], {}]}]\n', ["", "", "bad_json", ""]),
        ('[{"a": 1},, {"b": 2}] {"c": 3}', ["", "bad_json", "", ""]),
        ("[]", []),
        (lines(GOOD, "{"), ["", "bad_json"]),
    ],
)
def test_a_json_file_may_be_one_document(tmp_path: Path, text: str, errors: list[str]) -> None:
    file = tmp_path / "traces.json"
    file.write_text(text)
    found = rows(file)
    assert [row.error for row in found] == errors
    assert [row.line for row in found] == list(range(1, len(errors) + 1))


def test_parquet_gzip_and_zstd(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([GOOD] * 600), tmp_path / "a.parquet")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(lines(GOOD, GOOD))
    packed = pa.Codec("zstd").compress(lines(GOOD, GOOD).encode(), asbytes=True)
    (tmp_path / "c.jsonl.zst").write_bytes(packed + packed)  # two frames
    found = rows(tmp_path)
    assert len(found) == 606
    assert [row.line for row in found] == [*range(1, 601), 1, 2, 1, 2, 3, 4]
    assert all(row.row == GOOD for row in found)
    assert sum(sources.count_rows(unit) for unit in sources.expand(str(tmp_path))) in range(606, 609)


def test_text_in_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    broken = pa.array([b"ok", b"\xff\xfe"]).view(pa.string())
    pq.write_table(pa.table({"question": broken}), tmp_path / "a.parquet")
    assert [row.error for row in rows(tmp_path / "a.parquet")] == ["", "bad_encoding"]


def test_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "deep/c.ndjson", ".hidden.jsonl", ".git/d.jsonl", "README.md", "other.test"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(lines(GOOD))
    assert [unit.name for unit in sources.expand(str(tmp_path))] == [
        str(tmp_path / name) for name in ("a.jsonl", "b.jsonl", "deep/c.ndjson")
    ]
    assert len(rows(tmp_path / "*.jsonl")) == 2
    assert len(rows(tmp_path / "**/*.ndjson")) == 1
    assert len(rows(tmp_path / "other.test")) == 1  # named outright, any ending is read
    assert len(rows(f"file://{tmp_path}/a.jsonl")) == 1
    (tmp_path / "odd[1].jsonl").write_text(lines(GOOD))
    assert len(rows(tmp_path / "odd[1].jsonl")) == 1


def test_of_a_trace_set_only_the_traces_are_read(tmp_path: Path) -> None:
    for name in ("traces.parquet", "quarantine.parquet"):
        pq.write_table(pa.Table.from_pylist([GOOD]), tmp_path / name)
    (tmp_path / "counts.json").write_text("{}")
    assert [unit.name for unit in sources.expand(str(tmp_path))] == [str(tmp_path / "traces.parquet")]
    for name in ("traces.parquet", "quarantine.parquet"):  # in shards
        (tmp_path / name).rename(tmp_path / "part-0.parquet")
        (tmp_path / name).mkdir()
        (tmp_path / "part-0.parquet").rename(tmp_path / name / "part-00000000.parquet")
    shard = str(tmp_path / "traces.parquet" / "part-00000000.parquet")
    assert [unit.name for unit in sources.expand(str(tmp_path))] == [shard]
    assert [unit.name for unit in sources.expand(str(tmp_path / "traces.parquet"))] == [shard]
    for pattern in ("t*.parquet", "t*/*.parquet", "**/t*.parquet", "**/[pt]*.parquet"):
        assert {unit.name for unit in sources.expand(str(tmp_path / pattern))} >= {shard}
    assert [unit.name for unit in sources.expand(str(tmp_path / "t*.parquet"))] == [shard]


MANY = lines(*({"question": f"{n}+{n}?", "answer": f"#### {2 * n}"} for n in range(400))).encode()


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: pa.Codec("zstd").compress(data, asbytes=True)])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_a_cut_file_gives_all_rows_before_the_cut(tmp_path: Path, pack: Any, share: float) -> None:
    whole = pack(MANY[: len(MANY) // 2]) + pack(MANY[len(MANY) // 2 :])  # two members
    file = tmp_path / "cut.jsonl.gz"
    file.write_bytes(whole[: int(len(whole) * share)])
    *found, fault = rows(file)
    assert all(not row.error for row in found)
    assert [row.line for row in found] == list(range(1, len(found) + 1))
    assert (fault.error, fault.line) == ("broken_file", len(found) + 1)
    assert "cannot be read to its end" in fault.message
    told = b"\n".join([*(row.raw for row in found), fault.raw])
    assert MANY.startswith(told)  # and nothing that was unpacked is lost
    if share > 0.6:  # the first member is whole
        assert len(told) > 0.4 * len(MANY)


def test_bytes_that_rot_in_the_middle(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(MANY, mtime=0))
    whole[-6] ^= 0xFF  # the checksum
    (tmp_path / "a.jsonl.gz").write_bytes(bytes(whole))
    found = rows(tmp_path / "a.jsonl.gz")
    assert found[-1].error == "broken_file"
    assert MANY.startswith(b"\n".join(row.raw for row in found))  # all but what came out of the last packed bytes
    assert len(found) > 200


def test_padded_and_empty_members(tmp_path: Path) -> None:
    packed = gzip.compress(lines(GOOD).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(packed + gzip.compress(b"") + packed + b"\x00" * 5000)
    assert [row.error for row in rows(tmp_path / "a.jsonl.gz")] == ["", ""]


def test_a_row_that_is_too_long_is_not_held(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(lines(GOOD) + '{"a": "' + "x" * 3_000_000 + '"}\n' + lines(GOOD))
    for name, text in (
        ("b.json", f"[{file.read_text().strip().replace(chr(10), ',')}]"),
        ("c.jsonl", file.read_text()),
    ):
        (tmp_path / name).write_text(text)
        unit = sources.expand(str(tmp_path / name))[0]
        found = [row for block in sources.blocks(unit, 1000) for row in block.rows()]
        assert [row.error for row in found] == ["", "row_too_long", ""]
        assert [row.line for row in found] == [1, 2, 3]
        assert found[1].raw == b'{"a": "' + b"x" * 993
        assert "3000009 bytes, ingest.row_bytes is 1000" in found[1].message


@pytest.mark.parametrize("content", [b"PAR1 not really", b""])
def test_a_broken_parquet_file_is_one_row(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    found = rows(tmp_path / "a.parquet")
    assert [(row.line, row.error) for row in found] == [(1, "broken_file")]
    assert "\n" not in found[0].message


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_rows(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    assert rows(tmp_path / "a.jsonl") == []


def test_values_that_json_has_no_word_for_never_become_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": pa.array([b"2+2?"]), "answer": ["#### 4"]}), tmp_path / "a.parquet")
    found = rows(tmp_path / "a.parquet")[0]
    assert found.row == {"question": b"2+2?", "answer": "#### 4"}
    assert json.loads(found.raw) == {"question": {"type": "bytes", "value": "b'2+2?'"}, "answer": "#### 4"}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(data=b"BZh", name="a.jsonl", packed="", cut=0)
@given(
    data=st.binary(max_size=300) | st.text('[]{},:\\"\n ab1\x00', max_size=80).map(str.encode),
    name=st.sampled_from(["a.jsonl", "a.json", "a.jsonl.gz", "a.parquet"]),
    packed=st.sampled_from(["", "gzip", "zstd"]),
    cut=st.integers(0, 40),
)
def test_any_bytes_are_rows_or_faults(tmp_path: Path, data: bytes, name: str, packed: str, cut: int) -> None:
    """Nothing but blank lines, brackets and commas is lost, whatever the bytes."""
    whole = gzip.compress(data) if packed == "gzip" else data
    whole = pa.Codec("zstd").compress(data, asbytes=True) if packed == "zstd" else whole
    (tmp_path / name).write_bytes(whole[: len(whole) - cut] if packed else whole)
    found = rows(tmp_path / name)
    assert all((row.row is None) == bool(row.error) for row in found)
    assert len({row.line for row in found}) == len(found)
    if found and found[0].error == "other_encoding":  # refused whole, and told: it begins like bzip2, or UTF-16
        assert len(found) == 1
        return
    if name == "a.jsonl" and not packed and data[:2] != b"\x1f\x8b" and data[:4] != b"\x28\xb5\x2f\xfd":
        kept = b"".join(row.raw for row in found)
        lost = Counter(data) - Counter(kept)
        assert set(lost) <= set(b"\r\n\t\v\f \xef\xbb\xbf")


def test_an_empty_folder_and_no_source(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file in it that can hold traces \(.jsonl"):
        rows(tmp_path)
    with pytest.raises(UserError, match=r"ingest\.sources is empty: give files"):
        sources.digests([])


def test_digests_follow_the_content(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(lines(GOOD))
    uri = "reasoning-gym://chain_sum?problems=3"
    before = sources.digests([str(file), uri])
    assert before == {str(file): storage.digest_file(file), uri: hashlib.sha256(uri.encode()).hexdigest()}
    file.write_text(lines(GOOD, GOOD))
    assert sources.digests([str(file), uri]) != before


def test_synthetic_sets_are_rows_of_ours() -> None:
    uri = "reasoning-gym://chain_sum?problems=4&traces=2&seed=3&min_terms=3&max_terms=3"
    found = rows(uri)
    assert found == rows(uri)
    assert {row.format for row in found} == {"dcod_rows"}
    assert [row.line for row in found] == list(range(1, len(found) + 1))
    assert len({row.row["prompt"][0]["content"] for row in found if row.row}) == 4
    assert all(row.row and row.row["teacher"] == sources.SYNTHETIC_TEACHER for row in found)
    with pytest.raises(UserError, match="no task 'chain_sums'"):
        rows("reasoning-gym://chain_sums")


@pytest.mark.usefixtures("bucket")
def test_s3_sources_keep_their_names(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(lines(GOOD))
    for key in ("rows/a.jsonl", "rows/b.jsonl", "rows/notes.md"):
        storage.upload(file, f"s3://traces/{key}")
    assert {row.file for row in rows("s3://traces/rows")} == {"s3://traces/rows/a.jsonl", "s3://traces/rows/b.jsonl"}
    assert [row.row for row in rows("s3://traces/rows/b.jsonl")] == [GOOD]
    assert len(rows("s3://traces/rows/*.jsonl")) == 2
    with pytest.raises(UserError, match="s3://traces/other: nothing there"):
        rows("s3://traces/other")


def test_a_hub_set_becomes_one_cached_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[object, ...]] = []

    def load(name: str, config: str | None, *, split: str, revision: str | None) -> datasets.Dataset:
        asked.append((name, config, split, revision))
        return datasets.Dataset.from_list([{"question": "1 + 1?", "answer": "#### 2"}])

    monkeypatch.setenv("DCOD_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets, "load_dataset", load)
    uri = "hub://openai/gsm8k?config=main&split=train"
    for _ in range(2):
        (row,) = sources.read_rows(uri)
        assert row.row == {"question": "1 + 1?", "answer": "#### 2"}
        assert (row.file, row.line) == (uri, 1)
    assert asked == [("openai/gsm8k", "main", "train", None)]
    with pytest.raises(UserError, match="unknown option branch"):
        list(sources.read_rows(f"{uri}&branch=x"))
