"""The bench of training: its contestants do the same, its counts are right; TRL is not needed here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.training import __main__ as bench
from bench.training import jobs, machine
from bench.training.contestant import CONTESTANTS, SAME, measure
from dcod.engines.transformers import TransformersEngine
from dcod.score.scores import write_scores
from dcod.traces.prompts import load_tokenizer
from dcod.traces.scored import ScoredTrace


@pytest.fixture(scope="module")
def job(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of four traces of many lengths, scored."""
    folder = tmp_path_factory.mktemp("job")
    generator = torch.Generator().manual_seed(0)
    draw = lambda n: torch.randint(3, 200, (n,), generator=generator).tolist()  # noqa: E731
    examples = [ScoredTrace(str(i), str(i), draw(4 + i), [*draw(3 * i + 1), 2], [], []) for i in range(8)]
    TransformersEngine(tiny_student, load_tokenizer(tiny_student)).annotate(examples, 512)
    write_scores(folder / "scores.parquet", examples, ["train"] * len(examples))
    jobs.save(
        folder, jobs.Job(str(tiny_student), traces_per_step=4, micro_batch_tokens=48, learning_rate=1e-3, threads=1)
    )
    return folder


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_contestants_optimise_the_same(job: Path) -> None:
    """A plain loop with the full logits and one batch a step is an independent reference of dcod's loss and step."""
    names = ["plain loop", "dcod, SFT", "dcod, DFT", "dcod, surprisal", "dcod, surprisal live"]
    found = {name: measure(job, name) for name in names}
    assert bench.check_losses(found, 1e-5) < 1e-5
    _, examples = jobs.load(job)
    timed = jobs.steps(jobs.load(job)[0], examples)[1]
    for row in found.values():
        assert row["tokens"] == sum(map(len, timed))
        assert row["seconds"] > 0
        assert len(row["losses"]) == 2
        assert row["losses"][1] != row["losses"][0]
        assert row["peak_bytes"] > row["above_model_bytes"]
    assert found["dcod, DFT"]["losses"] != found["dcod, SFT"]["losses"]
    with pytest.raises(AssertionError, match="do not do the same"):
        bench.check_losses({"plain loop": found["plain loop"], "dcod, SFT": found["dcod, DFT"]})


def test_every_contestant_exists() -> None:
    assert {module for module, _ in CONTESTANTS.values()} == {"ours", "plain", "trl_sft"}
    assert {name for names in SAME for name in names} <= set(CONTESTANTS)
    assert len(CONTESTANTS) >= 8


def test_flops_by_hand() -> None:
    """One layer of 100 weights and a tied head of 10 x 4: 6 FLOPs a weight and token; causal attention 6 S^2 width."""
    config = SimpleNamespace(
        vocab_size=10, hidden_size=4, tie_word_embeddings=True, num_attention_heads=2, num_hidden_layers=1
    )
    examples = [ScoredTrace("a", "a", [1, 2], [3], [], []), ScoredTrace("b", "b", [1], [2, 3, 4], [], [])]
    flops = machine.step_flops(config, 140, examples)
    assert flops["six_n"] == 6 * 140 * 7
    assert flops["needed"] == 6 * (100 * 7 + 40 * 4) + 6 * 4 * (9 + 16)


def test_ratios_are_taken_within_a_round() -> None:
    """The machine is half as fast in the second round: the ratio does not see it."""

    def row(rate: float, peak: float) -> dict[str, float]:
        bytes_ = peak * 2**30
        measures = {"tokens": rate * 10, "seconds": 10.0, "cpu_seconds": 20.0, "others_cores": 0.0}
        return {**measures, "peak_bytes": bytes_, "above_model_bytes": bytes_ / 2}

    rounds = [
        {"matmul": {"flops": 1e5, "cpu_flops": 5e4}, "dcod, DFT": row(200, 3), "TRL, DFT": row(100, 10)},
        {"matmul": {"flops": 5e4, "cpu_flops": 5e4}, "dcod, DFT": row(100, 3), "TRL, DFT": row(50, 10)},
    ]
    figures = bench.summary(rounds, {"six_n": 400.0, "needed": 300.0}, "TRL, DFT")
    ours = figures["dcod, DFT"]
    assert ours["speed_ratio"] == {"min": 2.0, "median": 2.0, "max": 2.0}
    assert ours["memory_ratio"] == 0.3
    assert ours["cpu_matmul_share"] == {"min": 0.4, "median": 0.6, "max": 0.8}
    assert ours["matmul_share"]["median"] == 0.8
    assert ours["needed_share"]["median"] == 0.6
    assert ours["tokens_per_second"] == {"min": 100.0, "median": 150.0, "max": 200.0}
    text = bench.table(figures, "TRL, DFT")
    assert text.count("2.00 (2.00 to 2.00)") == 2
    assert len({len(line) for line in text.splitlines()[1:]}) == 1
