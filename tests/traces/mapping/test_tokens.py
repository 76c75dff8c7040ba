"""What was verified is what is taught: recorded token ids must say the text that stands beside them, and end it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from dcod.traces import Trace, prompts, turns
from dcod.traces.formats import RowError
from dcod.traces.mapping import tokens
from tests import families

TEXT = "3 + 3 = 6\n#### 6 é"


@pytest.fixture(scope="module")
def tokenizer(tiny_student: Path) -> prompts.PreTrainedTokenizerBase:
    return prompts.load_tokenizer(tiny_student)


def trace(completion: str, ids: list[int]) -> Trace:
    return Trace([{"role": "user", "content": "3+3?"}], completion, token_ids=ids)


def test_tokens_that_say_the_text_pass(tokenizer: prompts.PreTrainedTokenizerBase) -> None:
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    tokens.check_text(trace(TEXT, ids), tokenizer)
    tokens.check_text(trace(TEXT, [*ids, tokenizer.eos_token_id]), tokenizer)
    tokens.check_text(trace(f"{TEXT}<|im_end|>", ids), tokenizer)  # its end mark was left in
    tokens.check_text(trace(TEXT, [*ids, tokenizer.eos_token_id, tokenizer.pad_token_id]), tokenizer)
    spaced = tokenizer(f" {TEXT}", add_special_tokens=False)["input_ids"]
    tokens.check_text(trace(TEXT, spaced), tokenizer)


@pytest.mark.parametrize("other", ["3 + 3 = 7\n#### 7 é", "3 + 3 = 6", f"{TEXT} and more", "", f"{TEXT}\n"])
def test_tokens_that_say_something_else_are_refused(tokenizer: prompts.PreTrainedTokenizerBase, other: str) -> None:
    ids = tokenizer(other, add_special_tokens=False)["input_ids"]
    with pytest.raises(RowError, match=r"other_text: the recorded tokens say .* at character \d+"):
        tokens.check_text(trace(TEXT, [*ids, tokenizer.eos_token_id]), tokenizer)


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> prompts.PreTrainedTokenizerBase:
    """With tokens of a blank and a digit, so that texts can end within a token."""
    return prompts.load_tokenizer(families.save(tmp_path_factory.mktemp("merged") / "student", "mistral"))


def stopped(
    tokenizer: prompts.PreTrainedTokenizerBase, pieces: Sequence[str], text: str, stop: str | int | None
) -> Trace:
    """A trace with a log-prob of -1, -2, … at its tokens, which are those of the pieces."""
    ids = [token for piece in pieces for token in tokenizer(piece, add_special_tokens=False)["input_ids"]]
    logprobs = [-1.0 - place for place in range(len(ids))]
    return Trace(
        [{"role": "user", "content": "?"}], text, token_ids=ids, behavior_logprobs=logprobs, stopped_by=stop,
        top_ids=[[token, 100] for token in ids], top_logprobs=[[value, -0.5] for value in logprobs],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pieces", "text", "stop", "kept"),
    [
        (["ab", "\n\nQ:"], "ab", "\n\nQ:", 2),  # the stop string is in the tokens alone
        (["ab", "\n", " 4"], "ab", "\n ", 2),  # its last token goes on behind it
        (["ab</b>"], "ab</b>", "</b>", 6),  # it is in both
        ([" 4", "x"], "4", "x", 1),  # the text has lost the blank of its first word
    ],
)
def test_tokens_that_spell_a_stop_string_become_the_end(
    merged: prompts.PreTrainedTokenizerBase, pieces: list[str], text: str, stop: str, kept: int
) -> None:
    given = stopped(merged, pieces, text, stop)
    found = tokens.with_end(given, merged)
    assert (given.token_ids, found.token_ids) == (given.token_ids, [*(given.token_ids or [])[:kept], 1])
    assert turns.of(merged).last == 1
    tail = math.fsum((given.behavior_logprobs or [])[kept:])
    assert found.behavior_logprobs == [*(given.behavior_logprobs or [])[:kept], tail]
    assert sum(found.behavior_logprobs) == sum(given.behavior_logprobs or [])
    assert found.top_ids is not None
    assert found.top_logprobs is not None
    assert (found.top_ids[:kept], found.top_logprobs[:kept]) == (
        (given.top_ids or [])[:kept],
        (given.top_logprobs or [])[:kept],
    )
    others = [100] if kept < len(given.token_ids or []) else []
    assert (found.top_ids[kept:], found.top_logprobs[kept:]) == ([[1, *others]], [[tail, *[-0.5 for _ in others]]])
    tokens.check_text(found, merged)


def test_an_end_that_might_have_come_as_well_adds_its_probability(merged: prompts.PreTrainedTokenizerBase) -> None:
    given = stopped(merged, ["a", "x"], "a", "x")
    given.top_ids, given.top_logprobs = [[5], [1, 7]], [[-1.0], [math.log(0.25), -3.0]]
    given.behavior_logprobs = [-1.0, math.log(0.5)]
    found = tokens.with_end(given, merged)
    assert found.top_ids == [[5], [1, 7]]
    assert found.behavior_logprobs == pytest.approx([-1.0, math.log(0.75)])
    assert found.top_logprobs is not None
    assert found.top_logprobs[1] == pytest.approx([math.log(0.75), -3.0])


def test_a_stop_token_counts_as_a_stop_string(merged: prompts.PreTrainedTokenizerBase) -> None:
    given = stopped(merged, ["ab", "[INST]"], "ab", merged.convert_tokens_to_ids("[INST]"))
    assert tokens.with_end(given, merged).token_ids == [*(given.token_ids or [])[:2], 1]
    with pytest.raises(RowError, match=r"no_end: .*'b', which ends no turn, and the stop 7 does not"):
        tokens.with_end(stopped(merged, ["ab"], "ab", 7), merged)


def test_an_end_of_several_tokens_is_certain_once_it_began(tmp_path: Path) -> None:
    tokenizer = prompts.load_tokenizer(families.save(tmp_path / "student", "chatml in text"))
    known = turns.of(tokenizer)
    assert known.stop_text
    found = tokens.with_end(stopped(tokenizer, ["ab", "##"], "ab", "##"), tokenizer)
    assert found.token_ids == prompts.encode_completion(tokenizer, "ab")
    size = len(found.token_ids) - 3
    assert found.behavior_logprobs == [-1.0, -2.0, -7.0, *[0.0] * size]
    assert list(map(len, found.top_ids or [])) == [2, 2, 2, *[1] * size]
    tokens.check_text(found, tokenizer)


@pytest.mark.parametrize(
    ("pieces", "text", "stop", "why"),
    [
        (["ab", " 4"], "ab ", "4", "the stop '4' does not stand between two"),  # it begins within a token
        (["ab", "x"], "ab", "y", "the stop 'y' does not stand between two"),  # the tokens spell another
        (["ab"], "ab", "x", "the stop 'x' does not stand between two"),  # text and tokens lost it
        (["ab", "x"], "ac", "x", "does not stand between two"),
        (["ab", "x"], "ab", None, "no stop_reason tells a stop string; stop at the end of the turn, or take"),
        (["ab"], "ab", None, "no stop_reason tells a stop string"),
        ([], "", "x", "recorded tokens end in 'nothing'"),
    ],
)
def test_tokens_with_no_known_end_are_refused(
    merged: prompts.PreTrainedTokenizerBase, pieces: list[str], text: str, stop: str | None, why: str
) -> None:
    with pytest.raises(RowError, match=f"no_end: .*{why}"):
        tokens.with_end(stopped(merged, pieces, text, stop), merged)
