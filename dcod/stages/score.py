"""Score: the student's log-probs and entropies of every trace, and how far the teacher is from it.

1. tokenise each trace for the student (the recorded tokens where they are the student's own);
2. one forward pass a trace, length-sorted, the head in chunks;
3. write scores.parquet and drift.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dcod import prompts, report, storage
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
    for example, (logprobs, entropies) in zip(examples, engine.score(examples, config.score.batch_tokens), strict=True):
        example.student_logprobs, example.entropies = logprobs, entropies
    write_scores(out / "scores.parquet", examples, [trace.split for trace in records])
    drift = drift_curve(examples)
    storage.write_json(out / "drift.json", drift)
    log.figure("drift.png", report.drift_figure(drift))
    tokens = sum(len(e.completion_tokens) for e in examples)
    covered = sum(len(e.completion_tokens) for e in examples if e.behavior_logprobs is not None)
    return {
        "traces": float(len(examples)),
        "completion_tokens": float(tokens),
        "mean_student_logprob": float(np.mean(np.concatenate([e.student_logprobs for e in examples]))),
        "mean_entropy": float(np.mean(np.concatenate([e.entropies for e in examples]))),
        "no_behavior_share": 1.0 - covered / tokens,
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
    """A trace in the student's tokens; the sampler's log-probs only where the tokens are the same."""
    completion = prompts.encode_completion(tokenizer, trace.completion)
    logprobs = trace.behavior_logprobs
    if logprobs is not None and trace.token_ids is not None and trace.tokenizer_digest == digest:
        completion = trace.token_ids
        if len(logprobs) != len(completion):
            raise UserError(
                f"trace {trace.trace_id} ({trace.source_file}:{trace.source_line}): {len(logprobs)} log-probs for "
                f"{len(completion)} tokens"
            )
    else:
        logprobs = None
    return Example(
        trace_id=trace.trace_id,
        prompt_id=trace.prompt_id,
        prompt_tokens=prompts.encode_prompt(tokenizer, trace.prompt),
        completion_tokens=completion,
        student_logprobs=[],
        entropies=[],
        behavior_logprobs=logprobs,
    )
