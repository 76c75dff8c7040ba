"""A scored trace set for the pages: real tokens of the tiny student, hostile texts, scores of every kind."""

from __future__ import annotations

import random
from pathlib import Path

from dcod.score.scores import write_scores
from dcod.traces import Trace, prompts, write_traces
from dcod.traces.schema import OWN
from dcod.traces.scored import ScoredTrace

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'> & \u2028 <!-- \\u003c"


def traces(count: int, hostile: bool = True, own: int = 0) -> list[Trace]:
    """Two traces a prompt; every tenth is of the selection split; the first is hostile in every field.

    Args:
        count: traces.
        hostile: whether there is such a first one.
        own: so many first traces are the student's own.
    """
    out = []
    for index in range(count):
        problem = f"How much is {index // 2} and 1?"
        text = f"{index // 2} + 1 = {index // 2 + 1}" + ("\nso" if index % 2 else "") + f" it is {index // 2 + 1} é"
        if index == 0 and hostile:
            problem, text = HOSTILE, f"{HOSTILE} #### 1"
        out.append(
            Trace(
                prompt=prompts.prompt_for("number", problem),
                completion=text,
                answer=HOSTILE if index == 0 and hostile else "1",
                gold=str(index // 2 + 1),
                verdict="wrong" if index % 5 == 4 else "correct",
                split="selection" if index // 2 % 10 == 9 else "train",
                teacher=(OWN if index < own else "") + (HOSTILE if index == 0 and hostile else "a-teacher"),
                temperature=0.7,
                source_file=HOSTILE if index == 0 and hostile else f"file{index % 3}.jsonl",
                source_line=index + 1,
                licence="CC-BY-4.0",
            )
        )
    return out


def write_set(
    folder: Path,
    student: Path,
    count: int,
    *,
    teacher: bool = True,
    longer: int = 0,
    hostile: bool = True,
    own: int = 0,
) -> tuple[Path, Path, list[ScoredTrace]]:
    """A trace set and its scores, drawn at random.

    Args:
        folder: both go below it.
        student: the model folder whose tokenizer is used; nothing is run.
        count: traces.
        teacher: whether the teacher's log-probs are recorded; the last trace never has them.
        longer: completions have at least so many tokens.
        hostile: whether the first trace is full of markup.
        own: so many first traces are the student's own.

    Returns:
        The folders of traces and scores, and the examples in the order of the set.
    """
    tokenizer = prompts.load_tokenizer(student)
    draw = random.Random(0)
    written, examples = traces(count, hostile, own), []
    for index, trace in enumerate(written):
        tokens = prompts.encode_completion(tokenizer, trace.completion)
        tokens = [*tokens[:-1] * (1 + longer // len(tokens)), tokens[-1]]
        known = teacher and index < count - 1
        examples.append(
            ScoredTrace(
                trace_id=trace.trace_id,
                prompt_id=trace.prompt_id,
                prompt_tokens=prompts.encode_prompt(tokenizer, trace.prompt),
                completion_tokens=tokens,
                student_logprobs=[-draw.expovariate(1.0) for _ in tokens],
                entropies=[draw.uniform(0.0, 2.0) for _ in tokens],
                behavior_logprobs=[-draw.expovariate(2.0) for _ in tokens] if known else None,
                behavior_total=-12.5 if teacher else None,
            )
        )
    for name in ("traces", "scores"):
        (folder / name).mkdir(parents=True)
    write_traces(folder / "traces" / "traces.parquet", written)
    write_scores(folder / "scores" / "scores.parquet", examples, [trace.split for trace in written])
    return folder / "traces", folder / "scores", examples
