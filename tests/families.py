"""Chat templates as model families write them, with byte-level tokenizers that have their special tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tiny import TEMPLATE as CHATML


@dataclass(frozen=True)
class Family:
    """Special tokens in the order of their ids, from 0; roles of some; a template; ``merges`` of the vocabulary."""

    specials: tuple[str, ...]
    template: str | None
    eos: str
    bos: str
    pad: str = ""
    merges: tuple[tuple[str, str], ...] = ()
    bos_added: bool = False


_BLANKS = tuple(("Ġ", letter) for letter in "0123456789S")
_SENTENCE = ("<pad>", "<s>", "</s>")
FAMILIES = {
    "chatml": Family(("<|pad|>", "<|im_start|>", "<|im_end|>"), CHATML, "<|im_end|>", "<|im_start|>"),
    "llama3": Family(
        ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        "{{ bos_token }}{% set today = strftime_now('%d %b %Y') %}<|start_header_id|>system<|end_header_id|>\n\n"
        "Today Date: {{ today }}<|eot_id|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        "<|end_of_text|>",
        "<|begin_of_text|>",
    ),
    "gemma": Family(
        ("<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}"
        "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<eos>",
        "<bos>",
    ),
    "phi3": Family(
        ("<s>", "<|endoftext|>", "<|assistant|>", "<|user|>", "<|end|>"),
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        "<|endoftext|>",
        "<s>",
    ),
    "mistral": Family(
        ("<s>", "</s>", "[INST]", "[/INST]"),
        "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% if m.role == 'user' %}[INST] "
        "{{ m.content }} [/INST]{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}",
        "</s>",
        "<s>",
        merges=_BLANKS,
    ),
    "llama2": Family(
        ("<s>", "</s>"),
        "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token }}[INST] {{ m.content }} [/INST]{% else %}"
        " {{ m.content | trim }} {{ eos_token }}{% endif %}{% endfor %}",
        "</s>",
        "<s>",
        merges=_BLANKS,
    ),
    "deepseek": Family(
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% else %}"
        "<｜Assistant｜>{{ m.content.split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}",
        "<｜end▁of▁sentence｜>",
        "<｜begin▁of▁sentence｜>",
    ),
    "magistral": Family(
        ("<s>", "</s>", "[INST]", "[/INST]", "[THINK]", "[/THINK]"),
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]"
        "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}[THINK]{% endif %}",
        "</s>",
        "<s>",
    ),
    "qwen3": Family(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m.content.split('</think>')[-1].lstrip('\n') }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>",
        "<|im_start|>",
        "<|endoftext|>",
    ),
    "harmony": Family(
        ("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>"),
        "<|start|>system<|message|>Current date: {{ strftime_now('%Y-%m-%d') }}<|end|>{% for m in messages %}"
        "{% if m.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
        "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
        "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        "<|return|>",
        "<|startoftext|>",
        "<|endoftext|>",
    ),
    "command": Family(
        (
            "<PAD>",
            "<BOS>",
            "<|END_OF_TURN_TOKEN|>",
            "<|START_OF_TURN_TOKEN|>",
            "<|START_RESPONSE|>",
            "<|END_RESPONSE|>",
        ),
        "{{ bos_token }}{% for m in messages %}<|START_OF_TURN_TOKEN|>{{ m.role }}:"
        "{% if m.role == 'assistant' %}<|START_RESPONSE|>{{ m.content }}<|END_RESPONSE|>{% else %}{{ m.content }}"
        "{% endif %}"
        "<|END_OF_TURN_TOKEN|>{% endfor %}{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|>assistant:{% endif %}",
        "<|END_OF_TURN_TOKEN|>",
        "<BOS>",
        "<PAD>",
    ),
    "chatml in text": Family(_SENTENCE, CHATML, "</s>", "<s>"),
    "between turns": Family(
        ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|eos|>"),
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if not loop.last %}<|im_end|>\n{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|im_end|>\n<|im_start|>assistant\n{% endif %}",
        "<|eos|>",
        "<|im_start|>",
    ),
    "always a prompt": Family(
        ("<s>", "</s>", "<|user|>", "<|assistant|>"),
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>",
        "</s>",
        "<s>",
    ),
    "blank": Family(
        _SENTENCE,
        "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        "</s>",
        "<s>",
        merges=_BLANKS,
    ),
    "none": Family(_SENTENCE, None, "</s>", "<s>", merges=_BLANKS, bos_added=True),
}


def tokenizer(name: str) -> Any:
    """A fast tokenizer of a family; its id 0 pads where the family has no token for it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*family.specials, *alphabet, *(a + b for a, b in family.merges)]
    vocabulary = {token: index for index, token in enumerate(words)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=list(family.merges)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if family.bos_added:
        begin = (family.bos, vocabulary[family.bos])
        made.post_processor = processors.TemplateProcessing(single=f"{family.bos} $A", special_tokens=[begin])
    named = {family.eos, family.bos, family.pad or family.specials[0]}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=family.pad or family.specials[0],
        eos_token=family.eos,
        bos_token=family.bos,
        additional_special_tokens=[token for token in family.specials if token not in named] or None,
    )
    fast.chat_template = family.template
    return fast


def save(folder: Path, name: str, hidden: int = 32, **generation: Any) -> Path:
    """A tiny Llama with the tokenizer of a family; ``generation`` goes into generation_config.json."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    fast = tokenizer(name)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.update(**generation)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


QUESTIONS = {f"twice {n}?": f"{2 * n}" for n in range(1, 5)}
TRAINED = [("gemma", 0), ("chatml in text", 0), ("llama3", 8)]  # families, and the rank of an update


def save_trained(folder: Path, name: str, rank: int, hidden: int) -> tuple[Path, list[list[int]]]:
    """The folder that `train` makes of a family's student that learned a few answers, and prompts that ask for them.

    The start, in the folder ``start`` beside it, names an end in generation_config.json that no template writes.
    """
    from dcod import storage
    from dcod.config import Config
    from dcod.stages import score, train
    from dcod.traces import FILE, Trace, prompts, write_traces
    from dcod.tracking import NullLog

    start, traces, scores, out = (folder / part for part in ("start", "traces", "scores", "trained"))
    save(start, name, hidden=hidden)
    (start / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    traces.mkdir()
    write_traces(traces / FILE, [Trace([{"role": "user", "content": text}], said) for text, said in QUESTIONS.items()])
    lora = {"rank": rank, "alpha": 32} if rank else {}
    section = {"epochs": 60, "traces_per_step": 4, "learning_rate": 0.02, "correction": {"name": "none"}, "lora": lora}
    config = Config.model_validate({"train": section})
    with storage.output_folder(scores) as scratch:
        score.run(config, scratch, NullLog(), traces=traces, student=start)
    with storage.output_folder(out) as scratch:
        train.run(config, scratch, NullLog(), scores=scores, student=start)
    fast = prompts.load_tokenizer(start)
    return out, [prompts.encode_prompt(fast, [{"role": "user", "content": text}]) for text in QUESTIONS]
