"""The pieces that pages without a script are made of: templates of ``assets``, whose values are escaped by default.

A piece is :class:`markupsafe.Markup`, which goes into another piece as it is; any other text is escaped
there, and where it is added to a piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from dcod.reports import figures, viewer

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


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A table."""
    return part("table", head, rows)


def pairs(values: Mapping[str, object]) -> Markup:
    """Names and their values, long ones wrapped; whole numbers with separators."""
    return part("pairs", values)


def plot(figure: Figure, name: str) -> Markup:
    """A figure, in a box that scrolls where the page is too narrow for its labels."""
    return part("plot", Markup(figures.svg(figure, name)))  # noqa: S704 - matplotlib escapes its labels


def note(text: str) -> Markup:
    """A sentence that says how to read what follows."""
    return part("note", text)


def missing(text: str) -> Markup:
    """A sentence in place of what is not there."""
    return part("missing", text)
