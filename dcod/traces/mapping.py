"""Sampled tokens and the text beside them: what is verified is what is taught.

Some sources have tokens as texts without ids, such as OpenAI's: the student's own tokens where they are the same.

The log-prob of a piece of text is that of a student's token only if both cut the completion alike, piece by piece, and
the end of the turn was recorded too. Then the trace is as good as one with ids. Else only the log-prob of the whole
completion is kept (``behavior_logprobs`` without ``token_ids``), which serves corrections that need no more (METHOD 7).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dcod.traces import turns
from dcod.traces.formats import RowError
from dcod.traces.schema import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_text(trace: Trace, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuses recorded token ids of the student's that say something else than the text which is verified.

    Special tokens may stand in one and not in the other, since engines leave them out of texts, and the blank with
    which SentencePiece begins a word may be gone.

    Raises:
        RowError: ``other_text``.
    """
    text, ids = trace.completion, trace.token_ids or []
    said = [turns.text_of(tokenizer, ids), *(_decoded(tokenizer, ids, skip) for skip in (True, False))]
    marks = tuple(token for token in tokenizer.all_special_tokens if token)
    wanted = _without_end(text, marks).lstrip(" ")
    if any(_without_end(one, marks).lstrip(" ") == wanted for one in said):
        return
    place, other = max((_alike(one, text), one) for one in said)
    part = slice(max(0, place - 20), place + 20)
    raise RowError(
        "other_text", f"the recorded tokens say {other[part]!r} at character {place}, the text {text[part]!r}"
    )


def _alike(one: str, other: str) -> int:
    """How many characters two texts have in common from their begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int], skip: bool) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False))


def _without_end(text: str, marks: tuple[str, ...]) -> str:
    while marks and text.endswith(marks):
        text = text.removesuffix(next(mark for mark in marks if text.endswith(mark)))
    return text


def student_tokens(trace: Trace, tokenizer: PreTrainedTokenizerBase, digest: str) -> Trace:
    """A trace with the student's token ids, where its sampled texts are those of the student's tokens, one by one."""
    pieces = trace.sampled_texts or []
    found = tokenizer(trace.completion, add_special_tokens=False, return_offsets_mapping=True)
    ids, text = list(found["input_ids"]), trace.completion
    spans = [text[begin:end] for begin, end in found["offset_mapping"]]
    whole = "".join(spans) == text  # not where a token is a part of a character
    known = turns.of(tokenizer)
    end = next((token for token in known.stops if pieces[-1:] == [known.names[token]]), None)
    alone = known.written(text) == text and not known.end  # nothing that the student writes beside it
    if whole and alone and end is not None and pieces[:-1] == spans:
        ids = [*ids, end]
        return replace(trace, token_ids=ids, tokenizer_digest=digest, sampled_texts=None)
    return replace(trace, sampled_texts=None)
