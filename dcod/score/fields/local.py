"""Local scores: the log-probs of every sentence given a short window before it, not all of the trace.

Where several teachers write, the likelihood of a whole trace favours whoever repeats itself; what the student makes of
each step alone does not (arXiv 2510.03988, in kind: what a sentence is and that tokens count alike are ours).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dcod.engines.transformers import TransformersEngine
from dcod.score.fields._types import Way
from dcod.traces.scored import ScoredTrace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dcod.config.schema import ScoreConfig

_END = re.compile(r"\n|[.!?;。！？]\s*$")


def annotate(engine: TransformersEngine, examples: Sequence[ScoredTrace], window: int, batch_tokens: int) -> None:
    """Writes ``local_logprobs`` into the examples; ``window`` counts the tokens before a sentence."""
    sentences, owners = list[ScoredTrace](), list[ScoredTrace]()
    for example in examples:
        example.local_logprobs = []
        tokens = [*example.prompt_tokens, *example.completion_tokens]
        for begin, end in _sentences(engine.tokenizer, tokens, len(example.prompt_tokens)):
            before = tokens[max(0, begin - window) : begin]
            sentences.append(ScoredTrace(example.trace_id, example.prompt_id, before, tokens[begin:end], [], []))
            owners.append(example)
    engine.annotate(sentences, batch_tokens)
    for sentence, example in zip(sentences, owners, strict=True):
        assert example.local_logprobs is not None
        example.local_logprobs += sentence.student_logprobs


def _sentences(tokenizer: PreTrainedTokenizerBase, tokens: list[int], begin: int) -> Iterator[tuple[int, int]]:
    """Where the sentences of a completion begin and end: behind a line, or a token that ends in a full stop."""
    for place in range(begin, len(tokens)):
        last = place == len(tokens) - 1
        text, behind = (str(tokenizer.decode(tokens[at : at + 1])) for at in (place, place + 1))
        decimal = text.endswith(".") and behind[:1].isdigit()
        if last or (_END.search(text) and not decimal):
            yield begin, place + 1
            begin = place + 1


def _configured(engine: TransformersEngine, examples: Sequence[ScoredTrace], config: ScoreConfig) -> None:
    annotate(engine, examples, config.local_window, config.batch_tokens)


WAY = Way(("local_logprobs",), by_itself=_configured, key="local_window")
