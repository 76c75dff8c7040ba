"""Replays, sets that are carried on, and new files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dcod import storage
from dcod.errors import UserError
from dcod.traces.sources import new_files
from tests.stages.test_ingest import Ingest, Ingested, response, solved


@pytest.fixture
def run(tmp_path: Path, tiny_student: Path) -> Ingest:
    return Ingest(tmp_path, tiny_student)


def ids(found: Ingested) -> list[str]:
    return [trace.trace_id for trace in found.traces]


MIXED = [
    solved(1),
    response(2, "The answer is 5."),
    response(2, "\\boxed{4}"),
    response(2, "\\boxed{4}"),
    '{"question": "broken',
    {"prompt": "How many?", "completion": "The answer is 4."},
    solved(3),
    '{"a": 1, "a": 2}',
]


def test_a_replay_accounts_for_every_row_again(run: Ingest) -> None:
    first = run(*MIXED)
    again = run(sources=[], earlier={"replay": first.out})
    assert (again.counts, again.files, ids(again)) == (first.counts, first.files, ids(first))
    fixed = run(sources=[], earlier={"replay": again.out}, keep="answered")
    assert ids(fixed)[:3] == ids(first)
    assert [(trace.source_line, trace.verdict) for trace in fixed.traces[3:]] == [(2, "wrong"), (6, "unverified")]
    assert fixed.reasons() == {4: "duplicate", 5: "bad_json", 8: "duplicate_key"}
    assert fixed.counts["read"] == len(MIXED)
    assert fixed.metrics["accepted"] == 5
    place = fixed.traces[0].source_file
    assert {trace.source_file for trace in fixed.traces} == {place}
    assert fixed.counts["tokens"]["completion"] > first.counts["tokens"]["completion"]
    whole = run(*MIXED, keep="answered")
    assert sorted(ids(whole)) == sorted(ids(fixed))
    assert {k: whole.counts[k] for k in whole.counts} == fixed.counts


def test_a_replay_knows_bytes_that_are_no_text_and_rows_that_were_never_whole(run: Ingest, tmp_path: Path) -> None:
    file = tmp_path / "raw.jsonl"
    file.write_bytes(json.dumps(solved(1)).encode() + b'\n{"a": "\xff"}\n{"b": "' + b"x" * 5000 + b'"}\n')
    first = run(sources=[str(file)], row_bytes=2000)
    assert first.reasons() == {2: "bad_encoding", 3: "row_too_long"}
    assert first.quarantine[0]["raw_bytes"] == b'{"a": "\xff"}'
    again = run(sources=[], earlier={"replay": first.out})
    assert again.quarantine == first.quarantine


def test_a_second_run_over_the_same_files_adds_nothing(run: Ingest, tmp_path: Path) -> None:
    folder = tmp_path / "night"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (solved(1), response(2, "Hm."))))
    first = run(sources=[str(folder)])
    again = run(sources=[str(folder)], earlier={"onto": first.out})
    assert (again.counts, again.files, again.traces) == (first.counts, first.files, first.traces)
    assert again.quarantine == first.quarantine
    (folder / "a.jsonl").rename(folder / "renamed.jsonl")
    (folder / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (solved(1), solved(4))))
    more = run(sources=[str(folder)], earlier={"onto": again.out})
    assert {Path(name).name: item["read"] for name, item in more.files.items()} == {"a.jsonl": 2, "b.jsonl": 2}
    assert [row["duplicate_of"] for row in more.quarantine if row["reason"] == "duplicate"] == ids(first)
    assert ids(more)[:1] == ids(first)
    assert more.counts["problems"] == 2


def test_traces_of_a_problem_stay_on_its_side_when_the_share_changes(run: Ingest) -> None:
    first = run(*[response(n, f"\\boxed{{{2 * n}}}") for n in range(40)], selection_share=0.1)
    rows = [response(n, f"So \\boxed{{{2 * n}}}") for n in range(40)]
    more = run(*rows, selection_share=0.9, earlier={"onto": first.out})
    sides: dict[str, set[str]] = {}
    for trace in more.traces:
        sides.setdefault(trace.prompt_id, set()).add(trace.split)
    assert len(more.traces) == 80
    assert all(len(side) == 1 for side in sides.values())


def test_new_files_are_known_by_their_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"name": "{name}"}}\n')
    seen = {storage.digest_file(tmp_path / "a.jsonl")}
    (tmp_path / "a.jsonl").rename(tmp_path / "c.jsonl")
    uri = "reasoning-gym://chain_sum?problems=3"
    units = new_files([str(tmp_path), uri], seen)
    assert [unit.name for unit in units] == [str(tmp_path / "b.jsonl"), uri]
    assert new_files([str(tmp_path), uri], seen | {unit.digest() for unit in units}) == []
    with (tmp_path / "c.jsonl").open("a") as file:
        file.write("{}\n")
    assert [Path(unit.name).name for unit in new_files([str(tmp_path)], seen)] == ["b.jsonl", "c.jsonl"]


def test_files_that_were_seen_are_left_out(run: Ingest, tmp_path: Path) -> None:
    for name, number in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(solved(number)))
    sources = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    seen = [storage.digest_file(Path(name)) for name in sources]
    assert list(run(sources=sources, seen=seen[:1]).files) == sources[1:]
    with pytest.raises(UserError, match=r"no file is new: the digests of all stand in ingest\.seen"):
        run(sources=sources, seen=seen)


def test_mistakes_with_earlier_sets(run: Ingest, tmp_path: Path) -> None:
    for name in ("onto", "replay"):
        with pytest.raises(UserError, match=r"no .* in it; (give the folder|make a trace set)"):
            run(solved(1), earlier={name: tmp_path})
