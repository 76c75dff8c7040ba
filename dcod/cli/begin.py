"""How one begins: ready configurations, and every key of one."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dcod.cli.options import BEGIN, ConfigFile, Overrides, Preset, configured, console, verb

app = typer.Typer()


@app.command("config", **verb(BEGIN, "dcod config --preset gsm8k train.epochs=3", "dcod config --schema > schema.json"))
def show_config(
    preset: Preset = "",
    config: ConfigFile = None,
    only_changed: Annotated[bool, typer.Option("--changed", help="Only what is not the default.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON Schema, for editors.")] = False,
    overrides: Overrides = None,
) -> None:
    """The configuration that a run would use, as YAML with every key explained."""
    from dcod.config import Config, reference

    if schema:
        print(json.dumps(reference.schema(), indent=2, ensure_ascii=False))
        return
    values = configured(config, preset, overrides).model_dump(mode="json")
    if only_changed:
        values = reference.changed(values, Config().model_dump(mode="json"))
    print(reference.commented(values), end="")


@app.command(**verb(BEGIN, "dcod presets", "dcod presets gsm8k > mine.yaml"))
def presets(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Print this one; else list all.")] = "",
) -> None:
    """The ready configurations: their names, or one of them to copy."""
    from dcod_pipelines.presets import descriptions, text_of

    if name:
        print(text_of(name), end="")
        return
    for preset, text in descriptions().items():
        console.print(f"{preset:<12}{text}")
