"""The pictures of docs/images, taken anew by `python docs/pictures.py [RUN] [OUT]` in .venv of `make test-services`.

RUN is a folder of `dcod run --preset quickstart`, else the newest; its report and its traces are opened in Chromium.
With `--pilot RUN [OUT]` it is that of a run with `train.arms`, of which the pictures of docs/arms.md are taken: there
one of tests/pipelines/test_auto.py. What is on a picture is decided here alone, so that
the next ones show the same.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcod.errors import UserError
from dcod.reports import latest

IMAGES = Path(__file__).resolve().parent / "images"


@dataclass(frozen=True)
class Picture:
    """One picture: of which page, in which colours, how large, and what is done before."""

    page: str
    scheme: str
    size: tuple[int, int]
    before: Callable[[Any], None]


def top(_: Any) -> None:
    """The page as it opens."""


def at_training(page: Any) -> None:
    """The plots of the training, with the values of a mark."""
    plot = page.locator("figure[data-name=loss] .plot")
    plot.evaluate("plot => scrollTo(0, plot.getBoundingClientRect().top + scrollY - 90)")
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.6 * box["height"])


def at_a_token(page: Any) -> None:
    """Coloured by surprisal, with the numbers of one token."""
    page.check("[name=by][value=surprisal]")
    page.locator("#tokens span").nth(3).hover()


def by_weight(page: Any) -> None:
    """Coloured by weight, the lowest first."""
    page.select_option("[name=order]", "weight")
    page.check("[name=by][value=weight]")
    page.locator("#rows li").first.click()


def at_the_pilot(page: Any) -> None:
    """What the pilot chose and why, the arms side by side, and the plot of all."""
    heading = page.get_by_role("heading", name="The pilot", exact=True)
    heading.evaluate("one => scrollTo(0, one.getBoundingClientRect().top + scrollY - 20)")


PICTURES = {
    "report.png": Picture("report.html", "light", (1180, 1000), top),
    "report-dark.png": Picture("report.html", "dark", (1180, 900), at_training),
    "viewer.png": Picture("traces.html", "light", (1280, 760), at_a_token),
    "viewer-dark.png": Picture("traces.html", "dark", (1280, 760), by_weight),
}

PILOT = {
    "pilot.png": Picture("report.html", "light", (1180, 620), top),
    "arms.png": Picture("report.html", "light", (1180, 720), at_the_pilot),
}


def take(run: Path | None, out: Path = IMAGES, pictures: Mapping[str, Picture] = PICTURES) -> list[Path]:
    """Takes all pictures of a run; returns their files.

    Raises:
        UserError: the run has no report, or none of its traces.
    """
    from playwright.sync_api import sync_playwright

    report = latest.report_of(run)
    if not report.with_name("traces.html").is_file():
        raise UserError(f"{report.parent}: no traces.html beside the report")
    chromium = shutil.which("chromium")
    if chromium is None:
        raise UserError("there is no chromium here; `make test-services` installs one")
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        for name, picture in pictures.items():
            width, height = picture.size
            page = browser.new_page(color_scheme=picture.scheme, viewport={"width": width, "height": height})
            page.goto(report.with_name(picture.page).resolve().as_uri())
            picture.before(page)
            page.screenshot(path=out / name)
            page.close()
        browser.close()
    return [out / name for name in pictures]


if __name__ == "__main__":
    try:
        of_pilot = sys.argv[1:2] == ["--pilot"]
        run, out = [*map(Path, sys.argv[1 + of_pilot :]), None, None][:2]
        told = take(run, out or IMAGES, PILOT if of_pilot else PICTURES)
    except UserError as mistake:
        sys.exit(str(mistake))
    print("\n".join(map(str, told)))
