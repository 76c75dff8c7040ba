"""How turns begin and end, for one template a kind of model family."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from dcod.errors import UserError
from dcod.traces import prompts, turns
from tests import families

ASKED = [{"role": "user", "content": "7?"}]
THOUGHT = "<think>\nhm\n</think>\n\nSo 4"
# What is taught behind "So 4", its prompt's end in front; and the further tokens at which generation stops.
TAUGHT = {
    "chatml": ("assistant\nSo 4<|im_end|>", ()),
    "llama3": ("<|end_header_id|>\n\nSo 4<|eot_id|>", ("<|end_of_text|>",)),
    "gemma": ("model\nSo 4<end_of_turn>", ("<eos>",)),
    "phi3": ("<|assistant|>\nSo 4<|end|>", ("<|endoftext|>",)),
    "mistral": ("[/INST] So 4</s>", ()),
    "llama2": ("[/INST] So 4 </s>", ()),
    "deepseek": ("<think>\n</think>\n\nSo 4<｜end▁of▁sentence｜>", ()),
    "magistral": ("[THINK][/THINK]\n\nSo 4</s>", ()),
    "qwen3": ("assistant\nSo 4<|im_end|>", ()),
    "harmony": ("<|start|>assistant<|channel|>final<|message|>So 4<|return|>", ()),
    "command": ("assistant:<|START_RESPONSE|>So 4<|END_RESPONSE|><|END_OF_TURN_TOKEN|>", ()),
    "chatml in text": ("assistant\nSo 4<|im_end|></s>", ("<|im_end|>",)),
    "between turns": ("assistant\nSo 4<|im_end|>", ("<|eos|>",)),
    "always a prompt": ("<|assistant|>So 4</s>", ()),
    "blank": ("assistant: So 4</s>", ()),
    "none": ("Answer: So 4</s>", ()),
}


def loaded(folder: Path, name: str) -> Any:
    families.tokenizer(name).save_pretrained(folder)
    return prompts.load_tokenizer(folder, "model" if families.FAMILIES[name].template else "plain")


def test_every_family_is_told() -> None:
    assert set(TAUGHT) == set(families.FAMILIES)
    assert len(TAUGHT) == 16


@pytest.mark.parametrize("name", TAUGHT)
def test_what_a_template_writes_behind_a_text_is_taught(tmp_path: Path, name: str) -> None:
    fast, (text, further) = loaded(tmp_path, name), TAUGHT[name]
    prompt, completion = prompts.encode_prompt(fast, ASKED), prompts.encode_completion(fast, "So 4")
    assert fast.decode(prompt + completion).endswith(text)
    assert fast(fast.decode(prompt + completion), add_special_tokens=False)["input_ids"] == prompt + completion
    found = turns.of(fast)
    assert set(found.table()["stops"]) == {fast.decode([completion[-1]]), *further}
    assert turns.ended(fast, completion) == len(completion) - (1 if found.stop_text else 0)
    assert turns.ended(fast, completion[: -3 if found.stop_text else -1]) == 0
    opener = f"{found.opened}{text.partition(found.opened)[2].partition('So')[0]}" if found.opened else ""
    assert turns.text_of(fast, completion) == f"{opener}So 4"


@pytest.mark.parametrize("name", TAUGHT)
def test_a_thought_is_opened_once(tmp_path: Path, name: str) -> None:
    fast = loaded(tmp_path, name)
    prompt, completion = prompts.encode_prompt(fast, ASKED), prompts.encode_completion(fast, THOUGHT)
    text = fast.decode(prompt + completion)
    marks = ("[THINK]", "[/THINK]") if name == "magistral" else ("<think>", "</think>")
    assert [text.count(mark) for mark in marks] == [1, 1]
    assert f"{marks[0]}\nhm\n{marks[1]}\n\nSo 4".replace("\n", "") in text.replace("\n", "")
    said = turns.text_of(fast, completion)
    assert said.replace("[", "<").replace("]", ">").replace("THINK", "think").split() == THOUGHT.split()
    again = prompts.encode_completion(fast, said)
    assert again == completion


def test_thoughts_without_their_opening_tag_and_of_other_families(tmp_path: Path) -> None:
    fast = loaded(tmp_path, "deepseek")
    wanted = prompts.encode_completion(fast, THOUGHT)
    assert prompts.encode_completion(fast, "hm\n</think>\n\nSo 4") == wanted
    assert prompts.encode_completion(fast, "[THINK]\nhm\n[/THINK]\n\nSo 4") == wanted
    assert turns.of(fast).said_by("hm\n</think>\n\nSo 4") == THOUGHT
    assert turns.of(fast).said_by(THOUGHT) == THOUGHT
    assert turns.of(fast).said_by("hm") == "<think>\nhm"


def test_ends_that_files_name(tmp_path: Path) -> None:
    folder = families.save(tmp_path, "gemma", eos_token_id=[2, 4, 70])
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 71}))
    table = turns.of(prompts.load_tokenizer(folder)).table()
    # 70 and 71 are letters here: ids of another tokenizer
    assert table["stops"] == {
        "<end_of_turn>": ["template", "generation_config.json"],
        "<eos>": ["tokenizer", "generation_config.json"],
    }
    assert table["taught"] == "<end_of_turn>"


def test_a_saved_folder_names_the_same_ends(tmp_path: Path) -> None:
    folder = families.save(tmp_path, "llama3", eos_token_id=1)
    fast = prompts.load_tokenizer(folder)
    turns.settle(folder, fast)
    for name in ("config.json", "generation_config.json"):
        assert json.loads((folder / name).read_text())["eos_token_id"] == [2, 1]
    (folder / "generation_config.json").unlink()
    turns.settle(folder, fast)
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [2, 1]
    assert set(turns.of(prompts.load_tokenizer(folder)).stops) == {1, 2}


def test_no_end_at_all_is_one_line(tmp_path: Path) -> None:
    fast = families.tokenizer("always a prompt")
    fast.eos_token = None
    fast.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no end-of-sequence token, and its chat template ends no turn"):
        prompts.load_tokenizer(tmp_path)
    fast.chat_template = families.CHATML.replace("<|im_end|>", "</s>")
    fast.save_pretrained(tmp_path)
    assert turns.of(prompts.load_tokenizer(tmp_path)).names == {1: "</s>"}


@pytest.mark.parametrize(("name", "day"), [("llama3", "Today Date: 01 Jan 2026"), ("harmony", "date: 2026-01-01")])
def test_a_template_that_writes_the_date_gets_a_fixed_one(tmp_path: Path, name: str, day: str) -> None:
    fast = loaded(tmp_path, name)
    assert day in fast.decode(prompts.encode_prompt(fast, ASKED))
    assert turns.of(fast).table()["date"] == "2026-01-01"
    assert "date" not in turns.of(loaded(tmp_path / "other", "gemma")).table()
    other = turns.render(fast, ASKED, generate=True, day=dt.datetime(2031, 11, 22, 13, 4, 5))
    assert other != turns.render(fast, ASKED, generate=True)


@pytest.mark.parametrize(
    ("name", "messages", "why"),
    [
        ("gemma", [{"role": "system", "content": "Be brief."}, *ASKED], "System role not supported"),
        ("mistral", [*ASKED, *ASKED], "roles must alternate"),
    ],
)
def test_what_a_template_refuses_is_one_line(tmp_path: Path, name: str, messages: list, why: str) -> None:
    fast = loaded(tmp_path, name)
    with pytest.raises(UserError, match=f"chat template refuses {messages[0]['role']}, user: {why}"):
        prompts.encode_prompt(fast, messages)


def test_the_fingerprint_covers_what_is_rendered() -> None:
    fast, digests = families.tokenizer("chatml"), set()
    for template in (
        families.CHATML,
        families.CHATML.replace("{% for", "{# same #}{% for"),
        "{% if messages[0].role != 'system' %}You are kind.\n{% endif %}" + families.CHATML,
    ):
        fast.chat_template = template
        digests.add((prompts.tokenizer_digest(fast), prompts.template_digest(fast)))
    fast.chat_template = "{{ bos_token }}" + families.CHATML
    before = prompts.template_digest(fast)
    fast.bos_token = "<|pad|>"
    assert prompts.template_digest(fast) != before  # the source is the same
    assert len(digests) == 3


def test_a_plain_template_adds_a_beginning_token_where_the_tokenizer_does(tmp_path: Path) -> None:
    for added in (True, False):
        fast = families.tokenizer("none")
        if not added:
            fast.backend_tokenizer.post_processor = families.tokenizer("blank").backend_tokenizer.post_processor
        fast.save_pretrained(tmp_path / str(added))
        ids = prompts.encode_prompt(prompts.load_tokenizer(tmp_path / str(added), "plain"), ASKED)
        assert (ids[0] == fast.bos_token_id) == added
        assert ids.count(fast.bos_token_id) == added


def test_the_students_own_marks(tmp_path: Path) -> None:
    assert turns.marks_of(loaded(tmp_path / "a", "magistral")) == ("</s>",)
    assert "<|return|>" in turns.marks_of(loaded(tmp_path / "b", "harmony"))
    assert "<|end|>" not in turns.marks_of(loaded(tmp_path / "b", "harmony"))
    assert "<|im_end|>" in turns.marks_of(loaded(tmp_path / "c", "chatml in text"))


def test_sentencepiece_completions_have_the_tokens_of_the_joined_text(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["<pad>", "<s>", "</s>", "▁", *"abcdefghijklmnopqrstuvwxyzSATQU0123456789:?<|>_/\n$()\\", "▁4", "▁So"]
    merges = [("▁", "4"), ("S", "o"), ("▁", "So")]
    vocabulary = {token: index for index, token in enumerate([*letters, "So"])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Metaspace()
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", bos_token="<s>", pad_token="<pad>")
    fast.chat_template = "{% for m in messages %}{{ m.role }}:\n{{ m.content }}</s>\n{% endfor %}" + (
        "{% if add_generation_prompt %}assistant:\n{% endif %}"
    )
    fast.save_pretrained(tmp_path)
    fast = prompts.load_tokenizer(tmp_path)
    for text in ("So 4", "4", "a"):
        prompt, completion = prompts.encode_prompt(fast, ASKED), prompts.encode_completion(fast, text)
        whole = fast(f"user:\n7?</s>\nassistant:\n{text}", add_special_tokens=False)["input_ids"]
        assert prompt + completion == [*whole, fast.eos_token_id]
