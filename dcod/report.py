"""The page of a run: one self-contained HTML file, no script, no network; everything from a trace is escaped.

What is missing is named on the page, never left out in silence. The plots come from :mod:`dcod.figures`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod import figures
from dcod.figures import accuracy_figure, drift_figure, ess_figure, training_figures, weight_figure

if TYPE_CHECKING:
    from dcod.gate import Comparison, Decision

__all__ = [
    "accuracy_figure",
    "document",
    "drift_figure",
    "ess_figure",
    "missing",
    "page",
    "table",
    "training_figures",
    "weight_figure",
]

_OUTCOMES = ("correct", "wrong", "unparseable", "truncated", "error")
_EXAMPLES = 3  # of each kind
_SHOWN = 1500  # characters of a response

_HEADLINES = {
    "promote": ("good", "Promote", "The student is better than the champion; all checks of the gate hold."),
    "refuse": ("bad", "Refuse", "The student does not replace the champion; the reasons are below."),
    "already_champion": ("plain", "Nothing to do", "The student is the champion already."),
}

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --ground: #fff; --line: #d1d9e0;
  --tint: #f3f5f7; --good: #00694c; --bad: #a63c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4af; --ground: #15181c;
  --line: #3a414a; --tint: #1f242a; --good: #3fc79a; --bad: #ff9352; } }
* { box-sizing: border-box; }
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.verdict { border-left: .4rem solid var(--soft); background: var(--tint); padding: .7rem 1rem; }
.verdict.good { border-color: var(--good); } .verdict.bad { border-color: var(--bad); }
.verdict strong { font-size: 1.15rem; } .good strong, .yes { color: var(--good); } .bad strong, .no {
  color: var(--bad); }
ul.reasons { list-style: none; padding: 0; } ul.reasons li { margin: .35rem 0; }
.mark { display: inline-block; width: 3.2rem; font-weight: 600; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.text { text-align: left; } th { color: var(--soft); font-weight: 600; }
svg { width: 100%; max-width: 46rem; height: auto; display: block; margin: 1rem 0; }
.soft, .missing { color: var(--soft); } code { font-size: .88em; overflow-wrap: anywhere; }
details { margin: .6rem 0; border: 1px solid var(--line); padding: .5rem .8rem; } summary { cursor: pointer; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--tint); padding: .6rem; font-size: .85rem; }
"""


def page(
    *,
    title: str,
    decision: Decision | None,
    results: Mapping[str, Path],
    training: Path | None = None,
    scores: Path | None = None,
    ingest: Path | None = None,
    lineage: Mapping[str, str] | None = None,
) -> str:
    """The report of a run.

    Args:
        title: the name of the run.
        decision: of the gate.
        results: results folders by the name of the model, such as ``student``, ``champion``, ``start``.
            Examples of better and worse answers compare ``student`` with ``champion``, else with ``start``.
        training: the student folder, with ``training.jsonl`` and ``weights.json``.
        scores: the scores folder, with ``drift.json``.
        ingest: the trace set, with ``counts.json``.
        lineage: digests and addresses by what they stand for.
    """
    summaries = {label: found for label, folder in results.items() if (found := _json(folder / "summary.json"))}
    history = _history(training)
    drift = _json(scores / "drift.json") if scores else None
    counts = _json(ingest / "counts.json") if ingest else None
    body = [f"<h1>{escape(title)}</h1>", _decision(decision)]
    body += ["<h2>Accuracy</h2>", _accuracy(summaries)]
    body += ["<h2>How steady the answers are</h2>", _steadiness(summaries)]
    body += ["<h2>Student against champion, on the gate split</h2>", _comparisons(decision)]
    body += ["<h2>Where it got better and worse</h2>", _examples(results)]
    body += ["<h2>Training</h2>", _training(history)]
    weights = _json(training / "weights.json") if training else None
    if weights:
        body.append(figures.svg(figures.weight_figure(weights), "weights"))
    else:
        body.append(missing("No histogram of the weights: the run recorded none."))
    body += ["<h2>Drift</h2>", _drift(drift)]
    body += ["<h2>Data</h2>", _flat_table(counts) if counts else missing("No counts of the ingested traces.")]
    body += ["<h2>Lineage</h2>", _flat_table(lineage) if lineage else missing("No digests were given.")]
    return document(title, body)


