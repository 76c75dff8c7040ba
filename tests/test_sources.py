"""Sources: every row comes out once, with its place; what cannot be read is said in one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcod import sources, storage
from dcod.errors import UserError
from dcod.sources import RawRow

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
    assert found[1].raw == '{"question": "2'
    assert found[4].raw == '{"a": "\\xff"}'
    assert all(row.message for row in found if row.error)


def test_hostile_json_is_a_broken_row(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_text(lines("[" * 100_000, '{"a": ' + "9" * 10_000 + "}", GOOD))
    assert [row.error for row in rows(file)] == ["bad_json", "bad_json", ""]


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (json.dumps([GOOD, 3, GOOD], indent=2), ["", "bad_row", ""]),
        (json.dumps(GOOD, indent=2), [""]),
        (lines(GOOD, GOOD), ["", ""]),
        ("[" + json.dumps(GOOD) + ",", ["bad_json"]),
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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.jsonl", None, "no such file or folder; set ingest.sources"),
        ("gone*.jsonl", None, "no file matches"),
        ("empty.jsonl", b"", "there is no row in it"),
        ("blank.jsonl", b"\n \n", "there is no row in it"),
        ("broken.parquet", b"PAR1 not really", "cannot be read .* is the file whole"),
        ("cut.jsonl.gz", gzip.compress(b"{}\n" * 1000)[:-12], "cannot be read .* is the file whole"),
        (
            "cut.jsonl.zst",
            pa.Codec("zstd").compress(b"{}\n" * 1000, asbytes=True)[:-6],
            "cannot be read .* is the file whole",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        rows(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


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
    assert before == {str(file): storage.digest_file(file), uri: uri}
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


def test_s3_sources_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moto = pytest.importorskip("moto")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DCOD_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "a.jsonl"
    file.write_text(lines(GOOD))
    with moto.mock_aws():
        import boto3

        boto3.client("s3").create_bucket(Bucket="bucket")
        for key in ("traces/a.jsonl", "traces/b.jsonl", "traces/notes.md"):
            storage.upload(file, f"s3://bucket/{key}")
        assert {row.file for row in rows("s3://bucket/traces")} == {
            "s3://bucket/traces/a.jsonl",
            "s3://bucket/traces/b.jsonl",
        }
        assert [row.row for row in rows("s3://bucket/traces/b.jsonl")] == [GOOD]
        assert len(rows("s3://bucket/traces/*.jsonl")) == 2
        with pytest.raises(UserError, match="s3://bucket/other: nothing there"):
            rows("s3://bucket/other")


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
