"""From messages and completions to the student's tokens: the one place where a prompt is built.

Training, scoring and evaluation all come through here, so a student is never trained on one prompt and
measured on another. Completions end with the end-of-turn token, which is trained like any other token.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dcod.errors import UserError, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dcod.traces import Message

PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ {'system': '', 'user': 'Question: ', 'assistant': 'Answer: '}[m.role] }}"
    "{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}Answer: {% endif %}"
)


def load_tokenizer(folder: Path, template: Literal["model", "plain"] = "model") -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, with a chat template.

    Raises:
        UserError: the folder has no tokenizer, no end token, or no chat template of its own.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(
            f"student {folder}: no tokenizer in the folder (tokenizer.json); save it beside the model with "
            "tokenizer.save_pretrained(folder)"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of the Rust library, too; code of its own (auto_map) is not run
        raise UserError(f"student {folder}: its tokenizer cannot be loaded ({one_line(error)[:200]})") from error
    if template == "plain":
        tokenizer.chat_template = PLAIN_TEMPLATE
    elif not tokenizer.chat_template:
        raise UserError(f"student {folder}: its tokenizer has no chat template; set student.chat_template=plain")
    if tokenizer.eos_token_id is None:
        raise UserError(f"student {folder}: its tokenizer has no end-of-sequence token")
    return tokenizer


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: list[Message]) -> list[int]:
    """Token ids of a prompt through the chat template, ready for the model to answer."""
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode_completion(tokenizer: PreTrainedTokenizerBase, completion: str) -> list[int]:
    """Token ids of a completion, the end-of-turn token included."""
    return [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Identity of vocabulary and chat template: log-probs are only comparable where it is the same."""
    vocabulary = "\x1f".join(f"{token}\x1e{index}" for token, index in sorted(tokenizer.get_vocab().items()))
    text = f"{vocabulary}\x1d{tokenizer.chat_template}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def template_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Identity of the chat template alone: models of other vocabularies may share it."""
    return hashlib.sha256(str(tokenizer.chat_template).encode("utf-8", "surrogatepass")).hexdigest()[:16]


INSTRUCTIONS = {
    "number": "Show your steps and end with '#### <number>'.",
    "boxed": "Show your steps and put the final answer in \\boxed{}.",
    "as_is": "",
}


def prompt_for(kind: str, problem: str) -> list[Message]:
    """The prompt of a problem, the same in training and in evaluation.

    Args:
        kind: how the answer is asked for, a key of :data:`INSTRUCTIONS`.
        problem: the problem's text.
    """
    return [{"role": "user", "content": f"{problem.strip()}\n{INSTRUCTIONS[kind]}".strip()}]
