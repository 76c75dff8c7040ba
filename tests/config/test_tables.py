"""The names that a configuration allows are those of the tables that it chooses from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

import dcod
import dcod_pipelines
from dcod.config import Config, CorrectionConfig, IngestConfig, LossConfig, PromoteConfig
from dcod.config.mapping import MapConfig, ProblemMap
from dcod.config.teach import EngineConfig, TeachConfig
from dcod.evaluate.results import Answer
from dcod.ingest.examine import UNMARKED
from dcod.objective.corrections import CORRECTIONS, Group
from dcod.objective.losses import LOSSES
from dcod.traces.prompts import INSTRUCTIONS

ROOT = Path(dcod.__file__).parent
PIPELINES = Path(dcod_pipelines.__file__).parent


def choices(section: type[BaseModel], field: str) -> list[str]:
    annotation = section.model_fields[field].annotation
    if get_origin(annotation) is list:
        (annotation,) = get_args(annotation)
    assert get_origin(annotation) is Literal
    return list(get_args(annotation))


def modules_with(line: str, folder: Path) -> set[str]:
    """The modules of a folder in which a line begins so."""
    return {file.stem for file in folder.glob("[!_]*.py") if f"\n{line}" in file.read_text(encoding="utf-8")}


def steadiness() -> set[str]:
    """What the gate's rule of stability can count: what an answer is or is not, and where samples disagree."""
    return {name for name, kind in get_type_hints(Answer).items() if kind is bool} | {"disagreeing"}


@pytest.mark.parametrize(
    ("section", "field", "names", "table"),
    [
        (CorrectionConfig, "name", set(CORRECTIONS), "CORRECTIONS of dcod/objective/corrections"),
        (LossConfig, "name", set(LOSSES), "LOSSES in dcod/objective/losses.py"),
        (
            EngineConfig,
            "name",
            modules_with("    def generate(", ROOT / "engines") - {"base"},
            "the modules of dcod/engines",
        ),
        (
            CorrectionConfig,
            "group",
            {"auto", *get_args(Group)} - {"none"},
            "Group in dcod/objective/corrections/_types.py",
        ),
        (IngestConfig, "answers", {"marked", *UNMARKED}, "UNMARKED in dcod/ingest/examine.py"),
        (TeachConfig, "asks", set(INSTRUCTIONS), "INSTRUCTIONS in dcod/traces/prompts.py"),
        (MapConfig, "instruction", set(INSTRUCTIONS), "INSTRUCTIONS in dcod/traces/prompts.py"),
        (ProblemMap, "kind", set(INSTRUCTIONS), "INSTRUCTIONS in dcod/traces/prompts.py"),
        (PromoteConfig, "stability", steadiness(), "Answer in dcod/evaluate/results.py"),
        (Config, "pipeline", modules_with("def build(settings", PIPELINES), "the modules of pipelines"),
    ],
    ids=[
        *("correction", "loss", "engine", "group", "answers", "asks", "instruction", "kind", "stability", "pipeline"),
    ],
)
def test_a_choice_is_its_table(section: Any, field: str, names: set[str], table: str) -> None:
    allowed = choices(section, field)
    assert len(names) >= 2
    assert len(allowed) == len(set(allowed))
    missing, gone = sorted(names - set(allowed)), sorted(set(allowed) - names)
    way_out = f"add it to {section.__name__}.{field} in dcod/config, or take it out of {table}"
    assert not missing, f"{', '.join(missing)} of {table} cannot be chosen: {way_out}"
    assert not gone, f"{section.__name__}.{field} allows {', '.join(gone)}, which {table} has not: {way_out}"