def document(title: str, body: Iterable[str]) -> str:
    """A whole page: one file, no script, no network."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _decision(decision: Decision | None) -> str:
    if decision is None:
        return missing("No decision: the gate did not run.")
    kind, word, sentence = _HEADLINES[decision.outcome]
    versions = " against ".join(
        f"version {model.version}" if model.version else f"<code>{escape(model.digest[:12])}</code>"
        for model in (decision.challenger, decision.baseline)
    )
    items = "".join(
        f'<li><span class="mark {"yes" if reason.passed else "no"}">{"✓ yes" if reason.passed else "✗ no"}</span>'
        f"{escape(reason.text)}</li>"
        for reason in decision.reasons
    )
    return (
        f'<div class="verdict {kind}"><strong>{word}</strong> — {sentence}<br><span class="soft">'
        f"{escape(decision.registered_model)}: {versions}; level {decision.level:g}, margin "
        f'{decision.margin * 100:g} points</span></div>\n<ul class="reasons">{items}</ul>'
    )


def _accuracy(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for label, summary in summaries.items():
        for key, entry in sorted(summary["benchmarks"].items()):
            for prompting, splits in entry["prompting"].items():
                values = splits.get("report", {})
                if not values.get("n"):
                    continue
                counts = [str(values["outcomes"].get(outcome, 0)) for outcome in _OUTCOMES]
                rows.append(
                    [
                        f"{key} ({prompting.replace('_', '-')})",
                        label,
                        str(values["n"]),
                        f"{values['accuracy']:.1%}",
                        f"{values['low']:.1%} to {values['high']:.1%}",
                        f"{values['detectable'] * 100:.1f}",
                        *counts,
                    ]
                )
    if not rows:
        return missing("No results on the report split.")
    rows.sort(key=lambda row: row[0].split(" (")[0])
    head = ["benchmark", "model", "problems", "accuracy", "95 % interval", "detectable (points)", *_OUTCOMES]
    note = (
        '<p class="soft">On the report split, which neither training, nor the choice of a checkpoint, nor the gate '
        "has seen. The outcomes count answers and add up. Detectable is the gain over this model that a paired test on "
        "so many problems would find with 80 % power.</p>"
    )
    return note + table(head, rows) + figures.svg(figures.accuracy_figure(summaries), "accuracy")


_STEADINESS = {
    "truncated": "cut off",
    "looping": "loops",
    "contradicting": "wrong steps",
    "repetition": "repeated words",
    "agreement": "agreement",
    "entropy": "entropy (nats)",
    "tokens_p50": "tokens, median",
    "tokens_p95": "tokens, 95 %",
    "tokens_sd": "tokens, spread",
}


def _steadiness(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Stability of the answers, and avg, pass and maj at k where a problem has several."""
    rows = []
    for label, summary in summaries.items():
        for key, entry in sorted(summary["benchmarks"].items()):
            for prompting, splits in entry["prompting"].items():
                values = splits.get("report", {})
                if not values.get("n"):
                    continue
                found = values.get("stability", {})
                figures = [
                    "" if name not in found else f"{found[name]:.0f}" if "tokens" in name else f"{found[name]:.3f}"
                    for name in _STEADINESS
                ]
                more = [f"{name} {v:.1%} ({low:.1%} to {high:.1%})" for name, (v, low, high) in values["at_k"].items()]
                more += [f"{name.replace('_', ' ')} {value:.1%}" for name, value in values["figures"].items()]
                rows.append([f"{key} ({prompting.replace('_', '-')})", label, *figures, "; ".join(more)])
    if not rows:
        return missing("No results on the report split.")
    rows.sort(key=lambda row: row[0].split(" (")[0])
    note = (
        '<p class="soft">Shares of answers on the report split. Wrong steps are stated sums that do not hold; '
        "agreement is the share of a problem's samples that say what most say.</p>"
    )
    return note + table(["benchmark", "model", *_STEADINESS.values(), "further figures"], rows)


def _comparisons(decision: Decision | None) -> str:
    if decision is None or not decision.comparisons:
        return missing("No comparison was possible.")
    return table(
        ["benchmark", "role", "problems", "student", "champion", "better", "worse", "difference (points)",
         "95 % interval", "p (one-sided)", "detectable (points)"],
        [_comparison(found) for found in decision.comparisons],
    )  # fmt: skip


def _comparison(found: Comparison) -> list[str]:
    return [
        found.benchmark,
        found.role,
        str(found.n) if found.samples == 1 else f"{found.n} × {found.samples}",
        f"{found.challenger:.1%}",
        f"{found.baseline:.1%}",
        str(found.gains),
        str(found.losses),
        f"{found.difference * 100:+.1f}",
        f"{found.low * 100:+.1f} to {found.high * 100:+.1f}",
        f"{found.p_value:.2g}",
        f"{found.detectable * 100:.1f}",
    ]


