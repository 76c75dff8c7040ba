"""Stored and listed traces: the same order, the same steps, the same run; and what of a stored set is in memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcod.config import TrainConfig
from dcod.errors import UserError
from dcod.models.batches import micro_batches
from dcod.score import scores
from dcod.traces.scored import ScoredTrace
from dcod.train import loop
from dcod.train.sets import ListedTraces, Schedule
from tests.train.test_checkpoints import KNOBS, Stop, make_examples, run, same


def made(prompts: list[int], told: list[bool]) -> list[ScoredTrace]:
    """A trace of each prompt number; the sampler's log-probs where told, else their total, else nothing."""
    out = []
    for index, (prompt, known) in enumerate(zip(prompts, told, strict=True)):
        size = 1 + (7 * index + prompt) % 5
        values = [-0.5 * (k + 1) for k in range(size)]
        example = ScoredTrace(f"{index}", f"p{prompt}", [3, prompt + 4], list(range(5, 5 + size)), values, values)
        example.behavior_logprobs = values if known else None
        example.behavior_total = sum(values) if known or index % 3 else None
        out.append(example)
    return out


def stored(folder: Path, train: list[ScoredTrace], selection: list[ScoredTrace]) -> dict[str, scores.StoredTraces]:
    """Both splits in one file, mixed and each in its order."""
    mixed = [(e, "train") for e in train] + [(e, "selection") for e in selection]
    order = list(range(len(mixed)))
    random.Random(0).shuffle(order)
    splits = [mixed[i][1] for i in order]
    examples = {"train": iter(train), "selection": iter(selection)}
    folder.mkdir(parents=True, exist_ok=True)
    scores.write_scores(folder / "scores.parquet", [next(examples[name]) for name in splits], splits)
    return scores.open_scores(folder)


def reference_steps(
    examples: list[ScoredTrace], traces_per_step: int, seed: int, epoch: int
) -> list[list[ScoredTrace]]:
    """The order in plain words."""
    by_prompt: dict[str, list[ScoredTrace]] = {}
    for example in examples:
        by_prompt.setdefault(example.prompt_id, []).append(example)
    names, out = list(by_prompt), [list[ScoredTrace]()]
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    for index in torch.randperm(len(names), generator=generator).tolist():
        if len(out[-1]) >= traces_per_step:
            out.append([])
        out[-1].extend(by_prompt[names[index]])
    return [step for step in out if step]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=90),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_stored_traces_come_in_the_order_of_listed_ones(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, bool]], per_step: int, epochs: int, seed: int
) -> None:
    examples = made([p for p, _ in drawn], [known for _, known in drawn])
    sets = stored(tmp_path_factory.mktemp("sets"), examples, examples[:3])
    listed = ListedTraces(examples)
    config = TrainConfig(traces_per_step=per_step, epochs=epochs)
    schedules = [Schedule(traces, config, seed) for traces in (listed, sets["train"])]
    expected = [step for epoch in range(epochs) for step in reference_steps(examples, per_step, seed, epoch)]
    assert [len(schedule) for schedule in schedules] == [len(expected)] * 2
    for number, step in enumerate(expected):
        ours, theirs = (schedule[number] for schedule in schedules)
        assert ours == theirs
        assert [e.trace_id for e in ours] == [e.trace_id for e in step]
        known = {e.behavior_logprobs is not None for e in ours}
        assert known <= {all(known for _, known in drawn)}  # a mixture is compared by totals in every step
    for fields in (["behavior_logprobs"], ["behavior_logprobs", "behavior_total"], ["student_logprobs"]):
        assert sets["train"].missing(fields) == listed.missing(fields)
    assert sets["selection"].take(range(len(sets["selection"]))) == examples[:3]


