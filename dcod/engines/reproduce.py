"""Does a model folder still say what it said? A fresh process loads it and must reproduce recorded answers.

``python -m dcod.engines.reproduce FOLDER RECORDED`` prints one JSON object: ``same`` answers out of ``of``, and the
largest difference of their log-probs in nats. Equal tokens and equal log-probs are asked for; on another kind of device
than the recording one (a GPU then, a CPU now) rounding may turn a greedy choice, so there the log-probs alone decide.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod import storage
from dcod.errors import UserError
from dcod.storage import workers

if TYPE_CHECKING:
    from dcod.config import Config
    from dcod.engines.base import Engine

FILE = "recorded.json"
PROMPTS = 4
TOKENS = 32
TOLERANCES = {True: 1e-3, False: 0.1}  # nats, of a token's log-prob; on the same kind of device, and on another
_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Reproduction:
    """What the fresh process found; ``text`` says it in a sentence."""

    holds: bool
    text: str


def record(engine: Engine, prompts: Sequence[list[int]], name: str, config: Config, out: Path) -> None:
    """Writes recorded.json: greedy answers to the shortest prompts, with their log-probs."""
    from dcod.engines.base import Sampling

    chosen = sorted(prompts, key=len)[:PROMPTS]
    completions = engine.generate(chosen, Sampling(TOKENS), len(chosen)) if chosen else []
    tokens = [completion.token_ids for completion in completions]
    recording = {
        "engine": name,
        "device": _device(),
        "dtype": config.student.dtype,
        "chat_template": config.student.chat_template,
        "prompts": chosen,
        "tokens": tokens,
        "logprobs": _logprobs(engine, chosen, tokens),
    }
    storage.write_json(out / FILE, recording)


def reproduce(folder: Path, recorded: Path) -> Reproduction:
    """Runs the check in a process of its own, as whoever loads the model from the registry will.

    Args:
        folder: the model folder.
        recorded: a file that :func:`record` wrote.
    """
    if not recorded.is_file():
        return Reproduction(False, f"no recorded answers ({recorded.name}); evaluate with engine transformers or vllm")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dcod.engines.reproduce", str(folder), str(recorded)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
            env=workers.environment(),
        )
    except subprocess.TimeoutExpired:
        return Reproduction(False, f"a fresh process did not answer in {_LIMIT_S:.0f} s")
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]  # engines talk as well
    if done.returncode and not answers:  # an engine's threads may fall at the exit, after the answer (vLLM, once seen)
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Reproduction(False, f"a fresh process cannot run the registered model: {reason[:300]}")
    told = json.loads(answers[-1])
    tolerance = TOLERANCES[told["same_device"]]
    exact = told["same"] == told["of"] or not told["same_device"]
    holds = told["of"] > 0 and exact and told["difference"] <= tolerance
    where = "" if told["same_device"] else " on another device"
    return Reproduction(
        holds,
        f"{told['same']} of {told['of']} recorded answers reproduced by a fresh process{where}; log-probs differ by "
        f"at most {told['difference']:.2g} nats, {tolerance:g} allowed",
    )


def main(folder: Path, recorded: Path) -> dict[str, Any]:
    """What the fresh process does."""
    from dcod.config import EngineConfig
    from dcod.engines import by_name
    from dcod.engines.base import Sampling
    from dcod.traces import prompts

    data = storage.read_json(recorded, made_by="dcod evaluate")
    tokenizer = prompts.load_tokenizer(folder, data["chat_template"])
    engine = by_name.load(EngineConfig(name=data["engine"]), folder, tokenizer, data["dtype"])
    said = engine.generate(data["prompts"], Sampling(TOKENS), len(data["prompts"])) if data["prompts"] else []
    logprobs = _logprobs(engine, data["prompts"], data["tokens"])
    pairs = [p for a, b in zip(logprobs, data["logprobs"], strict=True) for p in zip(a, b, strict=True)]
    return {
        "of": len(data["tokens"]),
        "same": sum(one.token_ids == tokens for one, tokens in zip(said, data["tokens"], strict=True)),
        "same_device": data["device"] == _device(),
        "difference": max((abs(a - b) for a, b in pairs), default=0.0),
    }


def _logprobs(engine: Engine, prompts: Sequence[list[int]], tokens: Sequence[list[int]]) -> list[list[float]]:
    from dcod.traces.scored import ScoredTrace

    examples = [
        ScoredTrace(
            trace_id=str(number),
            prompt_id=str(number),
            prompt_tokens=prompt,
            completion_tokens=completion,
            student_logprobs=[],
            entropies=[],
        )
        for number, (prompt, completion) in enumerate(zip(prompts, tokens, strict=True))
    ]
    return [[round(value, 6) for value in logprobs] for logprobs, _ in engine.score(examples, 4096)] if examples else []


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    workers.end_with_parent()
    try:
        print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))), flush=True)
    except UserError as error:
        sys.exit(str(error))
