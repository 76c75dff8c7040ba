"""Two ranks on gloo, replicas or shards, LoRA, bfloat16 and recomputed activations: one trajectory."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from dcod.config import LoraConfig, TrainConfig
from dcod.errors import UserError
from dcod.models import loading
from dcod.traces.scored import ScoredTrace
from dcod.train import loop, lora, parallel
from dcod.train.checkpoints import Checkpoints, weights_of
from tests.train.test_checkpoints import make_examples, same

KNOBS: dict[str, Any] = {
    "learning_rate": 1e-2,
    "epochs": 1,
    "traces_per_step": 4,
    "validations": 2,
    "micro_batch_tokens": 40,
    "correction": {"name": "trace", "ess_floor": 0.5, "weights": "live"},
}


@pytest.fixture(scope="module")
def examples(tiny_student: Path) -> list[ScoredTrace]:
    return make_examples(tiny_student)


def alone(student: Path, examples: list[ScoredTrace], **knobs: object) -> tuple[loop.Result, dict[str, torch.Tensor]]:
    best: dict[str, torch.Tensor] = {}

    def save(trained: Any) -> None:
        best.update({name: value.clone() for name, value in trained.state_dict().items()})

    config = TrainConfig.model_validate({**KNOBS, **knobs})
    result = loop.train(loading.load(student), examples[4:], examples[:4], config, 0, save, lambda *_: None)
    return result, best


def on_two_ranks(
    student: Path, examples: list[ScoredTrace], folder: Path, kept: str = "", stop_at: int = 0, **knobs: object
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """History and best student of a run on two ranks."""
    folder.mkdir(exist_ok=True)
    config = TrainConfig.model_validate({**KNOBS, **knobs})
    (folder / "examples").write_bytes(pickle.dumps((examples[4:], examples[:4])))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command += ["tests.two_ranks", str(student), str(folder), config.model_dump_json(), kept, str(stop_at)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if stop_at:
        assert done.returncode != 0
        assert "stopped on purpose" in done.stderr
        return [], {}
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "history").read_text()), load_file(folder / "best" / "model.safetensors")


FIGURES = frozenset({"loss", "gamma", "selection_nll"})


def close(
    left: list[dict[str, float]],
    right: list[dict[str, float]],
    rel: float = 1e-3,
    figures: frozenset[str] = FIGURES | {"grad_norm"},
) -> None:
    assert len(left) == len(right) == 6
    for one, other in zip(left, right, strict=True):
        assert set(one) == set(other)
        for figure in figures & set(one):
            assert one[figure] == pytest.approx(other[figure], rel=rel), figure


@pytest.mark.parametrize(
    "knobs",
    [
        {"sharding": "fsdp"},
        pytest.param(
            {"sharding": "fsdp", "activation_checkpointing": True, "lora": {"rank": 4}, "layout": "packed"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"sharding": "ddp", "activation_checkpointing": True, "lora": {"rank": 4}}, marks=pytest.mark.slow
        ),
    ],
    ids=["fsdp", "fsdp-lora-recomputed", "ddp-lora-recomputed"],
)
def test_two_ranks_end_with_the_student_of_one(
    tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path, knobs: dict[str, Any]
) -> None:
    expected, best = alone(tiny_student, examples, **{k: v for k, v in knobs.items() if k != "sharding"})
    history, student = on_two_ranks(tiny_student, examples, tmp_path / "two", **knobs)
    close(expected.history, history)
    start = loading.load(tiny_student).state_dict()
    for name, value in student.items():  # AdamW's first steps magnify what is rounded otherwise
        torch.testing.assert_close(value, best[name], atol=2e-3, rtol=2e-3)
        assert not torch.equal(value, start[name]) or "norm" in name or ("embed" in name and "lora" in knobs)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_shards_resume_with_the_same_bits(
    tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path, precision: str
) -> None:
    """Master weights are kept, not the copy that the arithmetic uses."""
    knobs = {"sharding": "fsdp", "precision": precision, "checkpoints": {"every": 2}}
    history, calm = on_two_ranks(tiny_student, examples, tmp_path / "calm", str(tmp_path / "kept-calm"), **knobs)
    kept = str(tmp_path / "kept")
    on_two_ranks(tiny_student, examples, tmp_path / "stopped", kept, stop_at=3, **knobs)
    again, resumed = on_two_ranks(tiny_student, examples, tmp_path / "resumed", kept, **knobs)
    assert again == history
    assert same(calm, resumed)


@pytest.mark.slow
def test_a_checkpoint_of_shards_goes_on_on_one_rank(
    tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path
) -> None:
    """What is kept is whole: the number of ranks may change."""
    expected, best = alone(tiny_student, examples)
    kept = tmp_path / "kept"
    every = {"checkpoints": {"every": 2}}
    on_two_ranks(tiny_student, examples, tmp_path / "two", str(kept), stop_at=3, sharding="fsdp", **every)
    found: dict[str, torch.Tensor] = {}
    config = TrainConfig.model_validate({**KNOBS, **every})
    result = loop.train(
        loading.load(tiny_student), examples[4:], examples[:4], config, 0,
        lambda trained: found.update(trained.state_dict()), lambda *_: None, Checkpoints(str(kept)),
    )  # fmt: skip
    close(expected.history, result.history)
    for name, value in found.items():
        torch.testing.assert_close(value, best[name], atol=2e-3, rtol=2e-3)


class Card:
    """A rank with a GPU, as far as where a student is tried depends on it; ``others`` have this much free."""

    device, num_processes = torch.device("cuda"), 2

    def __init__(self, others_fit: bool) -> None:
        self.others_fit = others_fit

    def gather(self, flag: torch.Tensor) -> torch.Tensor:
        return torch.tensor([int(flag), int(not self.others_fit)])


@pytest.mark.parametrize(
    ("sharding", "free", "others_fit", "moves"),
    [
        ("ddp", 0, True, ["cuda"]),
        ("fsdp", 1 << 40, True, ["cuda", "cpu"]),
        ("fsdp", 1 << 40, False, []),
        ("fsdp", 1000, True, []),
    ],
)
def test_a_student_is_tried_where_it_will_train_if_that_holds_it(
    tiny_student: Path, monkeypatch: pytest.MonkeyPatch, sharding: str, free: int, others_fit: bool, moves: list[str]
) -> None:
    monkeypatch.setattr(parallel, "is_sharded_by", lambda config: config.sharding == "fsdp")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, free))
    monkeypatch.setattr(torch, "tensor", lambda values, device=None, real=torch.tensor: real(values))
    model, moved = loading.load(tiny_student), list[str]()
    monkeypatch.setattr(model, "to", lambda device: moved.append(str(device)))
    card: Any = Card(others_fit)
    with parallel.tried_there(card, model, TrainConfig.model_validate({"sharding": sharding})) as there:
        assert there == bool(moves)
        assert moved == moves[:1]
    assert moved == moves


def test_recomputed_activations_change_no_bit(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    plain, recomputed = (alone(tiny_student, examples, activation_checkpointing=flag) for flag in (False, True))
    assert plain[0].history == recomputed[0].history
    assert same(plain[1], recomputed[1])


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_bfloat16_follows_float32_roughly(
    tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path, sharding: str
) -> None:
    """The arithmetic is coarse, the weights that are saved are not.

    AdamW's first steps magnify what is rounded otherwise: from the second step on a gradient is one of other weights,
    so only the first one's norm can be compared. The same holds on one rank.
    """
    expected, _ = alone(tiny_student, examples)
    history, student = on_two_ranks(tiny_student, examples, tmp_path / "two", sharding=sharding, precision="bfloat16")
    close(expected.history, history, 0.05, FIGURES)
    assert history[0]["grad_norm"] == pytest.approx(expected.history[0]["grad_norm"], rel=0.05)
    assert history[0]["loss"] != expected.history[0]["loss"]
    assert {value.dtype for value in student.values()} == {torch.float32}
    assert any(not torch.equal(value, value.bfloat16().float()) for value in student.values())


def test_lora_trains_little_and_saves_a_plain_student(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    """Against peft's own: the merged student gives the log-probs of the student with its updates."""
    model, saved = loading.load(tiny_student), []
    config = TrainConfig.model_validate({**KNOBS, "lora": {"rank": 4}})
    loop.train(model, examples[4:], [], config, 0, saved.append, lambda *_: None)
    (merged,) = saved
    start = loading.load(tiny_student)
    assert merged.state_dict().keys() == start.state_dict().keys()
    changed = {n for n, v in merged.state_dict().items() if not torch.equal(v, start.state_dict()[n])}
    assert changed == {n for n in start.state_dict() if n.endswith("_proj.weight")}
    assert all("lora_" in name for name in weights_of(model))
    ids = torch.randint(3, 200, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, model.eval()(ids).logits, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(merged(ids).logits, start(ids).logits, atol=1e-3)


def test_an_update_of_layers_that_are_not_there_is_the_users_mistake(tiny_student: Path) -> None:
    with pytest.raises(UserError, match=r"train\.lora\.targets=\['query'\]"):
        lora.adapt(loading.load(tiny_student), LoraConfig(rank=2, targets=["query"]))


@pytest.mark.parametrize("targets", [["lm_head"], ["embed_tokens"], ["q_proj", "lm_head"]])
def test_an_update_of_a_weight_that_two_layers_share_is_refused(targets: list[str]) -> None:
    """Merged into a tied head it would be in the embeddings as well: another student than the one that was measured."""
    size: dict[str, Any] = {"vocab_size": 67, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    config = LoraConfig(rank=2, targets=targets)
    tied = LlamaForCausalLM(LlamaConfig(**size, num_hidden_layers=1, tie_word_embeddings=True))
    with pytest.raises(UserError, match=r"embed_tokens and lm_head have one weight"):
        lora.adapt(tied, config)
    own = LlamaForCausalLM(LlamaConfig(**size, num_hidden_layers=1, tie_word_embeddings=False))
    assert lora.adapt(own, config).targeted_module_names
