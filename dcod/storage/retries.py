"""Trying again: one policy for all that may be away, busy or cut off: a bucket, a teacher, a cluster, a webhook.

Pauses double up to half a minute. The clients of MLflow and S3 have tries of their own, which lie within each of these.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_LONGEST_S = 30.0
_LATER = (408, 425, 429)
_NEVER = (501, 505)  # what the server cannot do it will not be able to do in a minute


def is_passing(status: int) -> bool:
    """Whether an HTTP status means "later", not "no"."""
    return status in _LATER or (status >= 500 and status not in _NEVER)


@dataclass
class Tries:
    """The tries of one request: a loop over them ends when they are used up; who got an answer leaves it before.

    Attributes:
        most: how many in a row.
        within_s: seconds that all may take together.
        first_s: the pause after the first.
        spread: each pause is a random part of its second half: of several that are cut off at once, not all come
            back at once.
        sleep: waits.
    """

    most: float = math.inf
    within_s: float = math.inf
    first_s: float = 1.0
    spread: bool = False
    sleep: Callable[[float], None] = field(default_factory=lambda: time.sleep)
    _failed: int = 0

    def __iter__(self) -> Iterator[None]:
        deadline = time.monotonic() + self.within_s
        while True:
            yield
            self._failed += 1
            pause = min(self.first_s * 2.0 ** (self._failed - 1), _LONGEST_S)
            pause *= random.uniform(0.5, 1.0) if self.spread else 1.0
            if self._failed >= self.most or time.monotonic() + pause > deadline:
                return
            self.sleep(pause)

    def moved(self) -> None:
        """The last one got somewhere: those before it do not count, and it is followed by half of the first pause."""
        self._failed = -1
