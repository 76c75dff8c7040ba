"""What a run was made from and what it took, for its report: data, settings, training, cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod import storage
from dcod.errors import UserError
from dcod.reports import figures
from dcod.reports.html import fold, joined, minus, missing, note, pairs, part, plot, table
from dcod.storage import parquet
from dcod.traces import FILE, read_batches

if TYPE_CHECKING:
    from markupsafe import Markup

    from dcod.tracking.lineage import Origin
    from dcod.tracking.runs import StageRun

_COLUMNS = ("source_file", "teacher", "licence", "verdict", "split")
_SHARES = (("clipped_share", "clipped tokens"), ("truncated_share", "truncated weights"))
_SOURCES = 20  # that are named


@dataclass(frozen=True)
class Cost:
    """What one stage of a pipeline run took.

    Attributes:
        stage: verb and label.
        seconds: wall-clock time; None while it runs.
        reused: its output was taken from an earlier run.
    """

    stage: str
    seconds: float | None
    reused: bool


def costs(log: StageRun) -> list[Cost]:
    """The stages of the pipeline run that a stage belongs to, in the order of their starts; none of a lone stage."""
    client = log.tracker.client
    parent = client.get_run(log.run_id).data.tags.get("mlflow.parentRunId")
    if not parent:
        return []
    query = f"tags.`mlflow.parentRunId` = '{parent}'"
    runs = client.search_runs([log.tracker.experiment_id], query, order_by=["attributes.start_time ASC"])
    return [
        Cost(
            str(run.info.run_name),
            (run.info.end_time - run.info.start_time) / 1000 if run.info.end_time else None,
            "dcod.reused_from" in run.data.tags,
        )
        for run in runs
    ]


def of_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is none."""
    try:
        return storage.read_json(path, made_by="dcod")
    except UserError:
        return None


