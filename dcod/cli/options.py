"""What the verbs share: options, and how a configuration and a model are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from dcod.config import Config, load_config, parse_config
from dcod.errors import UserError
from dcod.storage import outputs

ANYWHERE = ("-q", "--quiet", "-v", "--verbose", "--json")  # of `dcod` itself, and taken behind a verb as well
HELP = {"help_option_names": ["-h", "--help"]}


class _Terminal(Console):
    """Where the verbs speak.

    Attributes:
        machine: a program reads along, so results come as JSON and nothing else is said.
    """

    machine = False


console = _Terminal(highlight=False, soft_wrap=True, markup=False, emoji=False)

BEGIN, DATA, JUDGE, REGISTRY, CLUSTER = "Begin here", "Data", "Train and judge", "Registry", "Cluster"

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Overrides such as train.epochs=3.", metavar="SECTION.KEY=VALUE")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML or JSON file; `dcod config` lists the keys.")]
Preset = Annotated[str, typer.Option("--preset", help="A ready configuration; see `dcod presets`.")]
Student = Annotated[str, typer.Option("--student", help="Folder, owner/name, s3://… or models:/name@alias.")]
_OUT = typer.Option(
    "--out",
    callback=lambda path: path and (outputs.check_folder(path), path)[1],
    help="The output folder: absent, empty, or dcod's; replaced when the stage ended well.",
)
Out = Annotated[Path, _OUT]
OutUnlessLook = Annotated[Path | None, _OUT]
NoTrack = Annotated[bool, typer.Option("--no-track", help="Keep MLflow out of it.")]


def verb(group: str, *examples: str) -> dict[str, Any]:
    """What makes a command: its group in `dcod --help`, and the examples below its own help."""
    lines = ["[bold]Examples[/bold]", *(f"  $ {escape(example)}" for example in examples)]
    return {"rich_help_panel": group, "epilog": "\n\n".join(lines), "context_settings": HELP}


def result(value: Any) -> None:
    """What a verb came to, as one line of JSON where a program asked for it."""
    if console.machine:
        print(json.dumps(value, ensure_ascii=False, default=str))


def configured(file: Path | None, preset: str, overrides: list[str] | None) -> Config:
    """The configuration of a file or a preset, with overrides; the defaults where neither is given."""
    if file and preset:
        raise UserError("give --preset or --config, not both")
    if preset:
        from dcod_pipelines.presets import text_of

        return parse_config(text_of(preset), overrides or (), origin=f"preset {preset}")
    return load_config(file, overrides or ()) if file else parse_config("{}", overrides or ())
