"""The traces of a scheduled run, told apart by their sources, and which of them it trains on. Pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass

from dcod.config.retrain import RetrainConfig
from dcod.traces import Trace


@dataclass
class Pool:
    """All traces, told apart by their sources.

    Attributes:
        traces: all.
        learned: digests of sources that the champion was trained on.
        known: those, and the ones that a finished run tried.
    """

    traces: list[Trace]
    learned: Set[str]
    known: Set[str]

    @property
    def old(self) -> list[Trace]:
        """Traces that the champion was trained on."""
        return self.of(self.learned)

    @property
    def new(self) -> dict[str, list[Trace]]:
        """Traces that nobody tried, by the digest of their source."""
        by_file: dict[str, list[Trace]] = {}
        for trace in self.traces:
            if trace.source_digest not in self.known:
                by_file.setdefault(str(trace.source_digest), []).append(trace)
        return by_file

    def of(self, sources: Collection[str]) -> list[Trace]:
        """The traces of some sources, by digest."""
        return [trace for trace in self.traces if trace.source_digest in sources]

    def near(self, far: Set[str]) -> list[Trace]:
        """Traces that nobody tried, without those of some sources."""
        return [trace for digest, group in self.new.items() if digest not in far for trace in group]


def sample(traces: Sequence[Trace], count: int) -> list[Trace]:
    """So many traces, all of a prompt together; which ones is a hash of the prompt, so new ones displace few."""
    return sorted(traces, key=lambda trace: (rank(trace.prompt_id), trace.trace_id))[:count]


def selected(pool: Pool, far: Set[str], config: RetrainConfig, least: int = 0) -> list[Trace]:
    """The traces to train on, in the order of ingestion, with all old pilot problems: nothing trains on these.

    Old selection problems are replayed like what is trained on, since they choose checkpoints of the same mixture; but
    ``least`` of them at least, so many as a pilot cannot do without.
    """
    near = [trace for trace in pool.traces if trace.source_digest not in far]
    if config.start == "base":
        return near
    old = {trace.prompt_id for trace in near if trace.source_digest in pool.learned and trace.split == "selection"}
    kept = set(sorted(old, key=rank)[:least])
    return [
        trace
        for trace in near
        if trace.source_digest not in pool.learned
        or trace.split == "pilot"
        or trace.prompt_id in kept
        or rank(trace.prompt_id) / 2**64 < config.replay_share
    ]


def rank(text: str) -> int:
    """A place in an order that is as good as drawn, and stays."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
