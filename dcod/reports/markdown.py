"""The pieces that Markdown cards are made of: templates of ``assets``, whose values are escaped by default.

A value goes onto one line, as text that is neither Markdown nor HTML and holds no password. What a function of this
file made is :class:`markupsafe.Markup`, which goes into a card as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from markupsafe import Markup

from dcod.errors import one_line
from dcod.reports import viewer
from dcod.reports.side_by_side import Table, filled


def render(name: str, **values: object) -> str:
    """The card that a template makes of values."""
    return _TEMPLATES.get_template(name).render(values, table=table)


def plain(value: object) -> Markup:
    """A value as text on one line, without Markdown and HTML; a piece as it is."""
    if isinstance(value, Markup):
        return value
    text = escape(one_line(value), quote=False)
    return Markup(re.sub(r"([\\`*_{}\[\]|#!<>])", r"\\\1", text))  # noqa: S704 - escaped here


def joined(pieces: Iterable[str | Table]) -> Markup:
    """Sentences and tables, one below the other; empty ones are left out."""
    made = (plain(one) if isinstance(one, str) else table(*filled(one)) for one in pieces)
    return Markup("\n\n").join(filter(None, made))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A table; nothing where it has no column."""
    if not head:
        return Markup()
    lines = (Markup(" | ").join(map(plain, cells)) for cells in (head, ["---"] * len(head), *rows))
    return Markup("\n").join(Markup("| {} |").format(line) for line in lines)


def fenced(text: str) -> Markup:
    """A text as an indented block: nothing in it can end the block."""
    lines = "\n".join(f"    {line}" for line in text.splitlines()) or "    "
    return Markup(lines)  # noqa: S704 - a block of code


_TEMPLATES = viewer.TEMPLATES.overlay(finalize=plain)
