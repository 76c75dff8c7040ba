"""The pieces that report and cards are made of: templates of ``assets``, whose values are escaped by default.

A piece is :class:`markupsafe.Markup`, which goes into another piece as it is; any other text is escaped
there, and where it is added to a piece.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from dcod.reports import figures, viewer
from dcod.reports.values import as_csv, places

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_PLOT = "<figure data-at="  # of parts.html


def document(title: str, body: Iterable[Markup]) -> str:
    """A whole page: one file, no network; a script, which is ours, only where there are plots."""
    body = list(body)
    script = viewer.source("report.js") if any(_PLOT in piece for piece in body) else ""
    policy = viewer.policy(script, "'unsafe-inline'") + "; img-src data:"  # matplotlib styles the parts of a plot
    style = viewer.source("common.css") + viewer.source("report.css")
    parts = {"style": style, "script": script, "policy": policy}
    safe = {name: Markup(text) for name, text in parts.items()}  # noqa: S704 - of this folder
    return viewer.TEMPLATES.get_template("page.html").render(title=title, body=body, **safe)


def part(name: str, *values: object) -> Markup:
    """The piece that a macro of ``parts.html`` makes of values."""
    made = getattr(viewer.TEMPLATES.get_template("parts.html").module, name)(*values)
    assert isinstance(made, Markup)
    return made.strip()


def joined(parts: Iterable[Markup]) -> Markup:
    """Pieces, one below the other."""
    return Markup("\n").join(parts)


def chapters(parts: Mapping[str, Markup]) -> list[Markup]:
    """Parts under their headings, and links to them in front."""
    names = {title: f"part-{number}" for number, title in enumerate(parts)}
    return [part("links", names), *(part("chapter", names[title], title, piece) for title, piece in parts.items())]


def table(head: Sequence[str], rows: Sequence[Sequence[str | Markup]], caption: str = "") -> Markup:
    """A table, whose first column names the rows; the caption is for those who do not see what stands above it."""
    return part("table", head, rows, caption or ", ".join(filter(None, head)))


def pairs(values: Mapping[str, object]) -> Markup:
    """Names and their values, long ones wrapped; whole numbers with separators."""
    return part("pairs", values)


def plot(figure: Figure, name: str) -> Markup:
    """A figure, its values as a file that the page itself holds, and where each of them stands in it."""
    drawn = Markup(figures.svg(figure, name))  # noqa: S704 - matplotlib escapes its labels
    file = base64.b64encode(as_csv(figure).encode()).decode()
    return part("plot", drawn, name, file, places(figure))


def fold(title: str, piece: Markup) -> Markup:
    """A piece behind a line that opens it."""
    return part("fold", title, piece)


def cut(value: object, most: int) -> str:
    """The beginning of a text, and how much is left out."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}\n… ({len(text) - most} more characters)"


def minus(text: str) -> str:
    """Numbers with a real minus sign; a hyphen within a word or an exponent stays."""
    return re.sub(r"(?<![\w-])-(?=\d)", "−", text)


def note(text: str) -> Markup:
    """A sentence that says how to read what follows."""
    return part("note", text)


def missing(text: str) -> Markup:
    """A sentence in place of what is not there."""
    return part("missing", text)
