"""Report and viewer look as they did: on a phone, on a wide screen, dark, on paper (tests/golden/pages)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dcod.config import Config, CorrectionConfig, TrainConfig
from dcod.reports import trace_pages
from tests.conftest import ROOT
from tests.reports.test_report import full_page  # noqa: F401 (a fixture)
from tests.services import screenshots
from tests.services.browsing import PAPER
from tests.viewed import write_set

pytestmark = pytest.mark.service

CHROMIUM = shutil.which("chromium")
GOLDEN = ROOT / "tests" / "golden" / "pages"
PAGES = ("report", "viewer")
LOOKS: dict[str, dict[str, Any]] = {
    "phone": {"width": 390},
    "wide": {"width": 1400},
    "dark": {"width": 1400, "scheme": "dark"},
    "paper": {"width": PAPER, "media": "print"},
}
# What a careless change of style does, and a name for it; each is to be seen in some picture.
PLANTED = {
    "a part is gone": "#fold { display: none; }",
    "a part moved": "#trace h2 { margin-top: 1.6rem; }",
    "a cell is cut": "#rows .head { -webkit-line-clamp: 1; }",
    "a colour is another": ".q { --hue: #1f2328 !important; }",
    "a line is fainter": "#scale { visibility: hidden; }",
    "a text is larger": ".meta { font-size: 1.1rem !important; }",
}


@pytest.fixture(scope="module")
def drawing() -> Iterator[Any]:
    """A browser that draws alike everywhere."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "`make test-services` installs Chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=screenshots.FLAGS)
        yield started
        started.close()


@pytest.fixture
def pages(full_page: str, tmp_path: Path, tiny_student: Path) -> dict[str, Path]:  # noqa: F811
    traces, scores, _ = write_set(tmp_path / "set", tiny_student, 40, hostile=False)
    config = Config(name="pictured", train=TrainConfig(correction=CorrectionConfig(name="surprisal", scope="token")))
    checked = full_page.replace("<details><summary>3 checks", "<details open><summary>3 checks")  # the table is seen
    assert checked != full_page
    texts = {"report": checked, "viewer": trace_pages.page(config, scores, tiny_student, traces=traces)}
    for name, text in texts.items():
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: tmp_path / f"{name}.html" for name in texts}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_the_page_looks_as_before(
    pages: dict[str, Path], drawing: Any, tmp_path: Path, update_golden: bool, name: str, look: str
) -> None:
    picture = screenshots.taken(drawing, pages[name], **LOOKS[look])
    file = GOLDEN / f"{name}-{look}.png"
    if update_golden:
        screenshots.keep(picture, file)
    found = screenshots.differences(picture, Image.open(file))
    if found:
        screenshots.keep(picture, tmp_path / file.name)
    assert not found, f"{tmp_path / file.name} is not {file}; if it should be, --update-golden: {found[:10]}"


def test_the_references_are_all_there_and_small() -> None:
    files = sorted(GOLDEN.iterdir())
    assert [file.name for file in files] == sorted(f"{name}-{look}.png" for name in PAGES for look in LOOKS)
    assert sum(file.stat().st_size for file in files) < 600_000


def test_a_planted_change_is_found_and_smoothing_is_none(pages: dict[str, Path], drawing: Any) -> None:
    reference = Image.open(GOLDEN / "viewer-wide.png")
    plain = screenshots.taken(drawing, pages["viewer"], width=1400)
    otherwise = drawing.browser_type.launch(executable_path=CHROMIUM)
    smoothed = screenshots.taken(otherwise, pages["viewer"], width=1400)  # hinted as this machine likes it
    otherwise.close()
    assert plain.tobytes() != smoothed.tobytes()
    assert screenshots.differences(smoothed, reference) == []
    for name, style in PLANTED.items():
        changed = screenshots.taken(drawing, pages["viewer"], width=1400, style=style)
        assert screenshots.differences(changed, reference), name
    phone = Image.open(GOLDEN / "viewer-phone.png")
    longer = screenshots.taken(drawing, pages["viewer"], width=390, style="#filters { padding: 2rem; }")
    assert "before" in screenshots.differences(longer, phone)[0]
