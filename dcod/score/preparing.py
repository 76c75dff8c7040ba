"""What the preparations of a training do alike: a plain student asks or scores, and its rows are kept in parts.

All of it is called on every rank (collective).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dcod import storage
from dcod.config import TrainConfig
from dcod.engines.transformers import TransformersEngine
from dcod.objective.corrections import prepared
from dcod.score import scores
from dcod.score.parts import Kept, Parts
from dcod.score.scores import StoredTraces
from dcod.traces.scored import ScoredTrace
from dcod.train import loop, parallel
from dcod.train.checkpoints import Checkpoints
from dcod.train.sets import TraceSet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Preparation:
    """One preparation of a training.

    Attributes:
        config: of the training.
        seed: of it.
        load: gives the start, anew.
        tokenizer: of the start.
        kept: the checkpoints of that training, beside which to go on from; None: nowhere.
    """

    config: TrainConfig
    seed: int
    load: Callable[[], PreTrainedModel]
    tokenizer: PreTrainedTokenizerBase
    kept: Checkpoints | None

    @property
    def kind(self) -> str:
        """What is to be made before the training: ``asked``, ``cross`` or nothing."""
        return prepared(self.config.correction)

    @cached_property
    def _beside(self) -> Kept | None:
        return beside(self.config, self.kept)

    @contextmanager
    def parts(self) -> Iterator[Parts]:
        """The parts that are kept, or a scratch place."""
        if self._beside:
            yield self._beside.parts
            return
        with storage.scratch() as folder:
            yield Parts(str(folder))

    def put(self, parts: Parts, number: int, examples: Sequence[ScoredTrace]) -> None:
        """Keeps a part; of all ranks one alone, where they share the place."""
        if not self._beside or parallel.rank() == 0:
            parts.put(number, examples, ["train"] * len(examples))

    def student(self, traces: TraceSet, number: int) -> TransformersEngine:
        """The start, fine-tuned plainly on the traces; its checkpoints go by the number."""
        model = self.load()
        store = self._beside.checkpoints(number) if self._beside else None
        loop.train(model, traces, [], self.config.plain(), self.seed, lambda _: None, lambda *_: None, store)
        return TransformersEngine(model.eval(), self.tokenizer)


def beside(config: TrainConfig, kept: Checkpoints | None) -> Kept | None:
    """Where a preparation keeps what is done; None: nowhere, or there is none to be made."""
    kind = prepared(config.correction)
    return Kept(kept.uri, kept.keep, kind) if kept and kind else None


def shared(count: int, work: Callable[[range], Sequence[ScoredTrace]]) -> list[ScoredTrace]:
    """What ``work`` makes of the places below ``count``, in their order; each rank does its share of them."""
    mine = range(parallel.rank(), count, parallel.ranks())
    whole = dict(parallel.gathered(list(zip(mine, work(mine), strict=True))))
    return [whole[place] for place in range(count)]


def read(parts: Parts, number: int) -> list[ScoredTrace]:
    """A part."""
    with parts.file(number) as path:
        return list(scores.read_scores(path.parent)["train"])


def stored(pieces: Iterable[Sequence[ScoredTrace]]) -> StoredTraces:
    """Traces that come in pieces, as a set."""
    out = StoredTraces()
    for examples in pieces:
        for batch in scores.table(examples, ["train"] * len(examples)).to_batches():
            out.append(batch)
    out.close()
    return out