def test_a_run_on_stored_traces_is_the_run_on_listed_ones_and_goes_on_in_mid_epoch(
    tiny_student: Path, tmp_path: Path
) -> None:
    examples = make_examples(tiny_student)
    result, weights, best = run(tiny_student, examples, tmp_path / "listed")

    class Cut:
        """What the helper slices: train from 4 on, selection up to 4."""

        def __init__(self) -> None:
            self.sets = stored(tmp_path / "scores", examples[4:], examples[:4])

        def __getitem__(self, part: slice) -> scores.StoredTraces:
            return self.sets["train" if part.start else "selection"]

    with pytest.raises(Stop):
        run(tiny_student, Cut(), tmp_path / "stored", stop_at=9)  # type: ignore[arg-type]
    again, found, found_best = run(tiny_student, Cut(), tmp_path / "stored")  # type: ignore[arg-type]
    assert len(result.history) == 12  # six an epoch: it went on from the eighth, in mid-epoch
    assert again == result
    assert same(found, weights)
    assert same(found_best, best)


@pytest.mark.parametrize(
    ("knobs", "needs"),
    [
        ({"correction": {"name": "prefix"}}, "behavior_logprobs, which 2 of 5"),
        ({"correction": {"name": "trace"}}, "behavior_logprobs or behavior_total, which 1 of 5"),
        ({"loss": {"name": "forward_kl"}}, "teacher_top_ids, which 5 of 5"),
        ({"anchor": 0.1}, "start_top_ids, which 5 of 5"),
    ],
)
def test_what_is_missing_is_said_in_the_same_words(tmp_path: Path, knobs: dict[str, object], needs: str) -> None:
    examples = made([0, 0, 1, 1, 2], [False, False, True, True, True])
    config = TrainConfig.model_validate({**KNOBS, "correction": {"name": "none"}, **knobs})
    said = []
    for traces in (ListedTraces(examples), stored(tmp_path, examples, [])["train"]):
        with pytest.raises(UserError, match=needs) as caught:
            loop.check(config, traces)
        said.append(str(caught.value))
    assert said[0] == said[1]
    with pytest.raises(UserError, match="no training traces"):
        loop.check(config, stored(tmp_path, [], examples)["train"])


def test_the_index_is_a_few_bytes_a_trace_and_a_step_reads_little(tmp_path: Path) -> None:
    count = 3000
    examples = made([i // 3 for i in range(count)], [True] * count)
    traces = stored(tmp_path, examples, [])["train"]
    held = sum(value.nbytes for value in vars(traces).values() if hasattr(value, "nbytes"))
    assert held <= 10 * count
    read: list[int] = []
    reader = traces._reader

    class Counting:
        def get_batch(self, number: int) -> object:
            read.append(reader.get_batch(number).num_rows)
            return reader.get_batch(number)

    traces._reader = Counting()
    config = TrainConfig(traces_per_step=6, epochs=1)
    assert Schedule(traces, config, 0)[0] == Schedule(ListedTraces(examples), config, 0)[0]
    assert 0 < sum(read) <= 4 * 32  # two prompts, each in one piece or across two


def test_the_files_of_a_set_go_with_it(tmp_path: Path) -> None:
    sets = stored(tmp_path, made([0, 1], [True, True]), [])
    folder = Path(sets["train"]._path).parent
    assert folder.is_dir()
    del sets
    assert not folder.is_dir()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), min_size=1, max_size=30), st.booleans())
def test_micro_batches_hold_every_trace_once(drawn: list[tuple[int, int]], by_prompt: bool) -> None:
    examples = [ScoredTrace(str(i), str(p), [1], [2] * n, [], []) for i, (p, n) in enumerate(drawn)]
    groups = micro_batches(examples, 24, by_prompt=by_prompt)
    assert sorted(e.trace_id for group in groups for e in group) == sorted(e.trace_id for e in examples)
    if by_prompt:
        homes = {e.prompt_id: index for index, group in enumerate(groups) for e in group}
        assert all(homes[e.prompt_id] == index for index, group in enumerate(groups) for e in group)
    for group in groups:
        assert len(group) * max(map(len, group)) <= 24 or by_prompt or len(group) == 1
