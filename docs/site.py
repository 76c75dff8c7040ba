"""What mkdocs.yml leaves to code: the pages keep their places in the repository, so that one link serves both.

A page links to another as it does on a forge: README.md to docs/traces.md, docs/teach.md to ../examples/loop.py. So
the site has the tree of the repository. It holds what the navigation names, and whatever is linked from there, page by
page; a link that leads nowhere is a warning, and --strict makes an error of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def named(nav: Sequence[Any]) -> Iterator[str]:
    """The pages of a navigation, in its order."""
    for entry in nav:
        value = next(iter(entry.values())) if isinstance(entry, Mapping) else entry
        if isinstance(value, str):
            yield value
        else:
            yield from named(value)


def linked(page: str) -> Iterator[str]:
    """The files of the repository that a page links to, by their path from the root; also those that do not exist."""
    text = _CODE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        place = link.partition("#")[0]
        if place and "://" not in link and not link.startswith("mailto:"):
            yield normpath(str(PurePosixPath(page).parent / place))


def tree(pages: Sequence[str]) -> list[str]:
    """The pages, and the files that can be reached from them by links, every name once."""
    found, todo = dict.fromkeys(pages), list(pages)
    while todo:
        for name in linked(todo.pop()):
            if name not in found and (ROOT / name).is_file():
                found[name] = None
                todo += [name] if name.endswith(".md") else []
    return list(found)


def on_config(config: Any) -> Any:
    """Headings get the anchors that they have on a forge."""
    from pymdownx.slugs import slugify

    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Any, config: Any) -> Any:
    """The files of the site: those of the theme, and ours from the whole repository instead of docs/ alone."""
    from mkdocs.structure.files import File, Files

    kept = [file for file in files if file.src_dir != config.docs_dir]
    assert any(file.src_uri.endswith(".css") for file in kept), "a site without the theme's style"
    names = tree(list(named(config.nav)))
    return Files(kept + [File.generated(config, name, abs_src_path=str(ROOT / name)) for name in names])
