"""How often the student is right when it answers in the manner of a trace (docs/method.md, section 1.4).

Likelihood says which manner is *familiar* to a student, not which one it can *carry out*. Its own answers say that:
they are verified, and a trace gets the success of those that are most like it, whatever problem they are of. Ours.
Texts are compared by their form: runs of up to three words and marks, every number the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

GRAMS = 3  # words and marks of the longest run
NEAREST = 24  # own answers that a trace is compared with, or a sixteenth of all; and those as near as the last
PRIOR = 4.0  # answers that the mean of all counts for
_WORDS = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d]+|[^\w\s]|\n")
_BLOCK = 2**22  # similarities that are held at a time


class Success:
    """The student's own answers, of which any trace can ask.

    Args:
        texts: the answers.
        right: whether each is whole and right; a cut one is not.
        problems: what each answers; so that a manner does not suffer for the hard problems that it is used on, an
            answer counts by how much better it is than the others to its problem.
    """

    def __init__(self, texts: Sequence[str], right: Sequence[bool], problems: Sequence[str]) -> None:
        hits: NDArray[np.float64] = np.asarray(right, float)
        _, of = np.unique(np.asarray(problems), return_inverse=True)
        shares = np.bincount(of, hits) / np.bincount(of)
        self.mean = float(hits.mean())
        self.better: NDArray[np.float64] = hits - shares[of]
        self._numbers: dict[tuple[str, ...], int] = {}
        self._own = self._features(texts, new=True)
        self._sizes: NDArray[np.float64] = np.asarray(self._own.sum(axis=1), float).ravel()

    @property
    def contrasts(self) -> int:
        """Answers to problems that were solved in some answers and not in others: all that can be learnt from."""
        return int(np.count_nonzero(self.better))

    def chances(self, texts: Sequence[str]) -> list[float]:
        """The chance of success in the manner of each text, in (0, 1), at a problem like the mean one.

        Share of all right ones + sum over the nearest of (right - share of right ones to that problem) / (nearest +
        PRIOR), by the Jaccard index of the runs.
        """
        count = len(self.better)
        nearest, least_chance = min(count, max(NEAREST, count // 16)), 0.5 / count
        out: list[float] = []
        for begin in range(0, len(texts), step := max(1, _BLOCK // count)):
            some = texts[begin : begin + step]
            sizes = np.asarray([len(_runs(text)) for text in some], float)
            common = np.asarray((self._features(some) @ self._own.T).todense(), float)
            like = common / np.maximum(sizes[:, None] + self._sizes[None, :] - common, 1.0)
            least = np.partition(like, -nearest, axis=1)[:, -nearest][:, None]
            near = like >= least
            chance = self.mean + (near @ self.better) / (near.sum(axis=1) + PRIOR)
            out += np.clip(chance, least_chance, 1.0 - least_chance).tolist()
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