def history_of(training: Path | None) -> list[dict[str, float]]:
    """The steps of a training, one row each."""
    if training is None or not (training / "training.jsonl").is_file():
        return []
    lines = (training / "training.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def data(traces: Path | None, card: str = "") -> Markup:
    """The data card in short: what was read, refused and why, and its sources; ``card`` names the whole one."""
    counts = of_json(traces / "counts.json") if traces else None
    if traces is None or counts is None:
        return missing("No counts of the ingested traces.")
    names = ("read", "accepted", "problems", "train", "selection", "pilot")
    parts = [pairs({name: counts[name] for name in names if name in counts})]
    refused = sorted(counts.get("quarantined", {}).items(), key=lambda item: -item[1])
    if refused:
        share = max(counts.get("read", 0), 1)
        rows = [[reason, f"{n:,}", f"{n / share:.1%}"] for reason, n in refused]
        parts += [part("heading", "Refused"), table(["reason", "rows", "of those read"], rows, "Refused rows")]
    known = columns(traces)
    for column, title in (("source_file", "Accepted, by source"), ("teacher", "By teacher"), ("licence", "By licence")):
        if column in known:
            rows = [[value or "not said", f"{n:,}"] for value, n in known[column].most_common(_SOURCES)]
            parts += [part("heading", title), table([column.partition("_")[0], "traces"], rows, title)]
    hits = {name: n for name, n in counts.get("ngram_hits", {}).items() if n}
    if hits:
        words = "; ".join(f"{n:,} with {name}" for name, n in hits.items())
        parts.append(note(f"Prompts that share much of their wording with a benchmark, not refused: {words}."))
    if card:
        parts.append(part("page_link", "The whole data card, with examples of every reason", card))
    return joined(parts)


def files(origin: Origin | None) -> Markup:
    """The files behind the student."""
    title = part("heading", "Files behind the student")
    if origin is None or not origin.files:
        return title + missing("No file is known.")
    words = "It, or a student that it goes back to, was trained on them; found through the inputs of MLflow's runs."
    if len(origin.files) > _SOURCES:
        words += f" The first {_SOURCES} of {len(origin.files):,}; `dcod lineage` names all."
    rows = [[name, digest] for digest, name in list(origin.files.items())[:_SOURCES]]
    shown = title + note(words) + table(["file", "SHA-256"], rows, "Files behind the student")
    return shown + note(origin.gap) if origin.gap else shown


def columns(traces: Path) -> dict[str, Counter[str]]:
    """How many traces have each source, teacher, licence, verdict and split; an unknown one is the empty text."""
    if not parquet.shards(traces / FILE):
        return {}
    counters: dict[str, Counter[str]] = {name: Counter() for name in _COLUMNS}
    for batch in read_batches(traces, columns=_COLUMNS):
        for name, counter in counters.items():
            counter.update(str(value or "") for value in batch[name].to_pylist())
    return counters


def settings(training: Path | None) -> dict[str, object]:
    """How the student was trained, from the manifest beside it; empty where there is none."""
    manifest = of_json(training / storage.MANIFEST) if training else None
    if not manifest or manifest.get("stage") != "train":
        return {}
    section, student = manifest["config"]["train"], manifest["config"]["student"]
    correction, loss = section["correction"], section["loss"]
    how = [f"{key} {correction[key]}" for key in ("scope", "gamma_max", "ess_floor", "clip", "truncate", "floor")]
    if correction["name"] != "surprisal":
        how = how[1:]
    return {
        "start": f"{student['model']} ({student['revision']}, {student['dtype']})",
        "correction": "none: plain fine-tuning"
        if correction["name"] == "none"
        else f"{correction['name']}, {correction['weights']} weights ({', '.join(how)})",
        "loss": loss["name"] if not section["anchor"] else f"{loss['name']}, anchor {section['anchor']}",
        "learning rate": f"{section['learning_rate']:g}, warm-up {section['warmup_share']:.0%}, then a cosine",
        "epochs": section["epochs"],
        "traces per step": section["traces_per_step"],
        "seed": str(manifest["seed"]),
    }


def strength(history: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """Of a correction: γ and effective sample size, means over the steps; 0 where there is none."""
    gamma, ess = (sum(row.get(key, 0.0) for row in history) / max(len(history), 1) for key in ("gamma", "ess"))
    return gamma, ess


def training(folder: Path | None) -> Markup:
    """A summary and the plots of a training; its settings behind a fold."""
    history = history_of(folder)
    if not history:
        return missing("No training history (training.jsonl).")
    last = history[-1]
    gamma, ess = strength(history)
    facts: dict[str, object] = {
        "optimizer steps": len(history),
        "last loss": f"{last.get('loss', 0.0):.4f} nats per token",
    }
    measured = [row["selection_nll"] for row in history if "selection_nll" in row]
    if measured:
        facts["best on the selection split"] = f"{min(measured):.4f} nats per token"
    right = [row["selection_accuracy"] for row in history if "selection_accuracy" in row]
    if right:
        facts["right on the selection split"] = f"{max(right):.1%}, which chose the checkpoint"
    gone = [row["selection_kl"] for row in history if "selection_kl" in row]
    if gone:  # measured where the student was the best so far
        facts["KL(start || student)"] = f"{gone[-1]:.4f} nats per position of the selection split"
    facts |= {"mean γ": f"{gamma:.3f}", "mean effective sample size": f"{ess:.1%}"}
    for key, label in _SHARES:
        values = [row[key] for row in history if key in row]
        if values:
            facts[label] = f"{sum(values) / len(values):.1%}"
    if "staleness" in last:
        facts["moved since it was scored"] = f"{last['staleness']:.3f} nats per token, at the end"
    facts |= _feedback(history)
    plots = (plot(figure, name) for name, figure in figures.training_figures(history).items())
    how = settings(folder)
    return pairs(facts) + joined(plots) + (fold("Settings of the training", pairs(how)) if how else "")


def _feedback(history: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """How the weights moved while the student learnt: live ones may feed back (docs/method.md, section 4)."""
    tenth, out = max(1, len(history) // 10), {}
    for key, label in (
        ("weight_spread", "spread of the weights of traces"),
        ("weight_length_correlation", "correlation of weights with length"),
    ):
        ends = [[row[key] for row in some if key in row] for some in (history[:tenth], history[-tenth:])]
        if all(ends):
            first, last = (sum(values) / len(values) for values in ends)
            out[label] = minus(f"{first:.2f} in the first tenth of the steps, {last:.2f} in the last")
    return out


def weights(folder: Path | None) -> Markup:
    """The histogram of the weights."""
    histogram = of_json(folder / "weights.json") if folder else None
    if not histogram:
        return missing("No histogram of the weights: the run recorded none.")
    return plot(figures.weight_figure(histogram), "weights")


def drift(folder: Path | None) -> Markup:
    """The drift curve of the scored traces."""
    curve = of_json(folder / "drift.json") if folder else None
    if not curve or not curve.get("positions"):
        return missing("No drift curve (drift.json): the traces were not scored.")
    kind = (
        "The teacher's log-probs are recorded: the curve is the distance of the two distributions on its own tokens."
        if "mean_abs_log_ratio" in curve
        else "The teacher is known by its text only: the curve also measures the difference of the two entropies."
    )
    return note(kind) + plot(figures.drift_figure(curve), "drift")


def exposure(exposed: Mapping[str, Any] | None) -> Markup:
    """Whether the errors of each student compound where it got itself; nothing where that was not asked for."""
    if not exposed:
        return note("Whether errors compound was not measured (promote.exposure_traces).")
    if "why" in exposed:
        return missing(f"Whether errors compound could not be measured: {exposed['why']}.")
    rows = []
    for name, curve in exposed["students"].items():
        if "at" in curve:
            end, error = curve["at"] - 1, minus(f"{curve['excess_error']:+.2f}")
            own = curve["accumulated"][end] / curve["at"]
            rows.append([name, str(curve["at"]), f"{curve['epsilon'][end]:.3f}", f"{own:.3f}", error])
        else:
            rows.append([name, "0", "", "", "too few answers"])
    words = (
        f"KL(teacher ‖ student) in nats a token over the first tokens of {exposed['traces']} held-back traces, and of "
        "each student's own answers to the same prompts. Excess is by how much the errors of its own answers exceed "
        "those on the teacher's traces: at 0 they add up, above they compound (ExAccErr, Arora et al. 2022)."
    )
    head = ["model", "tokens", "on the teacher's traces", "on its own answers", "excess"]
    return (
        note(words) + table(head, rows, "Whether errors compound") + plot(figures.exposure_figure(exposed), "exposure")
    )


def cost(stages: Sequence[Cost], history: Sequence[Mapping[str, float]]) -> Markup:
    """Wall-clock time by stage, and tokens trained on."""
    if not stages:
        return missing("No times: the stages were run by hand.")
    rows = [
        [one.stage, "until this page" if one.seconds is None else duration(one.seconds), "yes" if one.reused else ""]
        for one in stages
    ]
    known = sum(one.seconds or 0.0 for one in stages)
    rows.append(["together", duration(known), ""])
    words = (
        "Wall-clock time; stages that run beside each other count in full. What it cost in money, by the prices given, "
        "is `cost` of the run in MLflow."
    )
    tokens = int(sum(row.get("tokens", 0.0) for row in history))
    taken = sum(one.seconds or 0.0 for one in stages if one.stage.split()[0] == "train" and not one.reused)
    if tokens and taken:
        words += f" Trained on {tokens:,} completion tokens, {tokens / taken:,.0f} a second."
    return note(words) + table(["stage", "took", "taken over from an earlier run"], rows, "Time by stage")


def duration(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"
