"""Sampled tokens that came as texts without ids, such as OpenAI's: the student's own tokens where they are the same.

The log-prob of a piece of text is that of a student's token only if both cut the completion alike, piece by piece, and
the end of the turn was recorded too. Then the trace is as good as one with ids. Else only the log-prob of the whole
completion is kept (``behavior_logprobs`` without ``token_ids``), which serves corrections that need no more (METHOD 7).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dcod import turns
from dcod.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
