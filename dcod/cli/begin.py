"""How one begins: a configuration for one's data, what can be known before a run, ready ones, and every key."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dcod.cli.options import BEGIN, ConfigFile, Overrides, Preset, Student, configured, console, result, verb
from dcod.errors import UserError

app = typer.Typer()


STYLES = {"ok": "green", "failed": "bold red", "warning": "yellow", "unchecked": "cyan"}


@app.command(
    **verb(
        BEGIN,
        "dcod init traces.jsonl --benchmark problems.jsonl",
        "dcod init 'mine.csv?prompt=Question&completion=Worked out&gold=Result' --hold-out 0.3",
        "dcod init data/ --student ./student",
    )
)
def init(
    files: Annotated[list[str], typer.Argument(metavar="TRACES", help="Files, folders or other sources of traces.")],
    benchmark: Annotated[
        str, typer.Option("--benchmark", help="A file of problems with answers, or a benchmark such as gsm8k.")
    ] = "",
    hold_out: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Without a benchmark: measure on this share of your prompts, such as 0.3."),
    ] = 0.0,
    student: Student = "",
    out: Annotated[Path, typer.Option("--out", help="The configuration.")] = Path("dcod.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace files that `dcod init` wrote.")] = False,
) -> None:
    """Looks at your data and writes a commented configuration for it, and beside it the schema that editors read."""
    from dcod.check import advice, editors
    from dcod.check.student import UncheckedError, packaged
    from dcod.storage import outputs

    if out.exists() and not force:
        raise UserError(f"{out} is there already: give another --out, or --force")
    outputs.check_file(out)
    try:
        chosen = advice.advise(files, benchmark, student, 0.0 if benchmark else hold_out, out.parent, force=force)
    except UncheckedError as error:
        here = "".join(f", or {name}, which is here" for name in packaged())
        raise UserError(f"{error}; give --student a local folder{here}") from None
    line, schema = editors.provide(out.parent)
    outputs.write_file(out, line + chosen.text())
    result({"out": out, "why": chosen.why})
    for line in chosen.why:
        console.print(f"- {line}")
    console.print(f"wrote {out}\n{schema}\nnext: dcod check --config {out}")


@app.command(**verb(BEGIN, "dcod check --config dcod.yaml", "dcod check --preset gsm8k"))
def check(
    preset: Preset = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """What would fail or do nothing, found in seconds: before any weights are fetched or a GPU is asked for."""
    from dcod.check.checks import checks

    read, failed = configured(config, preset, overrides), 0
    for one in checks(read):
        failed += one.state == "failed"
        result({"name": one.name, "state": one.state, "text": one.text})
        console.print(Text.assemble((f"{one.state:<10}", STYLES[one.state]), (f"{one.name}: ", "bold"), one.text))
    if failed:
        raise typer.Exit(2)
    named = ["--config", str(config)] if config else ["--preset", preset] if preset else []
    console.print(f"next: {shlex.join(['dcod', 'run', *named, *(overrides or ())])}")


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
    result(values)
    if not console.machine:
        print(reference.commented(values), end="")


@app.command(**verb(BEGIN, "dcod presets", "dcod presets gsm8k > mine.yaml"))
def presets(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Print this one; else list all.")] = "",
) -> None:
    """The ready configurations: their names, or one of them to copy."""
    from dcod.config.settings import plain
    from dcod_pipelines.presets import descriptions, text_of

    if name:
        text = text_of(name)
        result(plain(text))
        if not console.machine:
            print(text, end="")
        return
    result(descriptions())
    for preset, text in descriptions().items():
        console.print(f"{preset:<12}{text}")
