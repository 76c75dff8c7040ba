"""The values of a plot: every mark that is drawn, as CSV that is no formula, and in words."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from dcod.evaluate.results import of_summary
from dcod.reports import figures
from dcod.reports.values import as_csv, in_words, places, points
from tests.reports.test_report import DRIFT, HISTORY, WEIGHTS, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rows(figure: Figure) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(figure))))


def test_curves_hold_what_was_measured() -> None:
    found = rows(figures.drift_figure(DRIFT))
    each = [row for row in found if row["series"] == "mean |log π − log μ|, position by position"]
    assert [float(row["y"]) for row in each] == [round(value, 6) for value in DRIFT["mean_abs_log_ratio"]]
    assert [float(row["y"]) for row in found if row["series"] == "traces"] == DRIFT["count"]
    assert "mean |log π − log μ|" in {row["series"] for row in found}
    loss = rows(figures.training_figures(HISTORY)["loss"])
    assert [float(row["x"]) for row in loss if row["series"].startswith("selection")] == [5, 10, 15, 20, 25, 30]
    assert not [row for row in found + loss if row["series"].startswith("_")]


def test_intervals_steps_and_cells_are_read_as_they_are_drawn() -> None:
    named = {"start $x$": of_summary(summary(0.3)), "=student": of_summary(summary(0.6))}
    found = rows(figures.accuracy_figure(named))
    assert sorted((row["series"], row["x"], row["y"], row["low"], row["high"]) for row in found) == sorted(
        (series, key, y, low, high)
        for series, y, low, high in (("start $x$", "30", "20", "40"), ("'=student", "60", "50", "70"))
        for key in ("odd$<b>", "sums")
    )
    weights = points(figures.weight_figure(WEIGHTS))
    assert [(one.series, one.x, round(one.y, 3)) for one in weights] == [
        ("0-15, from", 0.0, 0.333),
        ("0-15, from", 1.0, 0.667),
        ("16-31, from", 0.0, 1.0),
        ("16-31, from", 1.0, 0.0),
    ]
    cells = points(figures.training_figures(HISTORY)["ess_buckets"])
    assert {(one.series, one.x) for one in cells} >= {("bucket 0", 1.0), ("bucket 1", 30.0)}
    assert len(cells) == 60
    arms = points(figures.arms_figure([{"name": "a", "difference": 0.1, "low": -0.1, "high": 0.3}]))
    assert [(one.x, round(one.y, 6), round(one.low, 6)) for one in arms] == [("a", 10.0, -10.0)]


def test_a_plot_says_its_values_to_who_does_not_see_it() -> None:
    loss = in_words(figures.training_figures(HISTORY)["loss"])
    assert loss.startswith("Loss. training (weighted, of the step): 1 at 1, 0.0333 at 30. selection split")
    accuracy = figures.accuracy_figure({'student"<': of_summary(summary(0.6))})
    for words in ('student"<: ', "odd$<b> 60 (50 to 70)", "sums 60 (50 to 70)"):
        assert words in in_words(accuracy)
    drawn = ElementTree.fromstring(figures.svg(accuracy, "a"))
    assert drawn.attrib["aria-label"] == in_words(accuracy)
    many = [{"name": f"arm {i}" * 9, "difference": 0.1, "low": -0.1, "high": 0.3} for i in range(40)]
    assert len(in_words(figures.arms_figure(many))) < 1000


def test_every_mark_has_its_place_in_the_picture() -> None:
    named = {"start": of_summary(summary(0.3)), "student": of_summary(summary(0.6))}
    made = [figures.accuracy_figure(named), figures.drift_figure(DRIFT), figures.weight_figure(WEIGHTS)]
    for figure in [*made, *figures.training_figures(HISTORY).values()]:
        drawn = ElementTree.fromstring(figures.svg(figure, "a"))
        found = places(figure).split(";")
        assert len(found) == len(points(figure)) > 3
        pairs = [tuple(map(int, place.split(","))) for place in found]
        assert all(0 < x < 10_000 and 0 < y < 10_000 for x, y in pairs)
        assert len(set(pairs)) > 3
        assert "viewBox" in drawn.attrib
    marks = dict(zip(points(made[0]), places(made[0]).split(";"), strict=True))
    one, other = (next(place for mark, place in marks.items() if (mark.series, mark.x) == wanted)
                  for wanted in (("start", "sums"), ("student", "sums")))  # fmt: skip
    assert int(one.split(",")[0]) < int(other.split(",")[0])  # 30 % stands left of 60 %
    assert int(one.split(",")[1]) < int(other.split(",")[1])  # and above it
    broken = figures.training_figures([{**row, "loss": float("inf")} for row in HISTORY])["loss"]
    assert "-" not in places(broken).split(";")  # what is not finite is not drawn
