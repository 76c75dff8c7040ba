"""How often the student is right when it answers in the manner of a trace (docs/method.md, section 1.4).

Likelihood says which manner is *familiar* to a student, not which one it can *carry out*. Its own answers say that:
they are verified, and a trace gets the share of right ones among those that are most like it, whatever problem they
are of. Ours. Texts are compared by their form: runs of up to three words and marks, every number the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

GRAMS = 3  # words and marks of the longest run
NEAREST = (
    24  # own answers that a trace is compared with, or a sixteenth of all; those as near as the last one count, too
)
PRIOR = 4.0  # answers that the mean of all counts for
_WORDS = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d]+|[^\w\s]|\n")
_BLOCK = 2**22  # similarities that are held at a time


class Success:
    """The student's own answers, of which any trace can ask.

    Args:
        texts: the answers.
        right: whether each is whole and right; a cut one is not.
    """

    def __init__(self, texts: Sequence[str], right: Sequence[bool]) -> None:
        self.right: NDArray[np.float64] = np.asarray(right, float)
        self._numbers: dict[tuple[str, ...], int] = {}
        self._own = self._features(texts, new=True)
        self._sizes: NDArray[np.float64] = np.asarray(self._own.sum(axis=1), float).ravel()

    @property
    def mean(self) -> float:
        """The share of right answers."""
        return float(self.right.mean())

    def chances(self, texts: Sequence[str]) -> list[float]:
        """The chance of success in the manner of each text, in (0, 1).

        (right ones among the nearest + PRIOR x the share of all) / (nearest + PRIOR), by the Jaccard index of the runs.
        """
        nearest = min(len(self.right), max(NEAREST, len(self.right) // 16))
        out: list[float] = []
        for begin in range(0, len(texts), step := max(1, _BLOCK // len(self.right))):
            some = texts[begin : begin + step]
            sizes = np.asarray([len(_runs(text)) for text in some], float)
            common = np.asarray((self._features(some) @ self._own.T).todense(), float)
            like = common / np.maximum(sizes[:, None] + self._sizes[None, :] - common, 1.0)
            least = np.partition(like, -nearest, axis=1)[:, -nearest][:, None]
            near = like >= least
            mean = min(max(self.mean, 0.5 / len(self.right)), 1.0 - 0.5 / len(self.right))
            out += ((near @ self.right + PRIOR * mean) / (near.sum(axis=1) + PRIOR)).tolist()
        return out

    def _features(self, texts: Sequence[str], new: bool = False) -> sparse.csr_matrix:
        """Which runs stand in a text [texts, runs]; others than those of the own answers are left out."""
        rows, columns = list[int](), list[int]()
        for place, text in enumerate(texts):
            for run in _runs(text):
                number = self._numbers.setdefault(run, len(self._numbers)) if new else self._numbers.get(run)
                if number is not None:
                    rows.append(place)
                    columns.append(number)
        shape = (len(texts), len(self._numbers))
        return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)


def _runs(text: str) -> set[tuple[str, ...]]:
    words = ["0" if word[0].isdecimal() else word.lower() for word in _WORDS.findall(text)]
    return {tuple(words[at : at + size]) for size in range(1, GRAMS + 1) for at in range(len(words) - size + 1)}
