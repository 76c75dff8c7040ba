"""The report and the data card in a real browser: no error, no request, readable, nothing cut, hostile texts inert."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dcod.reports import arms, report
from dcod.reports.run_page import RunPage
from tests.reports.test_arms import CHOICE, comparison, one_arm
from tests.reports.test_report import HOSTILE as TEXT
from tests.reports.test_report import (
    decision,
    full_page,  # noqa: F401 (a fixture)
    write_results,
)
from tests.reports.test_side_by_side import student
from tests.services.browsing import CONTRAST, CUT, PAPER, SCHEMES, faults
from tests.stages.test_ingest import Ingest

pytestmark = pytest.mark.service


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [390, 1400])
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
        readable = it.page.evaluate(
            CONTRAST, "p, li span, td, tbody th, thead th, figcaption, dt, dd, small, summary, a, strong, pre"
        )
        assert len(readable) > 100
        assert min(readable) >= 4.5
        assert it.page.locator("svg[role=img][aria-label]").count() == 7
        cut = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1).length"
        assert it.page.evaluate(cut) == 0  # no column and no plot is beyond an edge
        assert it.page.evaluate(CUT) == []
        assert faults(it.page) == []
        first = it.page.locator("header .points").bounding_box()
        assert first is not None
        assert first["y"] < 400  # how much better stands on the first screen
        it.page.emulate_media(media="print")
        assert it.page.evaluate("document.querySelector('details pre').checkVisibility()")
        it.page.emulate_media(media="screen")
        assert it.page.evaluate("document.querySelectorAll('script').length") == 1
        assert it.page.evaluate("document.querySelectorAll('img, iframe').length") == 0
        for link in it.page.locator("nav a").all():
            link.click()
            assert it.page.locator(link.get_attribute("href")).is_visible()


@pytest.fixture
def compared_page(tmp_path: Path) -> str:
    """A refused student with all that is told of a correction: arms, what they were asked, students, links."""
    asked = {
        "benchmark": "math500", "role": "primary", "n": 250, "samples": 8, "accuracy": 0.4, "low": 0.35, "high": 0.45,
        "mean_tokens": 321.4, "stability": {"openings": 1.2}, "at_k": {"maj@8": [0.5, 0.45, 0.55]},
    }  # fmt: skip
    names = [f"a_name_of_an_arm_that_goes_on_and_on_{number}" for number in range(3)]
    choice = CHOICE | {
        "asked": {"sft": [asked], "support": [asked | {"accuracy": 0.47}]},
        "arms": [*CHOICE["arms"], *(one_arm(name, "failed", f"{TEXT} ended in memory") for name in names)],
    }
    students = [student(tmp_path / name, name, ["2 + 2 = 4", TEXT]) for name in ("plain fine-tuning", "correction")]
    given = arms.answer(plain=False, full=[comparison(40, 4)], choice=choice, students=students)
    links = {"MLflow": "https://mlflow.example/#/experiments/1/runs/" + 32 * "a", "report": "/runs/" + 90 * "x"}
    (tmp_path / "results").mkdir()
    results = {
        name: write_results(tmp_path / "results" / name, share, {1, 2})
        for name, share in (("start", 0.3), ("student", 0.6))
    }
    refused = decision(promote=False)
    return report.page(RunPage("compared", refused, results, answer=given, links=links, date="2026-11-30"))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [390, 1400])
def test_what_the_correction_brought_is_readable(
    compared_page: str, tmp_path: Path, opened: Any, scheme: str, width: int
) -> None:
    file = tmp_path / "compared.html"
    file.write_text(compared_page, encoding="utf-8")
    with opened(file, scheme, width) as it:
        assert it.page.evaluate("document.documentElement.scrollWidth") <= width
        assert it.page.evaluate(CUT) == []
        assert faults(it.page) == []
        assert (
            min(it.page.evaluate(CONTRAST, "p, td, tbody th, thead th, dt, dd, small, summary, a, strong, pre")) >= 4.5
        )
        assert it.page.get_by_text("The correction brought +18.0 points").first.is_visible()
        assert it.page.get_by_text("Refused", exact=True).is_visible()
        assert it.page.locator("a[href^='https://mlflow.example']").is_visible()
        for told in ("support (chosen)", "maj@8 50.0%", "ended in memory", "ways to begin"):
            assert it.page.get_by_text(told).first.is_visible(), told


@pytest.mark.parametrize(("scheme", "width"), [("dark", 390), ("light", 1400)])
def test_a_failed_check_stands_open_with_measured_and_limit_and_the_others_behind_a_fold(
    compared_page: str, tmp_path: Path, opened: Any, scheme: str, width: int
) -> None:
    file = tmp_path / "compared.html"
    file.write_text(compared_page, encoding="utf-8")
    with opened(file, scheme, width) as it:
        failed, passed = it.page.locator(".checks tbody").all()
        assert failed.locator("th").inner_text() == f"✗ fails\nbetter than the champion: sums {TEXT}"
        assert failed.is_visible()
        assert not passed.is_visible()
        it.page.locator(".checks summary").click()
        cells = passed.locator("tr").last.locator("th, td")
        told = ["✓ holds\nanswers cut off: sums", "0.0% of the answers truncated", "at most 50% allowed"]
        assert cells.all_inner_texts() == told
        for row in it.page.locator(".checks tbody tr").all():
            boxes = [cell.bounding_box() for cell in row.locator("th, td").all()]
            way, across = ("y", "x") if width == 390 else ("x", "y")  # one below the other, or side by side
            assert boxes[0][way] < boxes[1][way] < boxes[2][way]
            assert len({round(box[across]) for box in boxes}) == 1
            assert min(box["width"] for box in boxes) > 200
        assert it.page.evaluate(CUT) == []
        assert faults(it.page) == []
        assert min(it.page.evaluate(CONTRAST, ".checks th, .checks td, .checks span, .checks summary")) >= 4.5


def test_what_the_correction_brought_is_whole_on_paper(compared_page: str, tmp_path: Path, opened: Any) -> None:
    file = tmp_path / "compared.html"
    file.write_text(compared_page, encoding="utf-8")
    with opened(file, width=PAPER) as it:
        it.page.emulate_media(media="print")
        assert it.page.evaluate(CUT) == []


def test_on_paper_the_report_is_whole(full_page: str, tmp_path: Path, opened: Any) -> None:  # noqa: F811
    file = tmp_path / "report.html"
    file.write_text(full_page, encoding="utf-8")
    with opened(file, width=PAPER) as it:
        it.page.emulate_media(media="print")
        assert it.page.evaluate(CUT) == []
        heads = it.page.locator(".wide thead").first
        assert heads.bounding_box()["height"] > 10  # tables stay tables, with their heads
        answers = it.page.locator(".changed pre")
        assert answers.count() > 5
        assert all(answer.is_visible() for answer in answers.all())
        assert it.page.is_hidden("nav")


def test_a_reader_finds_an_answer_and_takes_the_values_along(full_page: str, tmp_path: Path, opened: Any) -> None:  # noqa: F811
    file = tmp_path / "report.html"
    file.write_text(full_page, encoding="utf-8")
    with opened(file) as it:
        page = it.page
        row = page.locator(".changed tbody tr").first
        assert row.locator("th").inner_text() == "better 1"
        assert "The problem 2" in row.locator("summary").inner_text()
        assert row.locator("td").nth(1).inner_text() == TEXT
        row.locator("summary").click()
        assert row.locator("pre").first.is_visible()
        with page.expect_download() as waiting:
            page.locator("a[download='accuracy.csv']").click()
        assert waiting.value.suggested_filename == "accuracy.csv"
        assert "sums" in Path(waiting.value.path()).read_text(encoding="utf-8")


@pytest.mark.parametrize(("width", "scheme", "phone"), [(1400, "light", False), (390, "dark", True)])
def test_a_plot_tells_the_value_under_mouse_finger_and_keys(
    full_page: str,  # noqa: F811
    tmp_path: Path,
    opened: Any,
    width: int,
    scheme: str,
    phone: bool,
) -> None:
    file = tmp_path / "report.html"
    file.write_text(full_page, encoding="utf-8")
    with opened(file, scheme, width, phone=phone) as it:
        page = it.page
        figure = page.locator("figure[data-name=accuracy]")
        plot, tip = figure.locator(".plot"), figure.locator(".tip")
        assert not tip.is_visible()
        plot.scroll_into_view_if_needed()
        box = plot.locator("svg").bounding_box()
        places = [one.split(",") for one in figure.get_attribute("data-at").split(";")]
        wanted = base64.b64decode(figure.locator("a").get_attribute("href").split(",")[1]).decode().splitlines()[1:]
        assert len(places) == len(wanted) > 4
        for place, row in list(zip(places, csv.reader(wanted), strict=True))[::2]:
            x, y = (box[edge] + int(part) / 10_000 * box[side]
                    for edge, side, part in zip(("x", "y"), ("width", "height"), place, strict=True))  # fmt: skip
            (page.touchscreen.tap if phone else page.mouse.move)(x, y)
            told = tip.inner_text()
            assert told.startswith(f"{row[1]}\n{row[2]}: {float(row[3]):.4g}"), told
            assert f"{float(row[4]):.4g} to {float(row[5]):.4g}" in told
            shown = tip.bounding_box()
            assert shown["x"] >= 0
            assert shown["x"] + shown["width"] <= width + 1
        assert faults(page) == []
        assert page.evaluate(CUT) == []
        first = page.locator("figure[data-name=loss] .plot")
        first.focus()
        told = page.locator("figure[data-name=loss] .tip")
        seen = []
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "End", "ArrowLeft"):
            page.keyboard.press(key)
            seen.append(told.inner_text())
        assert seen[0] == "training (weighted, of the step)\n1 at 1"
        assert seen[1] == "training (weighted, of the step)\n0.5 at 2"
        assert seen[2].startswith("selection split")
        assert len(set(seen)) == 5
        page.keyboard.press("Escape")
        assert not told.is_visible()


def test_a_plot_goes_along_as_a_picture(full_page: str, tmp_path: Path, opened: Any) -> None:  # noqa: F811
    file = tmp_path / "report.html"
    file.write_text(full_page, encoding="utf-8")
    with opened(file, "dark") as it:
        with it.page.expect_download() as waiting:
            it.page.locator("figure[data-name=accuracy] button").click()
        assert waiting.value.suggested_filename == "accuracy.svg"
        text = Path(waiting.value.path()).read_text(encoding="utf-8")
        drawn = ElementTree.fromstring(text)
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
        assert "background: #fff" in drawn.attrib["style"]
        assert "sums" in text
        assert it.page.locator("figure button").count() == it.page.locator("figure[data-at]").count() == 7


@pytest.fixture
def card(tmp_path: Path, tiny_student: Path) -> Path:
    """The data card of hostile rows from a file with a long name."""
    folder = tmp_path / ("a-long-name-" * 14)
    folder.mkdir()
    rows = [
        {"problem": f"How much is {n} + 1? {TEXT}", "response": f"{n + 1} #### {n + 1}", "gold": str(n + 1)}
        for n in range(4)
    ]
    rows.append({"problem": TEXT, "response": TEXT, "gold": "4"})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Ingest(tmp_path, tiny_student)(sources=[str(folder / "rows.jsonl")]).out / "card.html"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [390, 800, 1400])
def test_the_data_card_is_readable_and_inert(card: Path, opened: Any, scheme: str, width: int) -> None:
    with opened(card, scheme, width) as it:
        assert it.page.evaluate("document.documentElement.scrollWidth") <= width
        assert it.page.evaluate(CUT) == []
        assert faults(it.page) == []
        assert "of 5 traces accepted" in it.page.inner_text(".lead")
        assert it.page.evaluate("document.querySelectorAll('script, img, iframe').length") == 0
