"""Markdown cards: what a template shows is text, unless a piece of ours."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from dcod.reports import markdown

HOSTILE = "<script>alert(1)</script>\n\n# *bold* [a](b) | `c` ![d](e) \\frac{1}{2}"


def test_a_value_is_one_line_of_text() -> None:
    text = markdown.plain(HOSTILE)
    assert "\n" not in text
    assert text.startswith("&lt;script&gt;alert(1)&lt;/script&gt; \\# \\*bold\\* \\[a\\](b) \\| \\`c\\` \\!")
    assert text.endswith("\\\\frac\\{1\\}\\{2\\}")
    assert markdown.plain(text) is text
    assert markdown.plain(3) == "3"
    assert markdown.plain("https://me:word@host/set") == "https://\\*\\*\\*@host/set"


def test_a_template_escapes_by_default() -> None:
    tables = [(HOSTILE, ["a|b"], [[HOSTILE]]), ("none", ["a"], [])]
    examples = [(HOSTILE, markdown.fenced(HOSTILE))]
    card = markdown.render("data_card.md", told=HOSTILE, tables=tables, examples=examples, drift="Not scored yet.")
    assert card.count(markdown.plain(HOSTILE)) == 4
    assert "| a\\|b |\n| --- |\n| " in card
    assert "## none\n\nNone.\n" in card
    block = [line for line in card.splitlines() if "<" in line or "*bold*" in line]
    assert block == ["    <script>alert(1)</script>", "    # *bold* [a](b) | `c` ![d](e) \\frac{1}{2}"]


def test_a_value_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="told"):
        markdown.render("data_card.md", tables=[], examples=[], drift="")


def test_pieces_stand_below_each_other_and_empty_ones_are_left_out() -> None:
    given = ["a_b", "", (["x", "y"], [["1", ""]]), (["x"], [])]
    assert markdown.joined(given) == "a\\_b\n\n| x |\n| --- |\n| 1 |"
    assert isinstance(markdown.joined(given), Markup)
    assert markdown.table([], []) == ""
