"""`PYTHON -m bench.scoring_vllm FOLDER`: vLLM's prompt_logprobs, in the environment of vLLM, for `bench.scoring`.

The first line of the input is the traces, as pairs of token lists; every further one asks for a round. A round is
answered with a line: seconds by the clock, seconds of the processor, and the log-probs. On a CPU vLLM computes in a
process of its own, so the processor's seconds are those of all its processes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import psutil

from dcod.engines.vllm import VllmEngine
from dcod.traces import prompts
from dcod.traces.scored import ScoredTrace


def processor_seconds() -> float:
    """Of this process and all below it."""
    this = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (this, *this.children(recursive=True)))


def main(folder: Path) -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # vLLM prints, too
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # as many threads as OMP_NUM_THREADS says, on any core
    traces = [
        ScoredTrace("", "", prompt, completion, [], []) for prompt, completion in json.loads(sys.stdin.readline())
    ]
    engine = VllmEngine(folder, prompts.load_tokenizer(folder))
    for _ in iter(sys.stdin.readline, ""):
        began, spent = time.perf_counter(), processor_seconds()
        scored = engine.score(traces, 0)
        seconds = {"clock": time.perf_counter() - began, "processor": processor_seconds() - spent}
        print(json.dumps({**seconds, "logprobs": [logprobs for logprobs, _ in scored]}), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
