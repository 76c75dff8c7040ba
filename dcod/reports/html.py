"""The pieces that pages without a script are made of: templates of ``assets``, whose values are escaped by default.

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
from dcod.reports.values import as_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def document(title: str, body: Iterable[Markup]) -> str:
    """A whole page: one file, no script, no network."""
    style = Markup(viewer.source("common.css") + viewer.source("report.css"))  # noqa: S704 - of this folder
    return viewer.TEMPLATES.get_template("page.html").render(title=title, style=style, body=body)


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
    """A figure, and its values as a file that the page itself holds."""
    file = base64.b64encode(as_csv(figure).encode()).decode()
    return part("plot", Markup(figures.svg(figure, name)), name, file)  # noqa: S704 - matplotlib escapes its labels


def fold(title: str, piece: Markup) -> Markup:
    """A piece behind a line that opens it."""
    return part("fold", title, piece)


def minus(text: str) -> str:
    """Numbers with a real minus sign; a hyphen within a word or an exponent stays."""
    return re.sub(r"(?<![\w-])-(?=\d)", "−", text)


def note(text: str) -> Markup:
    """A sentence that says how to read what follows."""
    return part("note", text)


def missing(text: str) -> Markup:
    """A sentence in place of what is not there."""
    return part("missing", text)
