"""The page of the traces in a real browser: filters, keys, touch, colours, address; hostile traces stay text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod.config import Config, CorrectionConfig, TrainConfig
from dcod.reports import trace_pages
from tests.pipelines.test_distill import dcod
from tests.reports.test_trace_pages import data_of
from tests.services.browsing import CONTRAST, CUT, PAPER, SCHEMES, faults
from tests.viewed import HOSTILE, write_set

pytestmark = pytest.mark.service

CONFIG = Config(name="viewed", train=TrainConfig(correction=CorrectionConfig(name="surprisal", scope="token")))


@pytest.fixture(scope="module")
def viewed(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Path:
    """The page of 120 traces, by the command line; beside it the folders that it came from."""
    folder = tmp_path_factory.mktemp("viewed")
    write_set(folder, tiny_student, 120)
    (folder / "config.json").write_text(CONFIG.to_json())
    done = dcod(
        folder, "inspect", "scores", "--traces", "traces", "--student", str(tiny_student), "--config", "config.json",
        "--out", "traces.html", "--no-open", "--answers", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("wrote traces.html\n")
    assert "prompts, " in done.stdout.splitlines()[0]
    return folder / "traces.html"


def test_filters_and_order(viewed: Path, opened: Any) -> None:
    rows = data_of(viewed.read_text(encoding="utf-8"))["traces"]

    def mean(row: dict[str, Any]) -> float | None:
        weight = row["weight"]
        return sum(weight) / len(weight) if isinstance(weight, list) else weight

    with opened(viewed) as it:
        page = it.page
        assert it.count() == 120
        assert page.locator("#rows li").count() == 50
        page.click("#more")
        page.click("#more")
        assert page.locator("#rows li").count() == 20
        assert page.is_disabled("#more")
        page.select_option("[name=verdict]", "wrong")
        assert it.count() == sum(row["verdict"] == "wrong" for row in rows) == 24
        page.select_option("[name=source]", "file1.jsonl")
        assert it.count() == sum(row["verdict"] == "wrong" and row["source_file"] == "file1.jsonl" for row in rows) > 0
        page.select_option("[name=verdict]", "")
        page.select_option("[name=source]", "")
        page.fill("[name=text]", "is 41 AND 1")
        assert it.count() == 2
        page.fill("[name=text]", "no such text")
        assert it.count() == 0
        page.fill("[name=text]", "")
        page.fill("[name=least]", "0.9")
        page.fill("[name=most]", "1.1")
        within = [row for row in rows if (m := mean(row)) is not None and 0.9 <= m <= 1.1]
        assert it.count() == len(within) > 0
        page.fill("[name=least]", "")
        page.fill("[name=most]", "")
        page.select_option("[name=order]", "-weight")
        page.locator("#rows button").first.click()
        best = max((row for row in rows if row["weight"] is not None), key=lambda row: mean(row) or 0.0)
        assert page.url.endswith(f"#order=-weight&trace={best['id']}")
    with opened(viewed, state=f"#{rows[7]['id']}") as it:  # an address as it was before it held more
        assert it.page.inner_text("#name") == "Trace 8 of 120"


def test_the_address_holds_the_whole_state(viewed: Path, opened: Any) -> None:
    with opened(viewed) as it:
        page = it.page
        page.fill("[name=text]", "how much & 1? #=%")
        page.fill("[name=text]", "how much is")
        page.select_option("[name=verdict]", "wrong")
        page.fill("[name=least]", "0.5")
        page.select_option("[name=order]", "-length")
        it.choose("gap")
        page.locator("#rows button").nth(2).click()
        left = it.state()
        address = page.url
    assert left["count"] > 3
    with opened(viewed, state=f"#{address.partition('#')[2]}") as it:
        assert it.state() == left
        it.page.evaluate("location.hash = '#order=no&by=toString&verdict=<b>&least=x&trace=%E0%A4%A'")  # is only text
        it.page.wait_for_function("document.querySelector('[name=text]').value === ''")
        assert it.count() == 120
        assert it.page.input_value("[name=order]") == "far"


def test_a_first_look_shows_what_varies(viewed: Path, tmp_path: Path, tiny_student: Path, opened: Any) -> None:
    """Colours that differ within a trace, and rows that are not held back, whatever the correction."""
    traces, scores, _ = write_set(tmp_path, tiny_student, 24)
    pages = {("weight", "far"): viewed}
    for name, correction, first in (
        ("whole", CorrectionConfig(name="surprisal", scope="trace"), ("surprisal", "far")),
        ("plain", CorrectionConfig(), ("surprisal", "-surprisal")),
    ):
        config = Config(train=TrainConfig(correction=correction, traces_per_step=8))
        pages[first] = tmp_path / f"{name}.html"
        pages[first].write_text(trace_pages.page(config, scores, tiny_student, traces=traces), encoding="utf-8")
    assert len(pages) == 3
    for (by, order), file in pages.items():
        with opened(file) as it:
            page = it.page
            assert page.input_value("[name=order]") == order
            assert page.is_checked(f"[name=by][value={by}]")
            shades = "[...document.querySelectorAll('#tokens span')].map(s => s.style.getPropertyValue('--t'))"
            strong = [float(value or 0) for value in page.evaluate(shades)]
            assert max(strong) - min(strong) > 0.3
            assert page.locator("#rows li").first.locator(".strip i.q").count() > 5
            if order == "far":
                assert "held back" not in page.locator("#rows .meta").first.inner_text()
            uneven = page.is_disabled("[name=order] option[value='-weight']")
            assert uneven == (order == "-surprisal")
            if uneven:
                assert "every trace weighs the same" in page.text_content("[name=order] option[value='-weight']")


def test_what_the_student_itself_wrote_is_marked_and_found(tmp_path: Path, tiny_student: Path, opened: Any) -> None:
    traces, scores, _ = write_set(tmp_path, tiny_student, 6, own=2)
    text = trace_pages.page(CONFIG, scores, tiny_student, traces=traces)
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    with opened(tmp_path / "page.html") as it:
        page = it.page
        page.select_option("[name=order]", "")
        said = [text.split("\n")[0] for text in page.locator("#rows .meta").all_inner_texts()]
        assert ["written by the student itself" in text for text in said] == [True, True, False, False, False, False]
        page.locator("#rows button").first.click()
        assert page.inner_text("#writer") == "The trace, written by the student itself"
        assert f"student:{HOSTILE}" in page.text_content("#facts")
        page.locator("#rows button").nth(2).click()
        assert page.inner_text("#writer") == "The teacher's trace"
        assert "itself" not in page.inner_text("#facts")
        page.fill("[name=text]", "Written by the student")
        assert it.count() == 2
        assert page.evaluate("window.hacked") is None


def test_a_search_is_marked_and_empties_what_does_not_fit(viewed: Path, opened: Any) -> None:
    marked = "(name) => [...CSS.highlights.get(name)].map(range => range.toString())"
    with opened(viewed) as it:
        page = it.page
        page.fill("[name=text]", "40 + 1 = 41")
        assert it.count() == 2
        assert page.is_visible("#empty")
        assert page.is_hidden("#shown")
        assert "does not fit" in page.inner_text("#empty")
        assert page.locator("#rows .snip").count() == 2  # the head shows the prompt, the hit is in the trace
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        assert page.evaluate(marked, "found-token") == ["40 + 1 = 41"]
        assert page.evaluate(marked, "found") == ["40 + 1 = 41"] * 2
        page.fill("[name=text]", "HOW MUCH")
        assert "How much" in page.evaluate(marked, "found")
        page.fill("[name=text]", "no such text")
        assert it.count() == 0
        assert page.is_visible("#none")
        assert "No trace fits" in page.inner_text("#empty")
        assert page.is_hidden("#tip")
        page.click("#none .clear")
        assert it.count() == 120
        assert page.is_visible("#shown")  # the trace that was open is back
        assert page.evaluate(marked, "found") == []
        assert page.is_hidden("#clear")


def test_the_keys(viewed: Path, opened: Any) -> None:
    with opened(viewed) as it:
        page = it.page
        here = "document.activeElement.dataset.index ?? document.activeElement.id"

        def number() -> int:
            return int(page.inner_text("#name").split()[1]) - 1

        order = [int(page.locator("#rows button").nth(i).get_attribute("data-index")) for i in range(4)]
        page.keyboard.press("Tab")
        assert page.evaluate(here) == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate(here) == "trace"
        page.keyboard.press("j")
        page.keyboard.press("j")
        assert number() == order[2]
        page.keyboard.press("k")
        assert number() == order[1]
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.name") == "text"
        page.keyboard.type("j?/")
        assert page.input_value("[name=text]") == "j?/"
        assert page.is_hidden("#help")
        page.fill("[name=text]", "")
        tabs = 0
        while page.evaluate(here) != "tokens":
            page.keyboard.press("Tab")
            tabs += 1
        assert tabs < 25  # the list is one stop, not fifty
        page.keyboard.press("?")
        assert page.is_visible("#help")
        page.keyboard.press("Escape")
        assert page.is_hidden("#help")
        page.locator("#rows button").nth(1).focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowUp")
        assert page.evaluate(here) == str(order[2])
        page.keyboard.press("Enter")
        assert number() == order[2]
        page.keyboard.press("End")
        page.keyboard.press("ArrowDown")
        assert page.inner_text("#count").startswith("51–100")


def test_a_tap_shows_the_trace_and_a_tokens_numbers(viewed: Path, opened: Any) -> None:
    with opened(viewed, width=390, phone=True) as it:
        page = it.page
        height = page.evaluate("innerHeight")
        assert page.locator("#trace").bounding_box()["y"] > 400
        page.locator("#rows button").nth(1).tap()
        box = page.locator("#trace").bounding_box()
        assert -1 <= box["y"] <= 1
        assert page.locator("#name").bounding_box()["y"] < height / 2
        page.locator("#tokens span").nth(2).tap()
        assert "position\t3 of" in page.inner_text("#tip")
        tip = page.locator("#tip").bounding_box()
        assert (tip["x"], round(tip["width"]), round(tip["y"] + tip["height"])) == (0, 390, height)
        page.locator("#tokens span").nth(4).tap()
        assert "position\t5 of" in page.inner_text("#tip")
        page.locator("#tokens span").nth(4).tap()
        assert page.is_hidden("#tip")
        page.locator("#next").tap()
        assert page.is_hidden("#empty")
        page.locator("#to-list").tap()
        assert page.locator("#rows").bounding_box()["y"] < height


def test_without_answers_it_says_how_to_get_them(tmp_path: Path, tiny_student: Path, opened: Any) -> None:
    traces, scores, _ = write_set(tmp_path, tiny_student, 6)
    file = tmp_path / "page.html"
    file.write_text(trace_pages.page(CONFIG, scores, tiny_student, traces=traces), encoding="utf-8")
    with opened(file) as it:
        page = it.page
        assert "`" not in page.inner_text("main")
        assert page.inner_text("#own code") == "dcod inspect SCORES --traces TRACES --student STUDENT --answers 20"
        wide = page.locator("#tokens").bounding_box()["width"]
        assert wide > 0.9 * page.locator("#facts").bounding_box()["width"]  # no third of the page is empty


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [390, 1400])
def test_no_serious_fault_of_accessibility(viewed: Path, opened: Any, scheme: str, width: int) -> None:
    with opened(viewed, scheme, width) as it:
        assert faults(it.page) == []
        it.page.fill("[name=text]", "no such text")
        assert faults(it.page) == []
        it.page.click("#ask")
        assert faults(it.page) == []


def test_the_check_of_accessibility_finds_planted_faults(viewed: Path, opened: Any) -> None:
    with opened(viewed) as it:
        it.page.evaluate("document.querySelector('#filters label.wide').replaceWith(document.createElement('input'))")
        it.page.evaluate("document.querySelector('#unit').style.color = '#999'")
        assert {fault.partition(":")[0] for fault in faults(it.page)} >= {"label", "color-contrast"}


def test_on_paper_the_trace_is_whole(viewed: Path, opened: Any) -> None:
    with opened(viewed, width=PAPER) as it:
        it.page.emulate_media(media="print")
        assert it.page.evaluate(CUT) == []
        assert it.page.is_hidden("#list")
        assert it.page.is_visible("#tokens")
        assert it.page.evaluate("getComputedStyle(document.querySelector('#tokens .q')).printColorAdjust") == "exact"


def test_a_hostile_trace_is_text(viewed: Path, opened: Any) -> None:
    with opened(viewed) as it:
        page = it.page
        page.fill("[name=text]", "<script>window.hacked")
        assert it.count() == 1
        page.locator("#rows button").first.click()
        assert page.text_content("#prompt p").startswith(HOSTILE)
        assert page.text_content("#tokens").startswith("</script><script>window.hacked = 1</script><img")
        assert HOSTILE in page.text_content("#facts")
        page.locator("#tokens span").nth(1).hover()
        assert page.evaluate("document.querySelectorAll('img, iframe, main script').length") == 0
        assert "window.hacked" in page.text_content("#rows .head")


def test_colours_numbers_and_keys(viewed: Path, opened: Any) -> None:
    row = next(row for row in data_of(viewed.read_text(encoding="utf-8"))["traces"] if row["split"] == "train")
    with opened(viewed) as it:
        page = it.page
        page.locator("#rows button").first.click()
        assert page.locator("#own .text").count() == 1  # the student answers what the page opens with
        page.select_option("[name=order]", "")
        page.locator("#rows button").first.click()
        assert page.inner_text("#name") == "Trace 1 of 120"
        page.focus("#tokens")
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        tip = page.inner_text("#tip")
        gap = row["logp"][2] - row["teacher_logp"][2]
        for value in (f"{row['weight'][2]:.4f}", f"{-row['logp'][2]:.3f} nats", f"{row['entropy'][2]:.3f} nats"):
            assert value in tip
        assert f"{gap:.3f} nats".replace("-", "−") in tip
        assert "position\t3 of" in tip
        page.keyboard.press("Escape")
        assert page.is_hidden("#tip")
        seen = set()
        for by, unit in (("weight", "plain fine-tuning"), ("surprisal", "in nats"), ("gap", "log π − log μ")):
            it.choose(by)
            assert unit in page.inner_text("#unit")
            assert page.locator("#ramp span").count() == 5
            seen.add(page.evaluate("getComputedStyle(document.querySelector('#tokens .q')).backgroundColor"))
        assert len(seen) == 3
        page.focus("#tokens")
        page.keyboard.press("n")
        assert page.inner_text("#name") == "Trace 2 of 120"
        page.fill("[name=text]", "how much is 59 ")
        page.locator("#rows button").last.click()
        assert "12.5 nats" in page.inner_text("#why").replace("−", "")


def test_without_the_teachers_log_probs_the_gap_says_why(tmp_path: Path, tiny_student: Path, opened: Any) -> None:
    _, scores, _ = write_set(tmp_path, tiny_student, 3, teacher=False)
    file = tmp_path / "page.html"
    file.write_text(trace_pages.page(Config(), scores, tiny_student), encoding="utf-8")
    with opened(file) as it:
        assert it.page.is_disabled("[name=by][value=gap]")
        assert "not known token by token" in it.page.inner_text("#by")
        assert it.page.is_disabled("[name=verdict]")
        assert it.page.is_disabled("[name=order] option[value=gap]")
        assert "not known token by token" in it.page.text_content("[name=order] option[value=gap]")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tokens_stay_readable_on_every_colour(viewed: Path, opened: Any, scheme: str) -> None:
    with opened(viewed, scheme) as it:
        for by in ("weight", "surprisal", "gap"):
            it.choose(by)
            found = it.page.evaluate(CONTRAST, "#ramp span, #tokens span, #facts dd, #facts dt, #why, .meta span")
            assert len(found) > 30
            assert min(found) >= 4.5, by


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_sticks_out(viewed: Path, opened: Any, width: int) -> None:
    with opened(viewed, width=width) as it:
        assert it.page.evaluate(CUT) == []
        assert it.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_thousand_long_traces_draw_only_what_is_seen(tmp_path: Path, tiny_student: Path, opened: Any) -> None:
    traces, scores, _ = write_set(tmp_path, tiny_student, 1000, longer=300)
    file = tmp_path / "page.html"
    file.write_text(trace_pages.page(CONFIG, scores, tiny_student, traces=traces), encoding="utf-8")
    assert file.stat().st_size < 20e6
    with opened(file) as it:
        seconds = it.processor_seconds()
        next(seconds)
        it.page.reload()
        spent = {"open": next(seconds)}
        assert it.count() == 1000
        assert it.page.locator("#tokens span").count() >= 300
        assert it.page.evaluate("document.querySelectorAll('*').length") < 6000
        next(seconds)
        it.page.fill("[name=text]", "how much is 499")
        assert it.count() == 2
        spent["search"] = next(seconds)
        it.page.fill("[name=text]", "")
        next(seconds)
        it.page.select_option("[name=order]", "-length")
        spent["sort"] = next(seconds)
        it.page.keyboard.press("j")
        spent["next"] = next(seconds)
        print(json.dumps({"bytes": file.stat().st_size} | spent))
        for what, most in {"open": 3.0, "search": 0.4, "sort": 0.6, "next": 0.3}.items():
            assert 0 < spent[what] < most, spent  # four times what it takes, or more
