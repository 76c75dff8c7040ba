"""Scoring in parts: killed and started again, or shared by processes, it writes the very same file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from dcod import storage, traces
from dcod.config import Config
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.score import parts
from dcod.score.scores import read_scores
from dcod.stages import execute, score
from dcod.storage import workers
from dcod.traces import Trace, write_traces
from dcod.traces.prompts import load_tokenizer
from dcod.tracking import NullLog
from tests.stages.test_score import trace

COUNT, EVERY = 11, 4  # three parts, the last one smaller


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As many as each of two processes has: with more, the sums of a matrix product may come in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trace_set(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Path:
    folder = tmp_path_factory.mktemp("traces")
    tokenizer = load_tokenizer(tiny_student)
    texts = [f"{'so ' * (5 * i % 7)}{i}" for i in range(COUNT)]
    made = [trace(text, tokenizer) if i % 2 else Trace(prompt=[{"role": "user", "content": "?"}], completion=text)
            for i, text in enumerate(texts)]  # fmt: skip
    write_traces(folder / "traces.parquet", made, rows_per_group=3)
    return folder


def configured(place: Path | str, **section: object) -> Config:
    checkpoints = {"uri": str(place), "every": EVERY}
    return Config.model_validate({"score": {"top_k": 2, "checkpoints": checkpoints, **section}})


def scored(config: Config, out: Path, trace_set: Path, student: Path) -> dict[str, float]:
    out.mkdir()
    return score.run(config, out, NullLog(), traces=trace_set, student=student)


@pytest.fixture(scope="module")
def calm(
    tmp_path_factory: pytest.TempPathFactory, trace_set: Path, tiny_student: Path
) -> tuple[Path, dict[str, float]]:
    out = tmp_path_factory.mktemp("calm") / "out"
    return out, scored(configured(""), out, trace_set, tiny_student)


def pool_of(parent: int) -> list[Path]:
    """The processes of its pool, as folders of /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, line = (folder / "status").read_text(), (folder / "cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if f"PPid:\t{parent}\n" in status and "spawn_main" in line:
            found.append(folder)
    return found


def content(folder: Path) -> dict[str, Any]:
    """All files; of the facts without the speed, the one thing that differs."""
    told = json.loads((folder / "facts.json").read_text())
    told["student"].pop("speed", None)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "facts.json"} | told


def test_the_speed_is_that_of_all_batches_but_the_first(trace_set: Path, tiny_student: Path, tmp_path: Path) -> None:
    """Of what this attempt scored: nothing is known where one batch was read, or none."""
    config = configured(tmp_path / "parts", batch_tokens=99)
    scored(config, tmp_path / "out", trace_set, tiny_student)
    speed = json.loads((tmp_path / "out" / "facts.json").read_text())["student"]["speed"]
    read = sum(map(len, read_scores(tmp_path / "out")["train"]))
    assert 0 < read - speed["tokens"] <= 99
    assert speed["seconds"] > 0
    assert speed["device"] == "1 thread"
    scored(config, tmp_path / "again", trace_set, tiny_student)
    assert "speed" not in json.loads((tmp_path / "again" / "facts.json").read_text())["student"]
    assert content(tmp_path / "again") == content(tmp_path / "out")


def test_parts_hold_the_traces_in_their_order(
    calm: tuple[Path, dict[str, float]], trace_set: Path, tiny_student: Path
) -> None:
    found = read_scores(calm[0])["train"]
    made = list(traces.read_traces(trace_set))
    assert [e.trace_id for e in found] == [t.trace_id for t in made]
    assert sorted(path.name for path in calm[0].iterdir()) == ["drift.json", "facts.json", "scores.parquet"]
    assert pq.ParquetFile(calm[0] / "scores.parquet").num_row_groups == 3
    whole = [parts.in_tokens(t, load_tokenizer(tiny_student), "") for t in made]
    TransformersEngine(tiny_student, load_tokenizer(tiny_student)).annotate(whole, 4096)
    for one, other in zip(found, whole, strict=True):
        assert one.student_logprobs == pytest.approx(other.student_logprobs, abs=1e-5)
    assert calm[1]["traces"] == COUNT
    assert calm[1]["completion_tokens"] == sum(len(e.completion_tokens) for e in found)


