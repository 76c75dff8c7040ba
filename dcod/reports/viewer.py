"""Self-contained pages: template, style, script and data of this folder in one HTML file that asks no network.

What comes from a trace is data. It travels as JSON in a block that no browser executes, with every ``<`` written as
an escape, so that it cannot end the block; the script puts it on the page as text. The page's own policy allows
its one script and its one style by their hashes, and nothing else: not even a mistake in them could load or run more.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

NONE = "'none'"
TEMPLATES = Environment(
    loader=PackageLoader("dcod.reports", "assets"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(name: str, title: str, data: Any) -> str:
    """The page ``name`` of this folder with its data.

    Args:
        name: of ``NAME.html``, ``NAME.js`` and ``NAME.css``; ``common.css`` goes before the latter, and the files
            ``NAME_….js`` before the script, which is one.
        title: of the page, as plain text.
        data: what JSON can hold, without NaN and infinities.
    """
    style = source("common.css") + source(f"{name}.css")
    script = "".join(source(part) for part in (*_in_front(name), f"{name}.js"))
    safe = {"policy": policy(script, _hash(style)), "style": style, "script": script, "data": as_json(data)}
    parts = {name: Markup(text) for name, text in safe.items()}  # noqa: S704 - of this folder, and escaped JSON
    return TEMPLATES.get_template(f"{name}.html").render(title=title, **parts)


def policy(script: str, style: str) -> str:
    """What a page may do: run this one script ("" for none) and take its styles from there, nothing else."""
    return f"default-src 'none'; script-src {_hash(script) if script else NONE}; style-src {style}; base-uri 'none'"


def _in_front(name: str) -> list[str]:
    names = (file.name for file in files("dcod.reports").joinpath("assets").iterdir())
    return sorted(file for file in names if file.startswith(f"{name}_") and file.endswith(".js"))


def source(name: str) -> str:
    """A file of this folder."""
    return files("dcod.reports").joinpath("assets", name).read_text(encoding="utf-8")


def as_json(data: Any) -> str:
    """JSON that can stand in a script block: ASCII, without ``<``, ``>`` and ``&``."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
