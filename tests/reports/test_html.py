"""The pieces of pages: whatever text goes into one comes out escaped, and no piece is escaped twice."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest

from dcod.reports import figures, html
from dcod.reports.viewer import TEMPLATES, source

EVIL = "<script>alert('x')</script>\"&"
SAFE = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34;&amp;"

PIECES: dict[str, list[Any]] = {
    "title": [EVIL],
    "heading": [EVIL],
    "chapter": [EVIL, EVIL, EVIL],
    "links": [{EVIL: EVIL}],
    "table": [[EVIL], [[EVIL]], EVIL],
    "pairs": [{EVIL: EVIL}],
    "headline": [EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, [(EVIL, EVIL)], [EVIL], {EVIL: EVIL}],
    "checks": [EVIL, EVIL, EVIL, EVIL, EVIL],
    "marked": [EVIL, EVIL],
    "plot": [EVIL, EVIL, EVIL, EVIL],
    "fold": [EVIL, EVIL],
    "changed": [EVIL],
    "lead": [EVIL],
    "link": [EVIL, EVIL],
    "note": [EVIL],
    "missing": [EVIL],
    "text": [EVIL, EVIL],
    "page_link": [EVIL, EVIL],
    "answers": [EVIL, EVIL, EVIL, [(EVIL, {"outcome": EVIL, "answer": EVIL}, EVIL)]],
}


@pytest.mark.parametrize("name", PIECES)
def test_every_piece_escapes_what_goes_into_it(name: str) -> None:
    piece = html.part(name, *PIECES[name])
    assert SAFE in piece
    assert "<script" not in piece
    assert "'" not in piece
    assert piece.count("&lt;") == piece.count("&#34;") * 2  # every quote too: values stand in attributes
    assert str(html.part("chapter", "", "t", piece)).count(SAFE) == piece.count(SAFE)  # a piece goes in as it is


def test_every_macro_is_tried_here() -> None:
    macros = set(re.findall(r"{% macro (\w+)", source("parts.html")))
    assert macros == PIECES.keys()
    assert len(macros) == 19


def test_text_that_is_added_to_a_piece_is_escaped_and_so_is_a_title() -> None:
    assert html.note("a") + EVIL == f'<p class="soft">a</p>{SAFE}'
    assert html.joined([html.note("a"), html.note("b")]).count("<p") == 2
    page = html.document(EVIL, [html.missing("none")])
    assert f"<title>{SAFE}</title>" in page
    assert page.count('<p class="missing">none</p>') == 1


def test_only_a_page_with_plots_has_a_script_and_its_policy_allows_no_other() -> None:
    bare = html.document("t", [html.note("a"), html.note("<figure data-at=")])
    assert "<script" not in bare
    assert "script-src 'none'" in bare
    page = html.document("t", [html.plot(figures.arms_figure([]), "arms")])
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script == source("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page
    assert "default-src 'none'" in page
    assert not re.findall(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(", script)


def test_nothing_is_marked_safe_within_a_template() -> None:
    names = [name for name in TEMPLATES.list_templates() if name.endswith(".html")]
    assert len(names) == 3
    assert not [name for name in names if re.search(r"\|\s*safe|autoescape", source(name))]


def test_minus_signs_are_signs() -> None:
    assert html.minus("-1.5 to -0.2 of gpt-4, 1e-05, a--3") == "−1.5 to −0.2 of gpt-4, 1e-05, a--3"