def test_a_killed_scoring_goes_on_and_writes_the_same_file(
    calm: tuple[Path, dict[str, float]],
    trace_set: Path,
    tiny_student: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configured(tmp_path / "parts")
    asked: list[int] = []
    own = parts.Scorer.score

    def dying(self: parts.Scorer, number: int) -> None:
        if asked == [0]:
            raise KeyboardInterrupt
        asked.append(number)
        own(self, number)

    monkeypatch.setattr(parts.Scorer, "score", dying)
    with pytest.raises(KeyboardInterrupt):
        scored(config, tmp_path / "first", trace_set, tiny_student)
    assert asked == [0]
    (place,) = (tmp_path / "parts").iterdir()
    (place / ".part-00000001.abc").mkdir()  # what a kill in the middle of a write leaves
    (place / ".part-00000001.abc" / "scores.parquet").write_bytes(b"half")
    asked.append(-1)
    metrics = scored(config, tmp_path / "second", trace_set, tiny_student)
    assert asked == [0, -1, 1, 2]
    assert content(tmp_path / "second") == content(calm[0])
    assert metrics == calm[1]
    score.settle(config, traces=trace_set, student=tiny_student)
    assert list((tmp_path / "parts").iterdir()) == []


def test_parts_go_only_when_the_scores_are_in_place(
    trace_set: Path, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed a moment before, the next attempt still goes on from them."""
    out, own = tmp_path / "out", parts.Parts.clear
    seen: list[bool] = []

    def clear(self: parts.Parts) -> None:
        seen.append((out / "manifest.json").is_file())
        own(self)

    monkeypatch.setattr(parts.Parts, "clear", clear)
    inputs = {"traces": trace_set, "student": tiny_student}
    execute.execute("score", configured(tmp_path / "parts"), out, inputs, execute.RunContext(tracked=False))
    assert seen == [True]
    assert list((tmp_path / "parts").iterdir()) == []


def test_any_number_of_processes_writes_the_same_file(
    calm: tuple[Path, dict[str, float]], trace_set: Path, tiny_student: Path, tmp_path: Path
) -> None:
    metrics = scored(configured(tmp_path / "parts", workers=2), tmp_path / "two", trace_set, tiny_student)
    assert content(tmp_path / "two") == content(calm[0])
    assert metrics == calm[1]


def test_another_run_has_other_parts(trace_set: Path, tiny_student: Path, tmp_path: Path) -> None:
    """Workers and place are no part of a scoring's identity; all else of its section is."""
    places = []
    for number, section in enumerate(({}, {"workers": 1}, {"top_k": 3}, {"batch_tokens": 99})):
        root = tmp_path / f"parts-{number}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parts, "score_parts", lambda job, numbers: _copy(job, tiny_student, numbers))
            scored(configured(root, **section), tmp_path / f"out-{number}", trace_set, tiny_student)
        places.append(next(root.iterdir()).name)
    assert places[0] == places[1]
    assert len(set(places)) == 3


def _copy(job: parts.Job, student: Path, numbers: list[int]) -> dict[str, object]:
    scorer = parts.Scorer(job)
    for number in numbers:
        scorer.score(number)
    return scorer.facts


@pytest.mark.usefixtures("bucket")
def test_parts_in_a_bucket(
    calm: tuple[Path, dict[str, float]],
    trace_set: Path,
    tiny_student: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configured("s3://traces/checkpoints")
    scored(config, tmp_path / "first", trace_set, tiny_student)
    monkeypatch.setattr(parts.Scorer, "score", lambda self, number: pytest.fail("it was there"))
    scored(config, tmp_path / "second", trace_set, tiny_student)
    score.settle(config, traces=trace_set, student=tiny_student)
    assert storage.list_objects("s3://traces/checkpoints") == []
    assert content(tmp_path / "first") == content(tmp_path / "second") == content(calm[0])


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(trace_set: Path, tiny_student: Path, tmp_path: Path) -> None:
    """SIGKILL after the first part: no process is left, and the next attempt writes the same file."""
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.stages.test_scoring_parts import configured, scored\n"
        "if __name__ == '__main__':\n"
        "    parts, out, traces, student = map(Path, sys.argv[1:])\n"
        "    scored(configured(parts, workers=2), out, traces, student)\n"
    )
    (tmp_path / "program.py").write_text(program)
    arguments = [str(tmp_path / "parts"), str(tmp_path / "killed"), str(trace_set), str(tiny_student)]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    process = subprocess.Popen([sys.executable, str(tmp_path / "program.py"), *arguments], env=environment)
    while process.poll() is None and not list((tmp_path / "parts").glob("*/part-*/scores.parquet")):
        time.sleep(0.01)
    pool = pool_of(process.pid)
    assert len(pool) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while any(map(Path.exists, pool)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(Path.exists, pool))
    scored(configured(tmp_path / "parts"), tmp_path / "again", trace_set, tiny_student)
    calm = tmp_path / "calm"
    scored(configured(""), calm, trace_set, tiny_student)
    assert content(tmp_path / "again") == content(calm)


def test_a_dead_process_is_an_error_with_a_way_out(
    trace_set: Path, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking(workers.Pool):
        def submit(self, *_: object, **__: object) -> Future[None]:
            raise parts.BrokenProcessPool

    monkeypatch.setattr(workers, "Pool", Breaking)
    with pytest.raises(UserError, match=r"one of 2 processes ended.*lower score\.workers"):
        scored(configured("", workers=2), tmp_path / "out", trace_set, tiny_student)


def test_runs_of_traces(trace_set: Path) -> None:
    everything = list(traces.read_traces(trace_set))
    assert traces.count_traces(trace_set) == len(everything) == COUNT
    for begin in range(COUNT):
        for end in range(begin, COUNT + 2):
            assert list(traces.read_traces(trace_set, range(begin, end))) == everything[begin:end]
