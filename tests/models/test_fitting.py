"""A model folder is whole or refused, by the name of what is wrong in it; and its parts fit one another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    MixtralForCausalLM,
    MptConfig,
    OPTConfig,
    PretrainedConfig,
    Qwen2Config,
    RobertaConfig,
    XLNetConfig,
)

from dcod.errors import UserError
from dcod.models import fitting, loading
from dcod.traces.prompts import load_tokenizer

Tensors = dict[str, Tensor]


def copy(student: Path, folder: Path, change: Callable[[Tensors], object] = lambda _: None, **config: object) -> Path:
    """A student whose tensors and configuration were changed."""
    shutil.copytree(student, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**known, **config}))
    return folder


def without(name: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.pop(name)


def with_one(name: str, value: Tensor) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: value})


NORM, DOWN = "model.norm.weight", "model.layers.1.mlp.down_proj.weight"
BROKEN: list[tuple[Callable[[Tensors], object], dict[str, object], str]] = [
    (without(DOWN), {}, rf"missing {DOWN}; fetch or save"),
    (without("model.embed_tokens.weight"), {}, r"missing .*(embed_tokens|lm_head)"),
    (with_one("model.layers.0.extra.weight", torch.ones(3)), {}, r"unexpected model\.layers\.0\.extra\.weight"),
    (with_one(NORM, torch.ones(7)), {}, r"of another shape model\.norm\.weight \[7\] for \[32\]"),
    (with_one(NORM, torch.full((32,), torch.nan)), {}, r"not a number in model\.norm\.weight"),
    (with_one(DOWN, torch.full((32, 64), -torch.inf)), {}, rf"not a number in {DOWN}"),
    (lambda _: None, {"num_hidden_layers": 1}, r"unexpected model\.layers\.1\..* and \d+ more"),
    (lambda _: None, {"vocab_size": 300}, r"embed_tokens\.weight \[259, 32\] for \[300, 32\]"),
    (lambda _: None, {"tie_word_embeddings": False}, r"missing lm_head\.weight"),
    (lambda _: None, {"model_type": "gpt2", "architectures": None}, r"GPT2LMHeadModel\): missing .* unexpected model"),
    (lambda _: None, {"model_type": "mistral"}, "names the architecture LlamaForCausalLM, but .* MistralForCausalLM"),
    (lambda _: None, {"model_type": "t5"}, "cannot be loaded"),
    (lambda _: None, {"hidden_size": "wide"}, "cannot be loaded"),
]  # fmt: skip


@pytest.mark.parametrize("load", [loading.load, loading.check], ids=["load", "check"])
@pytest.mark.parametrize(("change", "config", "said"), BROKEN)
def test_what_is_not_whole_is_named(
    tiny_student: Path,
    tmp_path: Path,
    change: Callable[[Tensors], object],
    config: dict[str, object],
    said: str,
    load: Callable[[Path], object],
) -> None:
    """`check` is for a folder that another program loads: it reads the same without a model in memory."""
    with pytest.raises(UserError, match=said) as caught:
        load(copy(tiny_student, tmp_path / "broken", change, **config))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", [loading.load, loading.check], ids=["load", "check"])
@pytest.mark.parametrize("size", [0, 5, 2000, -50])
def test_a_file_that_was_cut_is_one_line(
    tiny_student: Path, tmp_path: Path, size: int, load: Callable[[Path], object]
) -> None:
    folder = copy(tiny_student, tmp_path / "cut")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:size])
    with pytest.raises(UserError, match=r"cannot be loaded \(Error while deserializing"):
        load(folder)


def test_an_expert_that_lacks_a_tensor_is_named(tmp_path: Path) -> None:
    size: dict[str, Any] = {"vocab_size": 67, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    config = MixtralConfig(**size, num_attention_heads=4, num_key_value_heads=2, num_local_experts=4)
    MixtralForCausalLM(config).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    gone = next(name for name in tensors if ".experts.0.w1" in name)
    kept = {name: tensor for name, tensor in tensors.items() if name != gone}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"tensors that make model\.layers\.0\.mlp\.\S+ are not whole"):
        loading.load(tmp_path)


def eight_bits(folder: Path, out: Path, kind: torch.dtype, scales: bool, **config: Any) -> Path:
    """A copy whose products are stored as codes."""
    shutil.copytree(folder, out)
    tensors = load_file(out / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        weight = tensors[name]
        scale = weight.abs().max() / (400 if kind.is_floating_point else 127)
        tensors[name] = (weight / scale).to(kind)
        if scales:
            rows, columns = weight.shape
            tensors[f"{name}_scale_inv"] = torch.full((-(-rows // 16), -(-columns // 16)), float(scale))
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    told = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(told | config))
    return out


BLOCKS = {"quant_method": "fp8", "weight_block_size": [16, 16], "activation_scheme": "dynamic"}


@pytest.mark.parametrize(
    ("kind", "said", "why"),
    [
        (torch.float8_e4m3fn, BLOCKS, "they stay codes"),
        (torch.int8, {"quant_method": "some", "bits": 8}, "does not know the quant_method 'some'"),
        (torch.int8, None, "no quantization_config says"),
        (torch.float8_e4m3fn, None, "no quantization_config says"),
    ],
)
def test_codes_are_no_weights(
    tiny_student: Path, tmp_path: Path, kind: torch.dtype, said: dict[str, Any] | None, why: str
) -> None:
    config = {"quantization_config": said} if said else {}
    folder = eight_bits(tiny_student, tmp_path / "codes", kind, False, **config)
    with pytest.raises(UserError, match=f"codes, not weights, and .*{why}"):
        loading.load(folder)
    if not said:
        with pytest.raises(UserError, match="codes, not weights"):
            loading.check(folder)


def test_a_student_of_eight_bits_with_scales_is_saved_as_plain_weights(tiny_student: Path, tmp_path: Path) -> None:
    folder = eight_bits(tiny_student, tmp_path / "codes", torch.float8_e4m3fn, True, quantization_config=BLOCKS)
    model = loading.load(folder)
    model.save_pretrained(tmp_path / "saved")
    again, start = loading.load(tmp_path / "saved").state_dict(), loading.load(tiny_student).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again[name])
        assert float((value - start[name]).abs().max()) <= 0.05 * float(start[name].abs().max())


def test_what_may_be_absent_is_no_fault(tiny_student: Path, tmp_path: Path) -> None:
    """A tied head, computed buffers that old files still hold, a base model without a head."""
    old = with_one("model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(4))
    for name, change, config in (
        ("tied", lambda _: None, {}),
        ("old", old, {}),
        ("both", lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}), {}),
        ("base", lambda _: None, {"architectures": ["LlamaModel"]}),
    ):
        folder = copy(tiny_student, tmp_path / name, change, **config)
        loading.check(folder)
        assert loading.load(folder).config.tie_word_embeddings


def test_a_head_of_its_own_stays_one(tiny_student: Path, tmp_path: Path) -> None:
    """Where config.json says tied and the file holds another head, that head counts, and is saved as one."""
    folder = copy(tiny_student, tmp_path / "own", with_one("lm_head.weight", torch.randn(259, 32)))
    model, ids = loading.load(folder), torch.arange(3, 12)[None]
    model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["tie_word_embeddings"] is False
    assert torch.equal(loading.load(tmp_path / "again")(ids).logits, model(ids).logits)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
POSITIONS: list[tuple[PretrainedConfig, int | None]] = [
    (LlamaConfig(max_position_embeddings=64), 64),
    (GPT2Config(n_positions=48), 48),
    (MptConfig(max_seq_len=40), 40),
    (OPTConfig(max_position_embeddings=32), 32),
    (RobertaConfig(max_position_embeddings=34, pad_token_id=1), 32),
    (XLNetConfig(), None),
    (Qwen2Config(max_position_embeddings=128, rope_parameters={"rope_theta": 1e4, **YARN}), 512),
    (LlamaConfig(max_position_embeddings=64, rope_parameters={"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}),
     128),
    (LlamaConfig(max_position_embeddings=64, rope_parameters={"rope_theta": 1e4, "rope_type": "dynamic", "factor": 2}),
     64),
]  # fmt: skip


@pytest.mark.parametrize(("config", "most"), POSITIONS, ids=lambda one: getattr(one, "model_type", str(one)))
def test_positions_are_found_under_every_name(config: PretrainedConfig, most: int | None, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    assert fitting.positions(tmp_path) == most


def test_no_text_goes_beyond_where_the_longest_changes_the_positions_of_all(tiny_student: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_student)
    rope = {"rope_theta": 1e4, "rope_type": "dynamic", "factor": 2.0}
    size = len(tokenizer)
    LlamaConfig(vocab_size=size, max_position_embeddings=64, rope_parameters=rope).save_pretrained(tmp_path)
    fitting.check_student(tmp_path, tokenizer, 64)
    with pytest.raises(UserError, match=r"max_length=64 or less.*not a dynamic one"):
        fitting.check_student(tmp_path, tokenizer, 65)


def test_positions_of_a_configuration_within_a_configuration(tmp_path: Path) -> None:
    text = {"model_type": "gemma3_text", "max_position_embeddings": 96, "vocab_size": 70}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    assert fitting.positions(tmp_path) == 96
    assert fitting.embeddings(tmp_path) == 70


def test_more_tokens_than_positions(tiny_student: Path, tmp_path: Path) -> None:
    folder, tokenizer = copy(tiny_student, tmp_path / "short", max_position_embeddings=64), load_tokenizer(tiny_student)
    assert fitting.check_student(folder, tokenizer, 64) == []
    with pytest.raises(UserError, match=r"student\.max_length=65: student .* has 64 positions; set student"):
        fitting.check_student(folder, tokenizer, 65)


@pytest.mark.parametrize("special", [True, False])
def test_tokens_without_embedding(tiny_student: Path, special: bool) -> None:
    tokenizer = load_tokenizer(tiny_student)
    tokenizer.add_tokens(["<tool>", "</tool>"], special_tokens=special)
    with pytest.raises(UserError, match=r"tokens up to 260, .* embeddings for 259, so none for '<tool>' \(259\)"):
        fitting.check_tokenizer(tiny_student, tokenizer)


def test_a_picture_s_token_is_no_fault_until_a_text_holds_it(tiny_student: Path) -> None:
    """As in the text-only siblings of multimodal models, whose tokenizer has one token more than they have rows."""
    tokenizer: Any = load_tokenizer(tiny_student)
    tokenizer.add_tokens(["<image_soft_token>"], special_tokens=True)
    tokenizer.init_kwargs["extra_special_tokens"] = {"image_token": "<image_soft_token>"}
    assert fitting.check_tokenizer(tiny_student, tokenizer) == ["<image_soft_token>"]
    with pytest.raises(UserError, match="token 259 of a prompt has no embedding"):
        fitting.check_tokens(tiny_student, [[5], [259]], "evaluate: mine")
