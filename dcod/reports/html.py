"""The pieces that pages without a script are made of. What is text goes in as text and comes out escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from dcod.reports import figures, viewer

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def document(title: str, body: Iterable[str]) -> str:
    """A whole page: one file, no script, no network."""
    style = viewer.source("common.css") + viewer.source("report.css")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # a heat map is an image inside its plot
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def chapters(parts: Mapping[str, str]) -> list[str]:
    """Parts under their headings, and links to them in front."""
    names = {title: f"part-{number}" for number, title in enumerate(parts)}
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for title, name in names.items())
    body = [f'<h2 id="{names[title]}">{escape(title)}</h2>\n{part}' for title, part in parts.items()]
    return [f"<nav>{links}</nav>", *body]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; what stands in it is escaped."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def pairs(values: Mapping[str, object]) -> str:
    """Names and their values, long ones wrapped; whole numbers with separators."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(f'{value:,}' if isinstance(value, int) else str(value))}</td></tr>"
        for name, value in values.items()
    )
    return f'<table class="pairs"><tbody>{rows}</tbody></table>'


def glance(tiles: Iterable[tuple[str, str, str]]) -> str:
    """Figures to be seen first: what, value, and a note to it."""
    body = "".join(
        f"<div><dt>{escape(what)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for what, value, note in tiles
    )
    return f'<dl class="glance">{body}</dl>' if body else ""


def plot(figure: Figure, name: str) -> str:
    """A figure, in a box that scrolls where the page is too narrow for its labels."""
    return f'<div class="scroll">{figures.svg(figure, name)}</div>'


def note(text: str) -> str:
    """A sentence that says how to read what follows."""
    return f'<p class="soft">{escape(text)}</p>'


def missing(text: str) -> str:
    """A sentence in place of what is not there."""
    return f'<p class="missing">{escape(text)}</p>'
