"""Sampled tokens and the text beside them: what is verified is what is taught.

Some sources have tokens as texts without ids, such as OpenAI's: the student's own tokens where they are the same.

The log-prob of a piece of text is that of a student's token only if both cut the completion alike, piece by piece, and
the end of the turn was recorded too. Then the trace is as good as one with ids. Else only the log-prob of the whole
completion is kept (``behavior_logprobs`` without ``token_ids``), which serves corrections that need no more
(docs/method.md, section 1.3).

An engine that stops at a string leaves tokens that no text has, and no end: see :func:`with_end`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dcod.traces import turns
from dcod.traces.refusals import RowError
from dcod.traces.schema import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NO_END = "stop at the end of the turn, or take the log-probs out of the rows to teach the text with an end"


def check_text(trace: Trace, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuses recorded token ids of the student's that say something else than the text which is verified.

    Special tokens may stand in one and not in the other, since engines leave them out of texts, and the blank with
    which SentencePiece begins a word may be gone.

    Raises:
        RowError: ``other_text``.
    """
    text, ids = trace.completion, trace.token_ids or []
    if _say(tokenizer, ids, text):
        return
    said = _spellings(tokenizer, ids)
    place, other = max((_alike(one, text), one) for one in said)
    part = slice(max(0, place - 20), place + 20)
    raise RowError(
        "other_text", f"the recorded tokens say {other[part]!r} at character {place}, the text {text[part]!r}"
    )


def with_end(trace: Trace, tokenizer: PreTrainedTokenizerBase) -> Trace:
    """A trace of the student's tokens that its engine ended at a stop string, ended as the student ends a turn.

    A sampler with a stop string ends its turn by spelling it. So the tokens that spell it become the end, whose
    log-prob is the sum of theirs: a lower bound, since other tokens may spell the same. Where the text keeps the stop
    string, the end behind it was certain. A stop token that ends no turn of the student's counts alike.

    Raises:
        RowError: ``no_end``: the row names no stop, or text and stop do not meet between two tokens.
    """
    text, ids, stop = trace.completion, trace.token_ids or [], trace.stopped_by
    name = tokenizer.convert_ids_to_tokens(ids[-1]) if ids else "nothing"
    fault = f"recorded tokens end in {name!r}, which ends no turn"
    if stop is None or not ids:
        raise RowError("no_end", f"{fault}, and no stop_reason tells a stop string; {_NO_END}")
    longest = 1 if isinstance(stop, int) else len(stop.encode("utf-8", "surrogatepass"))  # a token is a byte, or more
    for size in range(max(0, len(ids) - longest), len(ids) + 1):
        if _say(tokenizer, ids[:size], text):
            tail = ids[size:]
            if isinstance(stop, int):
                met = ids[-1] == stop
            elif tail:
                met = any(one.lstrip(" ").startswith(text.lstrip(" ") + stop) for one in _spellings(tokenizer, ids))
            else:
                met = text.endswith(stop)
            if met:
                return _closed(trace, ids[:size], tokenizer)
            break
    raise RowError("no_end", f"{fault}, and the stop {stop!r:.80} does not stand between two of them; {_NO_END}")


def _closed(trace: Trace, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> Trace:
    """A trace of the first recorded tokens, with the student's end in place of those behind them."""
    known, size = turns.of(tokenizer), len(ids)
    end = [*tokenizer(known.end, add_special_tokens=False)["input_ids"], known.last]
    logprobs, tail = trace.behavior_logprobs or [], (trace.token_ids or [])[size:]
    ended = math.fsum(logprobs[size:])
    tops: dict[str, Any] = {}
    if trace.top_ids is not None and trace.top_logprobs is not None:
        pairs = zip(trace.top_ids[size], trace.top_logprobs[size], strict=True) if tail else ()
        likely = {token: value for token, value in pairs if token not in tail[:1]}  # whatever else follows it: the rest
        ended = float(np.logaddexp(ended, likely.pop(end[0], -math.inf)))  # it might have ended so as well
        tops = {
            "top_ids": [*trace.top_ids[:size], [end[0], *likely], *([token] for token in end[1:])],
            "top_logprobs": [*trace.top_logprobs[:size], [ended, *likely.values()], *([0.0] for _ in end[1:])],
        }
    surely = [0.0] * (len(end) - 1)
    return replace(trace, token_ids=[*ids, *end], behavior_logprobs=[*logprobs[:size], ended, *surely], **tops)


def _say(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> bool:
    """Whether tokens say a text, but for special tokens at its end and blanks at its begin."""
    marks = tuple(token for token in tokenizer.all_special_tokens if token)
    wanted = _without_end(text, marks).lstrip(" ")
    return any(_without_end(one, marks).lstrip(" ") == wanted for one in _spellings(tokenizer, ids))


def _spellings(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    return [turns.text_of(tokenizer, ids), *(_decoded(tokenizer, ids, skip) for skip in (True, False))]


def _alike(one: str, other: str) -> int:
    """How many characters two texts have in common from their begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], skip: bool) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=skip, clean_up_tokenization_spaces=False))


def _without_end(text: str, marks: tuple[str, ...]) -> str:
    while marks and text.endswith(marks):
        text = text.removesuffix(next(mark for mark in marks if text.endswith(mark)))
    return text


def student_tokens(trace: Trace, tokenizer: PreTrainedTokenizerBase, digest: str) -> Trace:
    """A trace with the student's token ids, where its sampled texts are those of the student's tokens, one by one."""
    pieces = trace.sampled_texts or []
    encoded = tokenizer(trace.completion, add_special_tokens=False, return_offsets_mapping=True)
    ids, text = list(encoded["input_ids"]), trace.completion
    spans = [text[begin:end] for begin, end in encoded["offset_mapping"]]
    whole = "".join(spans) == text  # not where a token is a part of a character
    known = turns.of(tokenizer)
    end = next((token for token in known.stops if pieces[-1:] == [known.names[token]]), None)
    alone = known.written(text) == text and not known.end  # nothing that the student writes beside it
    trace = replace(trace, sampled_texts=None)
    if whole and alone and end is not None and pieces[:-1] == spans:
        return replace(trace, token_ids=[*ids, end], tokenizer_digest=digest)
    stop, rest = trace.stopped_by, pieces[len(spans) :]
    stopped = isinstance(stop, str) and ("".join(rest).startswith(stop) if rest else text.endswith(stop))
    if whole and alone and stopped and pieces[: len(spans)] == spans:
        return replace(_closed(trace, ids, tokenizer), tokenizer_digest=digest)
    return trace
