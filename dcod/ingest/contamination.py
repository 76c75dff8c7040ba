"""Do training prompts hold problems of a benchmark? The one check that ingest and evaluate share.

Texts are compared as :mod:`dcod.ingest.folding` spells them, without dcod's own instruction at their end, each message
alone and all of a prompt (or of its user) in a row, since a problem may be split over them. Three kinds of hits:

``exact``   the prompt is the problem;
``inside``  the problem stands word for word in a longer prompt;
``ngram``   at least seven tenths of the problem's n-grams of 30 characters stand in the prompt: a paraphrase, a changed
            number, or a common phrase. Not proof: it is reported apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dcod import benchmarks
from dcod.config import BenchmarkConfig
from dcod.ingest.folding import fold
from dcod.traces import Message, prompts

N = 30  # characters of an n-gram
STEP = 10  # characters from one n-gram of a problem to the next; a prompt is searched at every place
SHARE = 0.7  # of a problem's n-grams that make a hit
SHORTEST = 15  # characters of a folded problem that is also looked for inside longer prompts
KINDS = ("exact", "inside", "ngram")
_LONGER = re.compile(r"[.,]?\d|[-+*/^]|sqrt")  # behind a number: another one, or another formula


@dataclass(frozen=True)
class Hit:
    """A benchmark's problem in a prompt; ``share`` of its n-grams stand there."""

    kind: Literal["exact", "inside", "ngram"]
    benchmark: str
    problem: str
    share: float = 1.0


class Contamination:
    """The problems of all configured benchmarks, whole: a limit on what is asked does not count here.

    Args:
        configured: the benchmarks.
        share: of a problem's n-grams that make a hit.
    """

    def __init__(self, configured: Sequence[BenchmarkConfig], share: float = SHARE) -> None:
        self._share = share
        self._exact: dict[str, str] = {}
        self._starts: dict[str, list[str]] = {}
        self._grams: dict[str, list[str]] = {}
        for benchmark in configured:
            for text in sorted({fold(problem) for problem in benchmarks.problem_texts(benchmark)} - {""}):
                self._exact[text] = benchmarks.key(benchmark)
                if len(text) >= SHORTEST:
                    self._starts.setdefault(text[:SHORTEST], []).append(text)
                for gram in _grams(text):
                    self._grams.setdefault(gram, []).append(text)

    def find(self, prompt: Iterable[Message]) -> Hit | None:
        """The gravest hit of a prompt's messages: exact before inside before n-gram; None for a clean one."""
        if not self._exact:
            return None
        turns = [(message["role"], bare(message["content"])) for message in prompt]
        whole = [" ".join(text for _, text in turns), " ".join(text for role, text in turns if role == "user")]
        texts = dict.fromkeys([*(text for _, text in turns), *(whole if len(turns) > 1 else [])])
        hits = [hit for text in texts if (hit := self._find(fold(text)))]
        return min(hits, key=lambda hit: KINDS.index(hit.kind), default=None)

    def _find(self, text: str) -> Hit | None:
        if text in self._exact:
            return Hit("exact", self._exact[text], text)
        problem = self._inside(text)
        if problem is not None:
            return Hit("inside", self._exact[problem], problem)
        shared: Counter[str] = Counter()
        grams = self._grams
        for gram in {gram for i in range(len(text) - N + 1) if (gram := text[i : i + N]) in grams}:
            shared.update(grams[gram])
        best = max(shared, key=lambda one: (shared[one] / len(_grams(one)), one), default=None)
        if best is None or shared[best] / len(_grams(best)) < self._share:
            return None
        return Hit("ngram", self._exact[best], best, shared[best] / len(_grams(best)))

    def _inside(self, text: str) -> str | None:
        for start in range(len(text) - SHORTEST + 1):
            for problem in self._starts.get(text[start : start + SHORTEST], ()):
                end = start + len(problem)
                if not text.startswith(problem, start):
                    continue
                longer = problem[-1].isdigit() and _LONGER.match(text, end)
                earlier = problem[0].isdigit() and start and text[start - 1].isdigit()
                if not (longer or earlier):
                    return problem
        return None


def _grams(text: str) -> set[str]:
    """The n-grams that stand for a problem, the last at its end."""
    if len(text) < N:
        return set()
    return {text[i : i + N] for i in [*range(0, len(text) - N + 1, STEP), len(text) - N]}


def bare(content: str) -> str:
    """A message without dcod's own instruction at its end."""
    for instruction in filter(None, prompts.INSTRUCTIONS.values()):
        content = content.rstrip().removesuffix(instruction)
    return content
