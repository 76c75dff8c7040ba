"""The names that a configuration allows are those of the tables that it chooses from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

import dcod
from dcod.config import CorrectionConfig, IngestConfig, LossConfig
from dcod.config.teach import EngineConfig
from dcod.ingest.examine import UNMARKED
from dcod.objective.corrections import CORRECTIONS, Group
from dcod.objective.losses import LOSSES

ROOT = Path(dcod.__file__).parent


def choices(section: type[BaseModel], field: str) -> list[str]:
    annotation = section.model_fields[field].annotation
    assert get_origin(annotation) is Literal
    return list(get_args(annotation))


def engines() -> set[str]:
    """The modules that hold one."""
    files = (ROOT / "engines").glob("[!_]*.py")
    return {file.stem for file in files if "    def generate(" in file.read_text(encoding="utf-8")} - {"base"}


@pytest.mark.parametrize(
    ("section", "field", "names", "table"),
    [
        (CorrectionConfig, "name", set(CORRECTIONS), "CORRECTIONS of dcod/objective/corrections"),
        (LossConfig, "name", set(LOSSES), "LOSSES in dcod/objective/losses.py"),
        (EngineConfig, "name", engines(), "the modules of dcod/engines"),
        (
            CorrectionConfig,
            "group",
            {"auto", *get_args(Group)} - {"none"},
            "Group in dcod/objective/corrections/_types.py",
        ),
        (IngestConfig, "answers", {"marked", *UNMARKED}, "UNMARKED in dcod/ingest/examine.py"),
    ],
    ids=["correction", "loss", "engine", "group", "answers"],
)
def test_a_choice_is_its_table(section: Any, field: str, names: set[str], table: str) -> None:
    allowed = choices(section, field)
    assert len(names) >= 3
    assert len(allowed) == len(set(allowed))
    missing, gone = sorted(names - set(allowed)), sorted(set(allowed) - names)
    way_out = f"add it to {section.__name__}.{field} in dcod/config, or take it out of {table}"
    assert not missing, f"{', '.join(missing)} of {table} cannot be chosen: {way_out}"
    assert not gone, f"{section.__name__}.{field} allows {', '.join(gone)}, which {table} has not: {way_out}"
