"""Score: the student's log-probs and entropies of every trace, and how far the teacher is from it.

1. tokenise each trace for the student (the recorded tokens where they are the student's own);
2. one forward pass a trace, length-sorted, the head in chunks;
3. write scores.parquet, drift.json, and the data card of the traces with the drift in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dcod import card, intake, prompts, report, storage
from dcod.config import Config
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.packing import Example
from dcod.scores import write_scores
from dcod.traces import Trace, read_traces
from dcod.tracking import Log

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECTIONS = ("student", "score")


def run(config: Config, out: Path, log: Log, *, traces: Path, student: Path) -> dict[str, float]:
    """Scores a trace set with a student; see the module."""
    tokenizer = prompts.load_tokenizer(student, config.student.chat_template)
    digest = prompts.tokenizer_digest(tokenizer)
    records = list(read_traces(traces))
    examples = [_example(trace, tokenizer, digest) for trace in records]
    engine = TransformersEngine(student, tokenizer, config.student.dtype)
    engine.annotate(examples, config.score.batch_tokens, config.score.top_k)
    write_scores(out / "scores.parquet", examples, [trace.split for trace in records])
    drift = drift_curve(examples)
    storage.write_json(out / "drift.json", drift)
    if (traces / intake.SOURCES).is_file():  # not in a shard of a set
        card.write(out, traces, drift)
    log.figure("drift.png", report.drift_figure(drift))
    tokens = sum(len(e.completion_tokens) for e in examples)
    covered = sum(len(e.completion_tokens) for e in examples if e.behavior_logprobs is not None)
    totals = sum(e.behavior_logprobs is None and e.behavior_total is not None for e in examples)
    return {
        "traces": float(len(examples)),
        "completion_tokens": float(tokens),
        "mean_student_logprob": float(np.mean(np.concatenate([e.student_logprobs for e in examples]))),
        "mean_entropy": float(np.mean(np.concatenate([e.entropies for e in examples]))),
        "no_behavior_share": 1.0 - covered / tokens,
        "retokenised_traces": float(totals),
    }


def drift_curve(examples: Sequence[Example]) -> dict[str, object]:
    """Per completion position: the drift of the teacher from the student, in nats.

    ``mean_abs_log_ratio`` where the teacher's log-probs are recorded; always ``mean_surprisal``, the
    entropy-centred surprisal, which also measures the difference of entropies (METHOD 5).
    """
    longest = max(len(e.completion_tokens) for e in examples)
    sums, ratios = np.zeros(longest), np.zeros(longest)
    counts, ratio_counts = np.zeros(longest, dtype=int), np.zeros(longest, dtype=int)
    for example in examples:
        size = len(example.completion_tokens)
        logprobs = np.asarray(example.student_logprobs)
        sums[:size] += -logprobs - np.asarray(example.entropies)
        counts[:size] += 1
        if example.behavior_logprobs is not None:
            ratios[:size] += np.abs(logprobs - np.asarray(example.behavior_logprobs))
            ratio_counts[:size] += 1
    curve: dict[str, object] = {
        "positions": list(range(longest)),
        "count": counts.tolist(),
        "mean_surprisal": (sums / counts).tolist(),
    }
    if ratio_counts.all():
        curve["mean_abs_log_ratio"] = (ratios / ratio_counts).tolist()
    return curve


def _example(trace: Trace, tokenizer: PreTrainedTokenizerBase, digest: str) -> Example:
    """A trace in the student's tokens.

    The sampler's log-probs come along token by token where the tokens are the student's own. Of another
    tokenizer only their sum does: the text is tokenised anew, which `trace` allows (METHOD 7).
    """
    logprobs, ids = trace.behavior_logprobs, trace.token_ids
    if logprobs is not None and ids is not None and len(logprobs) != len(ids):
        raise UserError(
            f"trace {trace.trace_id} ({trace.source_file}:{trace.source_line}): {len(logprobs)} log-probs for "
            f"{len(ids)} tokens"
        )
    own = logprobs is not None and ids is not None and trace.tokenizer_digest == digest
    return Example(
        trace_id=trace.trace_id,
        prompt_id=trace.prompt_id,
        prompt_tokens=prompts.encode_prompt(tokenizer, trace.prompt),
        completion_tokens=ids if own and ids is not None else prompts.encode_completion(tokenizer, trace.completion),
        student_logprobs=[],
        entropies=[],
        behavior_logprobs=logprobs if own else None,
        behavior_total=None if logprobs is None else sum(logprobs),
        teacher_top_ids=trace.top_ids if own else None,
        teacher_top_logprobs=trace.top_logprobs if own else None,
    )
