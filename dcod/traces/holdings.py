"""Counts of what the traces of a set hold; :mod:`dcod.objective.feasibility` says what they allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dcod.objective.feasibility import Holdings
from dcod.traces.schema import Trace, read_batches, schema_of

_COLUMNS = (
    *("prompt_id", "split", "verdict", "teacher", "temperature", "gold", "weight"),
    *("tokenizer_digest", "behavior_logprobs", "top_ids", "prompt"),
)
_SYSTEMS = 64  # different system prompts that are told apart at a time


class Count:
    """The counts of traces that come one by one: 16 characters a prompt are kept, and nothing else that grows.

    ``by_prompt`` off spares these as well, for who knows the prompts by other means.
    """

    def __init__(self, tokenizer: str, by_prompt: bool = True) -> None:
        self.tokenizer, self.by_prompt = tokenizer, by_prompt
        self.prompts: Counter[str] = Counter()
        self.numbers: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.teachers: Counter[str] = Counter()
        self.systems: Counter[str] = Counter()

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes one trace in; of the lists it is enough to say whether they are there."""
        if row["split"] != "train":
            self.numbers[row["split"]] += 1
            return
        own = row["tokenizer_digest"] == self.tokenizer
        if self.by_prompt:
            self.prompts[row["prompt_id"]] += 1
        self.verdicts[row["verdict"]] += 1
        self.teachers[row["teacher"] or ""] += 1
        for message in row["prompt"][:1]:
            if message["role"] == "system":
                self._add_system(message["content"])
        self.numbers.update(
            logprobs=own and row["behavior_logprobs"],
            totals=bool(row["behavior_logprobs"]),
            top_k=own and row["top_ids"],
            greedy=row["temperature"] == 0.0,
            golds=row["gold"] is not None,
            weights=row.get("weight") is not None,
        )

    def _add_system(self, text: str) -> None:
        """Keeps the frequent ones, whatever came first (Misra and Gries 1982): counts are exact up to 64, else low."""
        self.numbers["systems"] += 1
        self.systems[text] += 1
        if len(self.systems) > _SYSTEMS:
            self.systems = Counter({kept: count - 1 for kept, count in self.systems.items() if count > 1})

    def take(self, trace: Trace) -> None:
        """As :meth:`add`."""
        row = {name: getattr(trace, name) for name in _COLUMNS}
        self.add(row | {name: row[name] is not None for name in ("behavior_logprobs", "top_ids")})

    def holdings(self, *, sampled: bool = False, sizes: Iterable[int] | None = None) -> Holdings:
        """The counts so far; ``sizes`` are those of the prompts for training, where they were not counted."""
        system, alike = self.systems.most_common(1)[0] if self.systems else ("", 0)
        by_size = Counter(self.prompts.values() if sizes is None else sizes)
        return Holdings(
            traces=self.verdicts.total(),
            prompts=by_size.total(),
            alone=by_size[1],
            verdicts=dict(sorted(self.verdicts.items())),
            teachers=dict(sorted(self.teachers.items())),
            sampled=sampled,
            alike=alike,
            system_prompt=system,
            **{name: int(number) for name, number in self.numbers.items()},
        )


def count(folder: Path, tokenizer: str) -> Holdings:
    """What a trace set holds for training.

    Args:
        folder: a trace set.
        tokenizer: the digest of the student's; see :func:`dcod.traces.prompts.tokenizer_digest`.

    Raises:
        UserError: there is no trace set.
    """
    counting = Count(tokenizer)
    there = set(schema_of(folder).names)  # a set of an earlier version knows no weights
    for batch in read_batches(folder, columns=[name for name in _COLUMNS if name in there]):
        lists = {name: batch[name].is_valid().to_pylist() for name in ("behavior_logprobs", "top_ids")}
        plain = batch.drop_columns(list(lists)).to_pylist()
        for index, row in enumerate(plain):
            counting.add(row | {name: there[index] for name, there in lists.items()})
    return counting.holdings()


def of(traces: Iterable[Trace], tokenizer: str, *, sampled: bool = False) -> Holdings:
    """As :func:`count`, of traces in memory; ``sampled`` where they are only some of a set."""
    counting = Count(tokenizer)
    for trace in traces:
        counting.take(trace)
    return counting.holdings(sampled=sampled)
