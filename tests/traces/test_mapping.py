"""What was verified is what is taught: recorded token ids must say the text that stands beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcod.traces import Trace, mapping, prompts
from dcod.traces.formats import RowError

TEXT = "3 + 3 = 6\n#### 6 é"


@pytest.fixture(scope="module")
def tokenizer(tiny_student: Path) -> prompts.PreTrainedTokenizerBase:
    return prompts.load_tokenizer(tiny_student)


def trace(completion: str, ids: list[int]) -> Trace:
    return Trace([{"role": "user", "content": "3+3?"}], completion, token_ids=ids)


def test_tokens_that_say_the_text_pass(tokenizer: prompts.PreTrainedTokenizerBase) -> None:
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    mapping.check_text(trace(TEXT, ids), tokenizer)
    mapping.check_text(trace(TEXT, [*ids, tokenizer.eos_token_id]), tokenizer)
    mapping.check_text(trace(f"{TEXT}<|im_end|>", ids), tokenizer)  # its end mark was left in
    mapping.check_text(trace(TEXT, [*ids, tokenizer.eos_token_id, tokenizer.pad_token_id]), tokenizer)
    spaced = tokenizer(f" {TEXT}", add_special_tokens=False)["input_ids"]
    mapping.check_text(trace(TEXT, spaced), tokenizer)


@pytest.mark.parametrize("other", ["3 + 3 = 7\n#### 7 é", "3 + 3 = 6", f"{TEXT} and more", "", f"{TEXT}\n"])
def test_tokens_that_say_something_else_are_refused(tokenizer: prompts.PreTrainedTokenizerBase, other: str) -> None:
    ids = tokenizer(other, add_special_tokens=False)["input_ids"]
    with pytest.raises(RowError, match=r"other_text: the recorded tokens say .* at character \d+"):
        mapping.check_text(trace(TEXT, [*ids, tokenizer.eos_token_id]), tokenizer)
