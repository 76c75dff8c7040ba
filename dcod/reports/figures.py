"""The plots of a run: labelled, with units, in colours that colour-blind readers can tell apart (Okabe-Ito),
the light ones darkened to a contrast of 3:1 on white.

Every function gives a matplotlib figure; :func:`svg` turns one into inline SVG that takes the text colour of
its page, so that it is readable on light and on dark ground.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from dcod.reports.values import in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dcod.evaluate.results import Results

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#B5608C", "#7A5C00", "#6E7F8D"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
_NAMES = ("blue", "vermilion", "green", "purple", "orange", "sky")  # a page may set --blue and so on for dark ground
_LINE = 80  # characters of title and legend that fit beside each other
_INK = "#31363b"  # text and axes; replaced by the page's own colour in svg()

Row = Mapping[str, float]


def drift_figure(drift: Mapping[str, Any]) -> Figure:
    """The drift of the teacher from the student along the trace, and how many traces are that long.

    Args:
        drift: ``positions``, ``count``, and ``mean_abs_log_ratio`` (recorded teacher) or ``mean_surprisal``
            (text only; signed, in nats, 0 in expectation under the student's own sampling).
    """
    figure, (above, below) = _figure(2, height=4.2, ratios=(3, 1))
    positions = drift["positions"]
    curves = (
        ("mean_abs_log_ratio", "mean |log π − log μ|", BLUE),
        ("mean_surprisal", "mean entropy-centred surprisal", VERMILION),
    )
    for key, label, colour in curves:
        if key in drift:
            each = f"_{label}, position by position"
            above.plot(positions, drift[key], color=colour, linewidth=0.6, alpha=0.35, label=each)
            above.plot(positions, _smooth(drift[key], drift["count"]), color=colour, linewidth=1.8, label=label)
    above.axhline(0.0, color=_INK, linewidth=0.6)
    _label(above, "Drift of the teacher from the student", "", "nats per token")
    _legend(above)
    below.fill_between(positions, drift["count"], color=SKY, linewidth=0, step="mid")
    below.plot(positions, drift["count"], color=SKY, linewidth=1.0, drawstyle="steps-mid", label="_traces")
    _label(below, "", "position in the completion (tokens)", "traces")
    below.sharex(above)
    return figure


def exposure_figure(exposed: Mapping[str, Any]) -> Figure:
    """By how much a student's errors on its own answers exceed those on the teacher's, over the length.

    Args:
        exposed: ``students``, by name, with the curve of :func:`dcod.score.exposure.excess`.
    """
    figure, (axes,) = _figure(1)
    for (name, curve), colour in zip(exposed["students"].items(), PALETTE, strict=False):
        axes.plot(curve["lengths"], curve["excess"], color=colour, linewidth=1.6, label=name)
    axes.axhline(0.0, color=_INK, linewidth=0.6)
    _label(axes, "Excess of the errors on own answers", "tokens", "excess (0: errors only add up)")
    _legend(axes)
    return figure


def training_figures(history: Sequence[Row]) -> dict[str, Figure]:
    """Over the steps: loss, gamma with ESS, drift and staleness, and the ESS of every position bucket."""
    figures = {"loss": _loss_figure(history), "gamma_ess": ess_figure(history)}
    if any("staleness" in row for row in history):
        figures["drift_steps"] = moving_figure(history)
    buckets = sorted({key for row in history for key in row if key.startswith("ess_bucket_")})
    if len(buckets) > 1:
        figures["ess_buckets"] = _bucket_figure(history, buckets)
    return figures


def ess_figure(history: Sequence[Row]) -> Figure:
    """Gamma and the effective sample size over the steps."""
    figure, (above, below) = _figure(2, height=4.2)
    _curve(above, history, "gamma", "γ (strength of the correction)", BLUE)
    _label(above, "Strength of the correction, chosen by the ESS floor", "", "γ")
    above.set_ylim(bottom=0)
    _curve(below, history, "ess", "at the chosen γ", GREEN)
    _curve(below, history, "ess_at_gamma_max", "at γ max", ORANGE, style="--")
    _label(below, "", "optimizer step", "ESS / N (rescaled)")
    below.set_ylim(0, 1.02)
    _legend(below)
    below.sharex(above)
    return figure


def moving_figure(history: Sequence[Row]) -> Figure:
    """The drift of each octave of positions over the steps, and how far the student has moved since scoring."""
    figure, (above, below) = _figure(2, height=4.2)
    ratios = _octaves(history, "abs_log_ratio_")
    drawn = ratios or _octaves(history, "surprisal_")
    if len(drawn) > len(PALETTE):
        drawn = [drawn[round(i * (len(drawn) - 1) / (len(PALETTE) - 1))] for i in range(len(PALETTE))]
    for key, colour in zip(drawn, PALETTE, strict=False):
        first, last = (int(part) for part in key.split("_")[-2:])
        _curve(above, history, key, f"tokens {first}-{last}", colour)
    what = "mean |log π − log μ|" if ratios else "entropy-centred surprisal"
    _label(above, "Drift by position, as the student learns", "", f"{what}\n(nats per token)")
    _legend(above)
    _curve(below, history, "staleness", "mean |log π − log π when scored|", PURPLE)
    _label(below, "", "optimizer step", "nats per token")
    below.set_ylim(bottom=0)
    _legend(below)
    below.sharex(above)
    return figure


def _octaves(history: Sequence[Row], prefix: str) -> list[str]:
    return sorted({key for row in history for key in row if key.startswith(prefix)})


def weight_figure(weights: Mapping[str, Any]) -> Figure:
    """Histograms of the weights of the supervision, one line an octave of positions.

    Args:
        weights: ``edges`` of the bins and ``counts`` by the octave's name, such as ``16-31``; of many octaves
            six are drawn. See :class:`dcod.objective.weighting.WeightCounts`.
    """
    figure, (axes,) = _figure(1)
    names = list(weights["counts"])
    filled = [i for counts in weights["counts"].values() for i, count in enumerate(counts) if count]
    if len(names) > len(PALETTE):
        names = [names[round(i * (len(names) - 1) / (len(PALETTE) - 1))] for i in range(len(PALETTE))]
    for name, colour in zip(names, PALETTE, strict=False):
        counts = weights["counts"][name]
        total = sum(counts) or 1
        axes.stairs([c / total for c in counts], weights["edges"], color=colour, linewidth=1.5, label=_plain(name))
    axes.axvline(1.0, color=_INK, linewidth=0.6, linestyle=":")
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(1e-4, 1.2)
    edges = weights["edges"]
    axes.set_xlim(min(edges[min(filled, default=0)], 1.0), 1.02 * max(edges[max(filled, default=0) + 1], 1.0))
    _label(axes, "Weights of the supervision by position (tokens)", "weight (1 = as in SFT)", "share of the tokens")
    _legend(axes)
    return figure


def accuracy_figure(results: Mapping[str, Results], split: str = "report") -> Figure:
    """Accuracies with their 95 % intervals, one group a benchmark, one mark a model.

    Args:
        results: by the name of the model.
        split: ``report`` or ``gate``.
    """
    keys = sorted({key for one in results.values() for key in one.benchmarks})
    figure, (axes,) = _figure(1, height=1.2 + 0.32 * max(len(keys) * (len(results) + 1), 4))
    labels = list(results)
    for order, (label, one) in enumerate(results.items()):
        places: list[float] = []
        points: list[tuple[float, float, float]] = []
        for row in one.on(split):
            places.append(keys.index(row.benchmark) * (len(labels) + 1) + order)
            points.append((row.accuracy, row.low, row.high))
        means = [100 * mean for mean, _, _ in points]
        below = [100 * max(mean - low, 0.0) for mean, low, _ in points]
        above = [100 * max(high - mean, 0.0) for mean, _, high in points]
        axes.errorbar(
            means,
            places,
            xerr=[below, above],
            fmt="osD^vP"[order % 6],
            color=PALETTE[order % len(PALETTE)],
            capsize=3,
            markersize=6,
            label=_plain(label),
        )
    ticks = [group * (len(labels) + 1) + (len(labels) - 1) / 2 for group in range(len(keys))]
    axes.set_yticks(ticks, [_plain(key) for key in keys])
    axes.set_ylim(len(keys) * (len(labels) + 1) - 1.4, -0.6)  # no mark on the line of the axis
    axes.set_xlim(left=-1)
    _label(axes, f"Accuracy on the {split} split", "accuracy (%), with 95 % interval", "")
    _legend(axes)
    return figure


def arms_figure(against: Sequence[Mapping[str, Any]], over: str = "problems and seeds") -> Figure:
    """Arms, or one on several benchmarks, against plain fine-tuning, with 95 % intervals, in points.

    Args:
        against: by ``name`` of arm or benchmark ``difference``, ``low`` and ``high``.
        over: what the interval is over.
    """
    figure, (axes,) = _figure(1, 1.2 + 0.32 * len(against))
    places = list(range(len(against)))[::-1]
    middle = [100 * one["difference"] for one in against]
    ends = [[100 * (one["difference"] - one["low"]) for one in against],
            [100 * (one["high"] - one["difference"]) for one in against]]  # fmt: skip
    axes.errorbar(middle, places, xerr=ends, fmt="o", color=BLUE, capsize=3)
    axes.axvline(0.0, color=_INK, linewidth=1)
    axes.set_yticks(places, [_plain(one["name"]) for one in against])
    axes.set_ylim(-0.6, len(against) - 0.4)
    _label(axes, f"against plain fine-tuning (95 % interval over {over})", "points", "")
    return figure


def svg(figure: Figure, name: str) -> str:
    """Inline SVG without a background, in the text colour of the page around it, named for those who do not see it."""
    from matplotlib import rc_context

    figure.patch.set_alpha(0.0)
    for axes in figure.axes:
        axes.patch.set_alpha(0.0)
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>(?:[^<]|<(?!/?metadata>))*+</metadata>", "", buffer.getvalue())
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    for colour, plain in zip(PALETTE, _NAMES, strict=True):
        text = text.replace(colour.lower(), f"var(--{plain}, {colour})")
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(in_words(figure))}"', 1)


def _figure(rows: int, height: float = 3.0, ratios: Sequence[float] | None = None) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(7.2, height), dpi=130, layout="constrained")
    grid = figure.add_gridspec(rows, 1, height_ratios=ratios)
    axes = [figure.add_subplot(grid[row, 0]) for row in range(rows)]
    for item in axes:
        item.spines[["top", "right"]].set_visible(False)
        item.spines[["left", "bottom"]].set_color(_INK)
        item.tick_params(colors=_INK, labelsize=9)
        item.grid(visible=True, color=_INK, alpha=0.15, linewidth=0.6)
        item.set_axisbelow(True)
    return figure, axes


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.set_xlabel(x, color=_INK, fontsize=9)
    axes.set_ylabel(y, color=_INK, fontsize=9)


def _legend(axes: Axes) -> None:
    """Above the axes, never over the data; a long one pushes the title up."""
    labels, title = axes.get_legend_handles_labels()[1], axes.get_title(loc="left")
    if not labels:
        return
    columns, beside = min(len(labels), 3), len(title) + sum(len(label) + 6 for label in labels) <= _LINE
    if not beside:
        axes.set_title(title, loc="left", fontsize=11, color=_INK, pad=8 + 15 * math.ceil(len(labels) / columns))
    axes.legend(
        frameon=False,
        fontsize=9,
        labelcolor=_INK,
        ncols=columns,
        columnspacing=1.2,
        loc="lower right" if beside else "lower left",
        bbox_to_anchor=(1.0 if beside else 0.0, 1.0),
        borderaxespad=0.2,
    )


def _curve(axes: Axes, history: Sequence[Row], key: str, label: str, colour: str, style: str = "-") -> None:
    rows = [(row["step"], row[key]) for row in history if key in row and math.isfinite(row[key])]
    if rows:
        mark = "o" if len(rows) < 20 else ""
        steps, values = zip(*rows, strict=True)
        axes.plot(steps, values, style, color=colour, marker=mark, markersize=4, linewidth=1.6, label=label)


def _loss_figure(history: Sequence[Row]) -> Figure:
    figure, (axes,) = _figure(1)
    _curve(axes, history, "loss", "training (weighted, of the step)", SKY)
    _curve(axes, history, "selection_nll", "selection split (unweighted)", VERMILION)
    _label(axes, "Loss", "optimizer step", "nats per token")
    _legend(axes)
    return figure


def _bucket_figure(history: Sequence[Row], buckets: Sequence[str]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = _figure(1, height=3.4)
    grid = [[row.get(key, math.nan) for row in history] for key in buckets]
    edges = (history[0]["step"] - 0.5, history[-1]["step"] + 0.5, -0.5, len(buckets) - 0.5)
    axes.grid(visible=False)
    image = axes.imshow(
        grid, aspect="auto", origin="lower", extent=edges, vmin=0, vmax=1, cmap="cividis", interpolation="nearest"
    )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    bar = figure.colorbar(image, ax=axes)
    bar.ax.tick_params(colors=_INK, labelsize=9)
    bar.set_label("ESS / N (rescaled)", color=_INK, fontsize=9)
    bar.outline.set_visible(False)
    _label(axes, "Effective sample size by position", "optimizer step", "position bucket")
    return figure


def _smooth(values: Sequence[float], counts: Sequence[float], width: int = 9) -> list[float]:
    """A moving mean, weighted by how many traces stand behind each value."""
    half, out = width // 2, []
    for i in range(len(values)):
        part = slice(max(0, i - half), i + half + 1)
        total = sum(counts[part])
        pairs = zip(values[part], counts[part], strict=True)
        out.append(sum(v * c for v, c in pairs) / total if total else math.nan)
    return out


def _plain(text: str) -> str:
    """Text that matplotlib does not read as mathematics."""
    return text.replace("$", r"\$")
