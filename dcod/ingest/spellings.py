"""Problems that differ in their spelling alone are one problem: none is trained on while another is held back.

The split is a hash of the prompt as it is written (:func:`dcod.ingest.assemble.side`), and stays so for ever: what was
held back once is never trained on. So the spellings of a problem (:mod:`dcod.ingest.folding`) are brought into one part
behind the hash: the pilot's where one of them belongs there, else selection's, else the training's; nothing is dropped.
Where an earlier set is carried on, a new spelling goes where that set has the problem, which may have been trained on.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from dcod.ingest.contamination import bare
from dcod.ingest.folding import fold
from dcod.traces import Split, Trace

if TYPE_CHECKING:
    from dcod.ingest.duplicates import Index

_ORDER: tuple[Split, ...] = ("train", "selection", "pilot")


def key(trace: Trace) -> bytes:
    """What all spellings of a trace's prompt share: every message counts, without dcod's instruction at its end."""
    parts = [f"{message['role']}\x1f{fold(bare(message['content']))}" for message in trace.prompt]
    return hashlib.sha256("\x1e".join(parts).encode("utf-8", "surrogatepass")).digest()[:16]


class Spellings:
    """The part that each problem is in, by what its spellings share.

    Attributes:
        late: a spelling was found that belongs to another part than earlier ones: those are to be moved behind it.
    """

    def __init__(self, index: Index) -> None:
        self.late = False
        self._index = index
        self._last: tuple[str, bytes] = ("", b"")

    def place(self, trace: Trace, own: Split, *, settled: bool = False) -> Split:
        """The part of a trace's problem, as far as it is known by now.

        Args:
            trace: the next one.
            own: the part that its own prompt belongs to.
            settled: it has to stay there, whatever follows.
        """
        shared = self._key(trace)
        known = self._index.part(shared)
        if known is not None and ((known[1] and not settled) or known[0] >= _ORDER.index(own)):
            self.late |= settled and _ORDER[known[0]] != own
            return _ORDER[known[0]]
        self.late |= known is not None
        self._index.put(shared, _ORDER.index(own), settled)
        return own

    def to_train(self, trace: Trace) -> None:
        """All spellings of a trace's problem are for training, since nothing else would be."""
        self._index.put(self._key(trace), 0, True)

    def found(self, trace: Trace) -> Split:
        """The part of a trace's problem, when all is in."""
        known = self._index.part(self._key(trace))
        return _ORDER[known[0]] if known else trace.split

    def _key(self, trace: Trace) -> bytes:
        """Traces of a prompt mostly follow each other."""
        if self._last[0] != trace.prompt_id:
            self._last = trace.prompt_id, key(trace)
        return self._last[1]
