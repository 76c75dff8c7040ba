"""The ready configurations that ship with dcod, ``configs/*.yaml``."""

from __future__ import annotations

from importlib.resources import files


def names() -> list[str]:
    """All presets, sorted."""
    entries = files("dcod_pipelines").joinpath("configs").iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml"))


def text_of(name: str) -> str:
    """The YAML of a preset.

    Raises:
        UserError: there is no such preset.
    """
    from dcod.errors import UserError

    if name not in names():
        raise UserError(f"preset {name}: unknown; known: {', '.join(names())}")
    return files("dcod_pipelines").joinpath("configs", f"{name}.yaml").read_text(encoding="utf-8")


def descriptions() -> dict[str, str]:
    """Each preset's first comment line."""
    return {name: text_of(name).splitlines()[0].lstrip("# ") for name in names()}
