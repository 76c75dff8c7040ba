"""Score: the student's log-probs and entropies of every trace, and how far the teacher is from it.

1. tokenise the traces of a part for the student (the recorded tokens where they are the student's own);
2. one forward pass a trace, length-sorted, the head in chunks; keep the part, of which an attempt that was killed
   leaves those that are whole;
3. join the parts to scores.parquet, and write drift.json, which the data card of the traces tells (dcod.stages.pages).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dcod import storage
from dcod.config import Config
from dcod.models import fitting, loading, selfcheck
from dcod.score import outlook, scores
from dcod.score import parts as scoring
from dcod.stages.digests import attempt_place
from dcod.stages.manifests import note
from dcod.stages.shards import Shard, Work
from dcod.storage import parquet
from dcod.traces import (
    FILE,
    check_tokenizer,
    count_traces,
    prompts,
    read_batches,
    schema_of,
    scored,
    sources_of,
    turns,
)

if TYPE_CHECKING:
    from dcod.tracking import Log

UNLIKELY = 0.2  # a token's probability below which the student hardly knows it


def run(config: Config, out: Path, log: Log, *, traces: Path, student: Path) -> dict[str, float]:
    """Scores a trace set with a student; see the module."""
    log.sources(sources_of(traces))  # of a shard, those of its part
    tokenizer = prompts.of_student(student, config.student)
    fitting.check_student(student, tokenizer, config.student.max_length)
    whose = scores.Scored(loading.digest(student), prompts.tokenizer_digest(tokenizer))
    check_tokenizer(traces, whose.tokenizer, str(student))
    kept = parts_of(config, traces, student)
    parts = kept or scoring.Parts(str(out / ".parts"))
    note(out, turns=turns.of(tokenizer).table())
    numbers = range(-(-count_traces(traces) // config.score.checkpoints.every))
    done = parts.done()
    facts = scoring.score_parts(scoring.Job(config, traces, student, parts), [n for n in numbers if n not in done])
    note(out, student=facts)
    selfcheck.say(facts)
    drift, totals = Drift(), Totals()
    with pq.ParquetWriter(out / "scores.parquet", whose.schema(), compression="zstd") as writer:
        for number in numbers:
            with parts.file(number) as path:
                table = pq.read_table(path)
            writer.write_table(table)
            for figures in (drift, totals):
                figures.add(table)
    storage.write_json(out / "drift.json", drift.curve())
    if not kept:
        parts.clear()
    return totals.metrics()


def beyond(config: Config, out: Path) -> dict[str, float]:
    """What the configured correction could do with the scores."""
    found = outlook.Outlook(config.train)
    with pq.ParquetFile(out / "scores.parquet") as file:
        for batch in file.iter_batches(columns=outlook.COLUMNS):
            found.add(pa.Table.from_batches([batch]))
    return found.metrics()


def settle(config: Config, *, traces: Path, student: Path) -> None:
    """Drops the parts of a scoring whose scores are kept."""
    if kept := parts_of(config, traces, student):
        kept.clear()


def narrow(shard: Shard, work: Work, scratch: Path) -> Work | None:
    """The traces of one stretch, as a set of their own."""
    traces = work.inputs["traces"]
    rows = shard.stretch(count_traces(traces))
    with parquet.Writer(scratch / FILE, schema_of(traces)) as writer:
        for batch in read_batches(traces, rows):
            writer.write(pa.Table.from_batches([batch]))
    return replace(work, inputs={**work.inputs, "traces": scratch}) if rows else None


def parts_of(config: Config, traces: Path, student: Path) -> scoring.Parts | None:
    """The parts that attempts at this very scoring keep: the same configuration, seed, inputs and code."""
    given = config.score.model_dump(mode="json", exclude={"workers": True, "checkpoints": {"uri"}})
    demanded = scored.demanded(config.train)
    decides = {"score": given, **({"demanded": demanded} if demanded else {})}
    place = attempt_place(config.score.checkpoints.uri, "score", config, decides, traces, student)
    return scoring.Parts(place) if place else None


class Drift:
    """Per completion position: the drift of the teacher from the student, in nats; tables are added one by one.

    ``mean_abs_log_ratio`` where the teacher's log-probs are recorded; always ``mean_surprisal``, the
    entropy-centred surprisal, which also measures the difference of entropies (docs/method.md, section 1).
    """

    def __init__(self) -> None:
        self.sums: dict[str, NDArray[Any]] = {
            name: np.zeros(0) for name in ("count", "surprisal", "ratio_count", "abs_log_ratio")
        }

    def add(self, table: pa.Table) -> None:
        """Takes the traces of a table in."""
        if not len(table):
            return
        places, logprobs = _by_position(table["student_logprobs"])
        _, entropies = _by_position(table["entropies"])
        self._add("count", places, np.ones(len(places)))
        self._add("surprisal", places, -logprobs - entropies)
        told = table.filter(pc.is_valid(table["behavior_logprobs"]))
        if len(told):
            places, logprobs = _by_position(told["student_logprobs"])
            _, behavior = _by_position(told["behavior_logprobs"])
            self._add("ratio_count", places, np.ones(len(places)))
            self._add("abs_log_ratio", places, np.abs(logprobs - behavior))

    def _add(self, name: str, places: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        summed, known = np.bincount(places, weights=values), self.sums[name]
        longest = max(len(summed), len(known))
        self.sums[name] = np.pad(known, (0, longest - len(known))) + np.pad(summed, (0, longest - len(summed)))

    def curve(self) -> dict[str, object]:
        """The means."""
        count, ratios = self.sums["count"], self.sums["ratio_count"]
        curve: dict[str, object] = {
            "positions": list(range(len(count))),
            "count": count.astype(int).tolist(),
            "mean_surprisal": (self.sums["surprisal"] / count).tolist(),
        }
        if len(ratios) == len(count) and ratios.all():
            curve["mean_abs_log_ratio"] = (self.sums["abs_log_ratio"] / ratios).tolist()
        return curve


class Totals:
    """The figures of a scoring; tables are added one by one."""

    def __init__(self) -> None:
        names = ("traces", "tokens", "logprobs", "entropies", "probabilities", "unlikely", "covered", "totals")
        self.sums = dict.fromkeys(names, 0.0)

    def add(self, table: pa.Table) -> None:
        """Takes the traces of a table in."""
        lengths = pc.list_value_length(table["completion_tokens"]).to_numpy()
        told = pc.is_valid(table["behavior_logprobs"]).to_numpy()
        summed = pc.is_valid(table["behavior_total"]).to_numpy()
        counts = {"traces": len(table), "tokens": lengths.sum(), "covered": lengths[told].sum()}
        counts |= {"totals": (~told & summed).sum()}
        logprobs, entropies = (_by_position(table[name])[1] for name in ("student_logprobs", "entropies"))
        probabilities = np.exp(logprobs)
        counts |= {"logprobs": logprobs.sum(), "entropies": entropies.sum()}
        counts |= {"probabilities": probabilities.sum(), "unlikely": (probabilities < UNLIKELY).sum()}
        for name, value in counts.items():
            self.sums[name] += float(value)

    def metrics(self) -> dict[str, float]:
        """Counts, and means over completion tokens."""
        tokens = self.sums["tokens"]
        return {
            "traces": self.sums["traces"],
            "completion_tokens": tokens,
            "mean_student_logprob": self.sums["logprobs"] / tokens,
            "mean_entropy": self.sums["entropies"] / tokens,
            "mean_student_probability": self.sums["probabilities"] / tokens,
            "unlikely_token_share": self.sums["unlikely"] / tokens,
            "no_behavior_share": 1.0 - self.sums["covered"] / tokens,
            "retokenised_traces": self.sums["totals"],
        }


def _by_position(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The values of a column of lists, one after the other, and where in its list each stands."""
    lengths = pc.list_value_length(column).to_numpy()
    begins = np.cumsum(lengths) - lengths
    places = np.arange(lengths.sum()) - np.repeat(begins, lengths)
    return places, pc.list_flatten(column).to_numpy().astype(np.float64)
