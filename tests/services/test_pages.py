"""The pages in a real browser, headless Chromium: no error, no request, filters that filter, hostile traces inert."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dcod.config import Config, CorrectionConfig, TrainConfig
from dcod.reports import trace_pages
from tests.pipelines.test_distill import dcod
from tests.reports.test_report import full_page  # noqa: F401 (a fixture)
from tests.reports.test_trace_pages import data_of
from tests.viewed import HOSTILE, write_set

pytestmark = pytest.mark.service

CONFIG = Config(name="viewed", train=TrainConfig(correction=CorrectionConfig(name="surprisal", scope="token")))
SCHEMES = ("light", "dark")
# The contrast of every element's text against what lies behind it, at least 4.5 to be readable (WCAG 2, AA).
CONTRAST = """(selector) => {
  const parse = (text) => {
    const parts = text.match(/[\\d.e-]+/g).map(Number);
    const whole = text.startsWith("color(") ? parts.slice(0, 3) : parts.slice(0, 3).map((part) => part / 255);
    return [...whole, parts[3] ?? 1];
  };
  const over = (top, below) => top.slice(0, 3).map((part, i) => part * top[3] + below[i] * (1 - top[3]));
  const light = (rgb) => rgb.map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  return [...document.querySelectorAll(selector)].map((element) => {
    const layers = [];
    for (let node = element; node; node = node.parentElement) {
      layers.push(parse(getComputedStyle(node).backgroundColor));
    }
    const ground = layers.reverse().reduce((below, top) => over(top, below), [1, 1, 1]);
    const ink = parse(getComputedStyle(element).color).slice(0, 3);
    const pair = [light(ink), light(ground)].sort((a, b) => a - b);
    return (pair[1] + 0.05) / (pair[0] + 0.05);
  });
}"""


class Opened:
    """A page in the browser, with all that it complained about or asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def count(self) -> int:
        """What the list says it holds."""
        return int(self.page.inner_text("#count").split(" of ")[-1].split()[0].replace(",", ""))

    def choose(self, by: str) -> None:
        self.page.check(f"[name=by][value={by}]")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "`make test-services` installs Chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium)
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Callable[..., Any]:
    """Opens a file; afterwards nothing may have been asked for but the file, and nothing complained about."""

    @contextmanager
    def open_file(path: Path, scheme: str = "light", width: int = 1360) -> Iterator[Opened]:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 860})
        found = Opened(context.new_page())
        found.page.goto(path.as_uri())
        yield found
        assert found.complaints == []
        asked = {url.partition("#")[0] for url in found.requests if not url.startswith("data:")}
        assert asked == {path.as_uri()}
        assert found.page.evaluate("window.hacked") is None
        context.close()

    return open_file


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
    assert done.stdout == "wrote traces.html\n"
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
        assert page.url.endswith(f"#{best['id']}")
    with opened(viewed) as it:
        it.page.goto(f"{viewed.as_uri()}#{rows[7]['id']}")
        it.page.reload()
        assert it.page.inner_text("#name") == "Trace 8 of 120"


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
        assert page.locator("#own .text").count() == 1  # the student answered two prompts
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


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tokens_stay_readable_on_every_colour(viewed: Path, opened: Any, scheme: str) -> None:
    with opened(viewed, scheme) as it:
        for by in ("weight", "surprisal", "gap"):
            it.choose(by)
            found = it.page.evaluate(CONTRAST, "#ramp span, #tokens span, #facts dd, #facts dt, #why, .meta span")
            assert len(found) > 30
            assert min(found) >= 4.5, by


@pytest.mark.parametrize("width", [390, 1360])
def test_nothing_sticks_out(viewed: Path, opened: Any, width: int) -> None:
    with opened(viewed, width=width) as it:
        assert it.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_thousand_long_traces_draw_only_what_is_seen(tmp_path: Path, tiny_student: Path, opened: Any) -> None:
    traces, scores, _ = write_set(tmp_path, tiny_student, 1000, longer=300)
    file = tmp_path / "page.html"
    file.write_text(trace_pages.page(CONFIG, scores, tiny_student, traces=traces), encoding="utf-8")
    assert file.stat().st_size < 20e6
    with opened(file) as it:
        assert it.count() == 1000
        assert it.page.locator("#tokens span").count() >= 300
        assert it.page.evaluate("document.querySelectorAll('*').length") < 6000
        it.page.fill("[name=text]", "how much is 499")
        assert it.count() == 2
        took = it.page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive")
        print(json.dumps({"bytes": file.stat().st_size, "interactive_ms": took}))


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
