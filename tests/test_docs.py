"""Links between pages lead somewhere, and every page, verb and preset is told about."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcod_pipelines.presets import names

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("bench/**/*.md")]
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def text_of(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower().replace("`", "")).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(text_of(page)):
        if "://" in link or link.startswith("mailto:"):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    assert len(pages) >= 15
    assert [name for name in pages if f"docs/{name}" not in readme] == []


KINDS = ["Tutorial", "How-to", "Reference", "Explanation"]


def site() -> Any:
    spec = importlib.util.spec_from_file_location("site_of_docs", ROOT / "docs" / "site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_navigation_of_the_site_names_every_page_once() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    nav = settings["nav"]
    assert nav[0] == {"Home": "README.md"}
    assert [next(iter(part)) for part in nav[1:]] == KINDS
    assert all(len(list(site().named([part]))) >= 6 for part in nav[1:])
    pages = list(site().named(nav))
    assert len(pages) == len(set(pages)), "a page is named twice"
    there = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {name for name in there if name.startswith(("docs/", "examples/"))} - set(pages) == set()
    assert set(pages) - there == set(), "mkdocs.yml names a page that is not there"


def test_the_site_has_whatever_its_pages_link_to() -> None:
    code = site()
    pages = list(code.named(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    on_site = set(code.tree(pages))
    assert len(on_site) > len(pages) + 5  # pictures, the page of code
    for page in (name for name in on_site if name.endswith(".md")):
        for name in code.linked(page):
            assert name in on_site, f"{page}: {name} is no file that a site can hold"


def test_every_preset_is_told_about() -> None:
    told = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert len(names()) >= 3
    assert [name for name in names() if name not in told] == []


# "not run on a GPU", in whatever words; "2 cores, no GPU" says where something was measured.
NOT_ON_A_GPU = re.compile(
    r"\b(not|nothing|none|never|nobody|no figure)\b.{0,120}\b(on|of|about) (a |one |several )?GPUs?\b"
    r"|\bGPUs?\b.{0,60}\b(not|never) (run|measured|tried|tested)|\bno GPU was\b",
    re.IGNORECASE,
)
NAMED = re.compile(r"(?:bench/gpu|tests/gpu|tests/train|tests/engines)[\w/.]*|python -m bench\.gpu[\w.]*")


def test_what_was_not_run_on_a_gpu_names_its_check() -> None:
    """The day that one is there, the check is known; and it is there."""
    found = []
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        for sentence in re.split(r"(?<=[.!?])\s+|\n\n|\n[|-] ", text_of(page)):
            said = " ".join(sentence.split())
            if NOT_ON_A_GPU.search(said):
                found.append(f"{page.name}: {said}")
    assert len(found) >= 8
    assert [one for one in found if not NAMED.search(one)] == []
    for name in {name.rstrip("./") for one in found for name in NAMED.findall(one)}:
        place = name.removeprefix("python -m ").replace(".", "/") if name.startswith("python") else name
        assert any((ROOT / f"{place}{end}").exists() for end in ("", ".py")), name