def _examples(results: Mapping[str, Path]) -> str:
    """A few answers of the report split that changed, side by side."""
    other = next((label for label in ("champion", "start") if label in results), None)
    if "student" not in results or other is None:
        return missing("No second results folder to compare answers with.")
    ours, theirs = _answers(results["student"]), _answers(results[other])
    shared = sorted(ours.keys() & theirs.keys())
    better = [k for k in shared if ours[k]["outcome"] == "correct" != theirs[k]["outcome"]]
    worse = [k for k in shared if ours[k]["outcome"] != "correct" == theirs[k]["outcome"]]
    parts = [f'<p class="soft">Report split: {len(better)} answers better, {len(worse)} worse than the {other}.</p>']
    for word, keys in (("Better", better), ("Worse", worse)):
        for key in keys[:_EXAMPLES]:
            parts.append(
                f"<details><summary>{word}: {escape(f'{key[0]}, {key[1]}')}, gold answer "
                f"<code>{escape(str(ours[key]['gold']))}</code></summary>"
                f"{_response('student', ours[key])}{_response(other, theirs[key])}</details>"
            )
    return "\n".join(parts)


def _response(label: str, row: Mapping[str, Any]) -> str:
    text = str(row["response"])
    cut = "" if len(text) <= _SHOWN else f"\n… ({len(text) - _SHOWN} more characters)"
    return (
        f"<p>{escape(label)}: {escape(str(row['outcome']))}, answer <code>{escape(str(row['answer']))}</code></p>"
        f"<pre>{escape(text[:_SHOWN] + cut)}</pre>"
    )


def _answers(folder: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    import pyarrow.parquet as pq

    path = folder / "examples.parquet"
    if not path.is_file():
        return {}
    rows = pq.read_table(path, filters=[("split", "=", "report"), ("prompting", "=", "zero_shot")]).to_pylist()
    return {(row["benchmark"], row["problem_id"], row["sample"]): row for row in rows}


_SHARES = (("clipped_share", "clipped tokens"), ("truncated_share", "truncated weights"))


def _training(history: Sequence[Mapping[str, float]]) -> str:
    if not history:
        return missing("No training history (training.jsonl).")
    last = history[-1]
    mean = {key: sum(row.get(key, 0.0) for row in history) / len(history) for key in ("gamma", "ess")}
    rows = [["optimizer steps", str(len(history))], ["last loss (nats per token)", f"{last.get('loss', 0.0):.4f}"]]
    measured = [row["selection_nll"] for row in history if "selection_nll" in row]
    if measured:
        rows.append(["best on the selection split (nats per token)", f"{min(measured):.4f}"])
    rows += [["mean γ", f"{mean['gamma']:.3f}"], ["mean ESS / N", f"{mean['ess']:.3f}"]]
    for key, label in _SHARES:
        values = [row[key] for row in history if key in row]
        if values:
            rows.append([label, f"{sum(values) / len(values):.1%}"])
    if "staleness" in last:
        rows.append(["moved since it was scored, at the end (nats per token)", f"{last['staleness']:.3f}"])
    plots = (figures.svg(figure, name) for name, figure in figures.training_figures(history).items())
    return table(["", "value"], rows) + "\n".join(plots)


def _drift(drift: Mapping[str, Any] | None) -> str:
    if not drift or not drift.get("positions"):
        return missing("No drift curve (drift.json): the traces were not scored.")
    kind = (
        "The teacher's log-probs are recorded: the curve is the distance of the two distributions on its own tokens."
        if "mean_abs_log_ratio" in drift
        else "The teacher is known by its text only: the curve also measures the difference of the two entropies."
    )
    return f'<p class="soft">{kind}</p>' + figures.svg(figures.drift_figure(drift), "drift")


def _flat_table(values: Mapping[str, Any]) -> str:
    rows = [[name, f"{value:,}" if isinstance(value, int) else str(value)] for name, value in _flatten(values)]
    return table(["", "value"], rows)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key} / ")
        else:
            yield f"{prefix}{key}", value


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; what stands in it is escaped."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def missing(text: str) -> str:
    """A sentence in place of what is not there."""
    return f'<p class="missing">{escape(text)}</p>'


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def _history(training: Path | None) -> list[dict[str, float]]:
    if training is None or not (training / "training.jsonl").is_file():
        return []
    lines = (training / "training.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]
