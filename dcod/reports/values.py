"""The values behind a plot, read off its matplotlib figure: as CSV, in words for a screen reader, and where each is."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNSAID = ("_child", "_nolegend_")  # labels that matplotlib gives itself: rules, caps of intervals
_WORDS = 900  # characters of a plot in words
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


# Series, x, y, the ends of the interval, and where it stands in its panel.
_Drawn = tuple[str, str | float, float, float, float, tuple[float, float]]


class Point(NamedTuple):
    """One mark of a plot; ``low`` and ``high`` are the ends of its interval, and equal ``y`` where there is none."""

    panel: str
    series: str
    x: str | float
    y: float
    low: float
    high: float


def points(figure: Figure) -> list[Point]:
    """All marks of a figure: curves, points with intervals, steps and cells.

    A label that starts with ``_`` stands in no legend, but is read here.
    """
    return [point for point, _ in _placed(figure)]


def places(figure: Figure) -> str:
    """Where each of :func:`points` is drawn, once the figure was: right and down, in ten-thousandths of its size.

    What lies beyond the edge of its panel stands on that edge; ``-`` for what has no place.
    """
    return ";".join(place for _, place in _placed(figure))


def _placed(figure: Figure) -> Iterator[tuple[Point, str]]:
    for axes in figure.axes:
        panel = " ".join((axes.get_title(loc="left") or axes.get_ylabel()).split())
        for part in (_curves, _intervals, _steps, _cells):
            for series, x, y, low, high, at in part(axes):
                yield Point(panel, series, x, y, low, high), _place(axes, at)


def _place(axes: Axes, at: tuple[float, float]) -> str:
    point = axes.get_figure(root=True).transFigure.inverted().transform(axes.transData.transform(at))  # type: ignore[union-attr]
    if not all(map(math.isfinite, point.tolist())):
        return "-"
    inside = axes.get_position()
    right = min(max(point[0], inside.x0), inside.x1)
    up = min(max(point[1], inside.y0), inside.y1)
    return f"{round(10_000 * right)},{round(10_000 * (1 - up))}"


def as_csv(figure: Figure) -> str:
    """The marks, one a line; texts cannot become formulas of a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Point._fields)
    for point in points(figure):
        writer.writerow([f"'{v}" if isinstance(v, str) and v.startswith(_FORMULA) else _short(v) for v in point])
    return out.getvalue()


def in_words(figure: Figure) -> str:
    """Title, and of every series where it begins and ends, or each of its few marks with its interval."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points(figure):
        groups.setdefault((point.panel, point.series), []).append(point)
    titles = [" ".join((axes.get_title(loc="left") or axes.get_ylabel()).split()) for axes in figure.axes]
    said = "; ".join(filter(None, titles))
    for (_, series), marks in groups.items():
        first, last = marks[0], marks[-1]
        if isinstance(first.x, str):
            each = (f"{one.x} {one.y:.3g} ({one.low:.3g} to {one.high:.3g})" for one in marks)
            said += f". {series or 'values'}: {', '.join(each)}"
        else:
            said += f". {series or 'values'}: {first.y:.3g} at {first.x:g}, {last.y:.3g} at {last.x:g}"
    return said if len(said) <= _WORDS else f"{said[:_WORDS]}…"


def _curves(axes: Axes) -> Iterator[_Drawn]:
    for line in axes.get_lines():
        label = str(line.get_label())
        if not label.startswith(_UNSAID):
            for x, y in line.get_xydata().tolist():  # type: ignore[union-attr]
                yield _name(label), x, y, y, y, (x, y)


def _intervals(axes: Axes) -> Iterator[_Drawn]:
    """Points with a bar, at places of the y axis that have names."""
    named = [(tick, text.get_text()) for tick, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)]
    for bars in axes.containers:
        line, _, ranges = bars
        for (x, y), ((low, _), (high, _)) in zip(line.get_xydata().tolist(), ranges[0].get_segments(), strict=True):
            place = min(named, key=lambda tick, y=y: abs(tick[0] - y))[1]  # type: ignore[misc]
            yield _name(str(bars.get_label())), _name(place), x, float(low), float(high), (x, y)


def _steps(axes: Axes) -> Iterator[_Drawn]:
    from matplotlib.patches import StepPatch

    for patch in axes.patches:
        if isinstance(patch, StepPatch):
            values, edges, _ = patch.get_data()
            for x, end, y in zip(edges, edges[1:], values, strict=False):
                series = f"{_name(str(patch.get_label()))}, from"
                yield series, float(x), float(y), float(y), float(y), ((x + end) / 2, y)


def _cells(axes: Axes) -> Iterator[_Drawn]:
    for image in axes.get_images():
        cells = image.get_array()
        assert cells is not None
        left, right, _, _ = image.get_extent()
        for number, row in enumerate(cells.tolist()):
            wide = (right - left) / len(row)
            for column, y in enumerate(row):
                if y is not None:
                    x = left + (column + 0.5) * wide
                    yield f"bucket {number}", x, y, y, y, (x, number)


def _name(label: str) -> str:
    return label.removeprefix("_").replace(r"\$", "$")


def _short(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
