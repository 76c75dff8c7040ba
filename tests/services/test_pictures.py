"""The script that takes the pictures of the docs, and that no page cuts anything off, plots included."""

from __future__ import annotations

import importlib.util
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from dcod.config import Config, CorrectionConfig, TrainConfig
from dcod.errors import UserError
from dcod.reports import trace_pages
from tests.reports.test_report import full_page  # noqa: F401 (a fixture)
from tests.services.browsing import CUT, PAPER
from tests.viewed import write_set

pytestmark = pytest.mark.service

DOCS = Path(__file__).parents[2] / "docs"
# Text of a plot that reaches beyond the plot.
BEYOND = """() => [...document.querySelectorAll('figure svg text')].filter((text) => {
  const [inner, outer] = [text, text.closest('svg')].map((one) => one.getBoundingClientRect());
  return inner.width && (inner.left < outer.left - 1 || inner.right > outer.right + 1
    || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1);
}).map((text) => text.textContent)"""


@pytest.fixture
def run(full_page: str, tmp_path: Path, tiny_student: Path) -> Path:  # noqa: F811
    """What a run leaves to look at."""
    _, scores, _ = write_set(tmp_path / "set", tiny_student, 40, hostile=False)
    config = Config(name="pictured", train=TrainConfig(correction=CorrectionConfig(name="surprisal")))
    folder = tmp_path / "run" / "decision"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text(full_page, encoding="utf-8")
    (folder / "traces.html").write_text(trace_pages.page(config, scores, tiny_student), encoding="utf-8")
    return tmp_path / "run"


def pictures() -> Any:
    spec = importlib.util.spec_from_file_location("docs_pictures", DOCS / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def size_and_colours(file: Path) -> tuple[tuple[int, int], int]:
    """Of a PNG: width and height, and how many different bytes its picture has."""
    data = file.read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    chunks, at = b"", 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunks += data[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    return (width, height), len(set(zlib.decompress(chunks)))


def test_all_pictures_of_the_docs_are_taken_of_a_run(run: Path, tmp_path: Path) -> None:
    code = pictures()
    taken = code.take(run, tmp_path / "images")
    assert [file.name for file in taken] == list(code.PICTURES)
    for file in taken:
        size, colours = size_and_colours(file)
        assert size == code.PICTURES[file.name].size
        assert colours > 50
        assert size_and_colours(DOCS / "images" / file.name)[0] == size  # the ones that are there
    shown = re.findall(r"images/([\w-]+\.png)", (DOCS / "pages.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(code.PICTURES)
    with pytest.raises(UserError, match=r"no report\.html"):
        code.take(tmp_path / "images")


def test_those_of_a_pilot_are_there_and_shown() -> None:
    code = pictures()
    shown = re.findall(r"images/([\w-]+\.png)", (DOCS / "arms.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(code.PILOT)
    for name, picture in code.PILOT.items():
        size, colours = size_and_colours(DOCS / "images" / name)
        assert size == picture.size
        assert colours > 50


@pytest.mark.parametrize("page", ["report.html", "traces.html"])
@pytest.mark.parametrize(("width", "media"), [(390, "screen"), (1400, "screen"), (PAPER, "print")])
def test_nothing_is_cut(run: Path, opened: Any, page: str, width: int, media: str) -> None:
    with opened(run / "decision" / page, "dark", width, phone=width == 390) as it:
        it.page.emulate_media(media=media)
        assert it.page.evaluate("document.documentElement.scrollWidth") <= width
        assert it.page.evaluate(CUT) == []
        texts = it.page.locator("figure svg text").count()
        assert (texts > 50) == (page == "report.html")
        assert it.page.evaluate(BEYOND) == []
