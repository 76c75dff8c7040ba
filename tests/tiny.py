"""A tiny student, built in-process: real classes of transformers, no download."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TWICE = {f"twice {n}?": f"{2 * n}. #### {2 * n}" for n in range(1, 7)}


def save_tiny_student(folder: Path, seed: int = 0, hidden: int = 32, layers: int = 2) -> Path:
    """Saves a Llama with a byte-level vocabulary (one token a byte, plus specials)."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    specials = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*specials, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>", bos_token="<|im_start|>"
    )
    fast.chat_template = TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def save_tiny_teacher(folder: Path, said: dict[str, str], steps: int = 80, hidden: int = 32) -> Path:
    """A tiny model that mostly says the given completions to the given prompts; its distribution has peaks."""
    return teach_tiny(save_tiny_student(folder, hidden=hidden), list(said.items()), steps, len(said), 1e-2)


def teach_tiny(folder: Path, said: list[tuple[str, str]], steps: int, batch: int, rate: float) -> Path:
    """Fine-tunes a tiny student in place on prompts and completions, in their order, over and over."""
    import torch
    from transformers import LlamaForCausalLM

    from dcod.traces import prompts

    tokenizer = prompts.load_tokenizer(folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    asked = [prompts.encode_prompt(tokenizer, prompts.prompt_for("as_is", text)) for text, _ in said]
    answers = [prompts.encode_completion(tokenizer, text) for _, text in said]
    width = max(len(a) + len(b) for a, b in zip(asked, answers, strict=True))
    ids = torch.zeros(len(said), width, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, (prompt, answer) in enumerate(zip(asked, answers, strict=True)):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : end] = torch.tensor(answer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for step in range(steps):
        rows = [(step * batch + place) % len(said) for place in range(batch)]
        model(input_ids=ids[rows], labels=labels[rows]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder
