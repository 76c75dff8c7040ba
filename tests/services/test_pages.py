"""The report and the data card in a real browser: no error, no request, readable, nothing cut, hostile texts inert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.reports.test_report import full_page  # noqa: F401 (a fixture)
from tests.services.browsing import CONTRAST, SCHEMES

pytestmark = pytest.mark.service


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [390, 1360])
def test_the_report_is_readable_and_inert(
    full_page: str,  # noqa: F811
    tmp_path: Path,
    opened: Any,
    scheme: str,
    width: int,
) -> None:
    file = tmp_path / "report.html"
    file.write_text(full_page, encoding="utf-8")
    with opened(file, scheme, width) as it:
        assert it.page.evaluate("document.documentElement.scrollWidth") <= width
        readable = it.page.evaluate(CONTRAST, "p, li span, td, th, dt, dd, small, summary, a, strong, pre")
        assert len(readable) > 100
        assert min(readable) >= 4.5
        assert it.page.locator("svg[role=img][aria-label]").count() == 7
        cut = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1).length"
        assert it.page.evaluate(cut) == 0  # no column and no plot is beyond an edge
        first = it.page.locator("header .points").bounding_box()
        assert first is not None
        assert first["y"] < 400  # how much better stands on the first screen
        it.page.emulate_media(media="print")
        assert it.page.evaluate("document.querySelector('details pre').checkVisibility()")
        it.page.emulate_media(media="screen")
        assert it.page.evaluate("document.querySelectorAll('script, img, iframe').length") == 0
        for link in it.page.locator("nav a").all():
            link.click()
            assert it.page.locator(link.get_attribute("href")).is_visible()
