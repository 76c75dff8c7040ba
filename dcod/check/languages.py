"""Which language traces and problems are in, by a sample of them, and whether the two differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dcod.check.student import UncheckedError
from dcod.traces import Trace, cleaning

TEXTS = 100  # that are looked at, of each kind
CLEAR = 0.8  # share of the texts that tell a language, from which it is that of all
TELLING = 0.2  # share of all texts that must tell one; of MATH's problems, which are mostly formulas, 0.4 do
FEWEST = 5  # texts that must tell one
ALIKE = ({"bs", "hr", "sr"}, {"id", "ms"}, {"da", "nn", "no"}, {"wuu", "yue", "zh"})  # mistaken for each other
ABSENT = "language: not looked at, since py3langid is not installed: pip install 'dcod[evaluate]'"


@dataclass(frozen=True)
class Spoken:
    """How many texts were looked at, and in how many of them which language was told."""

    looked: int
    told: Counter[str]

    @property
    def clear(self) -> str:
        """The language of nearly all that tell one, such as ``en``; "" where there is none, as in formulas alone."""
        code, count = self.told.most_common(1)[0] if self.told else ("", 0)
        enough = self.told.total() >= max(FEWEST, TELLING * self.looked)
        return code if enough and count >= CLEAR * self.told.total() else ""

    def __str__(self) -> str:
        """Such as ``en 58 and de 2 of 60``."""
        most = " and ".join(f"{code} {count}" for code, count in self.told.most_common(2))
        return f"{most or 'none told'} of {self.looked}"


@dataclass(frozen=True)
class OfTraces:
    """The languages of prompts and of completions."""

    prompts: Spoken
    completions: Spoken

    @property
    def told(self) -> bool:
        """Whether any text tells its language."""
        return bool(self.prompts.told or self.completions.told)

    def __str__(self) -> str:
        return f"prompts {self.prompts}, completions {self.completions}"

    def unlike(self, problems: Spoken) -> str:
        """That problems are in another language than the traces, with the way out; "" where that is not clear."""
        kind, taught = (
            ("prompts", self.prompts.clear) if self.prompts.clear else ("completions", self.completions.clear)
        )
        pair = {taught, problems.clear}
        if "" in pair or len(pair) == 1 or any(pair <= group for group in ALIKE):
            return ""
        return (
            f"the problems are in {problems.clear}, the {kind} of the traces in {taught}: the student is asked in "
            f"another language than it is taught in; bring problems in {taught}, or traces in {problems.clear}"
        )


def of_traces(traces: Sequence[Trace]) -> OfTraces:
    """The languages of a sample of prompts, each once, and of completions.

    Raises:
        UncheckedError: the library that tells languages is not installed.
    """
    prompts = list(dict.fromkeys(trace.problem for trace in traces))
    return OfTraces(of(prompts), of([trace.completion for trace in traces]))


def of(texts: Sequence[str]) -> Spoken:
    """The languages of some of the texts, taken evenly from all.

    Raises:
        UncheckedError: the library that tells languages is not installed.
    """
    taken = texts[:: -(-len(texts) // TEXTS) or 1]
    try:
        told = Counter(code for text in taken if (code := cleaning.language(text)))
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "py3langid":
            raise
        raise UncheckedError(ABSENT) from None
    return Spoken(len(taken), told)
