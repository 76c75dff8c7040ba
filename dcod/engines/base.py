"""What an engine is: ``generate()`` and ``score()``, how it draws and what comes back."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from dcod.traces.scored import ScoredTrace

_CUT = -9000.0  # JSON has no -inf: vLLM's server writes -9999


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn; a part of every record. Temperature 0 is greedy.

    Attributes:
        seed, sample: with the prompt they make the seed of every draw; ``sample`` counts the answers to a prompt.
        seeds: one a prompt, in place of those.
        record: also tell the log-probs that each token was drawn with, after temperature and top-p.
        top_k: with ``record``: and the likeliest tokens of that distribution.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    seeds: tuple[int, ...] = ()
    record: bool = False
    top_k: int = 0
    sample: int = 0

    def seeds_of(self, prompts: Sequence[Any]) -> list[int]:
        """A seed for each prompt, whatever is asked beside it; one that is asked again gets another."""
        if self.seeds:
            return list(self.seeds)
        seen: Counter[str] = Counter()
        out = []
        for prompt in prompts:
            name = json.dumps(prompt)
            again = f"{self.sample}+{seen[name]}" if seen[name] else self.sample
            out.append(seed_for(self.seed, name, again))
            seen[name] += 1
        return out


def seed_for(seed: int, prompt: str, sample: int | str) -> int:
    """The seed of one draw, below 2^31: hashed, so that seeds one apart share no sample.

    Args:
        seed: of the run.
        prompt: what is asked, or its identity.
        sample: number of the draw at this prompt.
    """
    return int(hashlib.sha256(f"{seed}\x1f{prompt}\x1f{sample}".encode()).hexdigest()[:8], 16) % 2**31


@dataclass(frozen=True)
class Completion:
    """What a model wrote.

    Attributes:
        text: decoded, without special tokens.
        token_ids: as sampled, the end-of-turn token included when it came.
        truncated: the limit ended it, not the model.
        fault: why an answer is no text, such as a tool call; it counts as an error.
        logprobs: of the sampler, nats, one a token; None where they were not asked for.
        top_ids, top_logprobs: its likeliest tokens at each position; what top-p cut away is not among them.
        read, wrote: tokens as the engine counts, or an endpoint bills them.
    """

    text: str
    token_ids: list[int]
    truncated: bool
    logprobs: list[float] | None = None
    top_ids: list[list[int]] | None = None
    top_logprobs: list[list[float]] | None = None
    read: int = 0
    wrote: int = 0
    fault: str = ""


class Engine(Protocol):
    """What the stages need of a model."""

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling, batch_size: int) -> list[Completion]:
        """One completion per tokenised prompt, in the order of the prompts."""
        ...

    def score(self, examples: Sequence[ScoredTrace], batch_tokens: int) -> list[tuple[list[float], list[float]]]:
        """Log-prob and entropy (nats) of every completion token of every example, in their order.

        The entropy is nan where the engine does not tell the whole distribution: never a number that is not it.
        """
        ...


def likeliest(logprobs: Mapping[int, float], top_k: int) -> dict[int, float]:
    """The likeliest ``top_k`` tokens of some: engines add the sampled one, and list what top-p cut away as -inf."""
    kept = sorted((item for item in logprobs.items() if item[1] > _CUT), key=lambda item: -item[1])
    return dict(kept[:top_k])
