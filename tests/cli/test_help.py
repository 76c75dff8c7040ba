"""The command line's own help: every verb in a group, with examples that it would take."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.cli import get_docs_for_click
from typer.testing import CliRunner

from dcod.cli import app, main
from dcod.cli.options import BEGIN, CLUSTER, DATA, JUDGE, REGISTRY
from dcod.config import Config, parse_config

COMMANDS: dict[str, Any] = typer.main.get_group(app).commands
GROUPS = (BEGIN, DATA, JUDGE, REGISTRY, CLUSTER)


def printed(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_a_verb_has_a_group_and_examples_that_it_takes(verb: str) -> None:
    command = COMMANDS[verb]
    assert command.rich_help_panel in GROUPS
    assert command.help
    examples = re.findall(r"^  \$ (dcod .*)$", command.epilog.replace("\\[", "["), re.MULTILINE)
    assert examples
    for example in examples:
        _, name, *words = shlex.split(example.partition(" > ")[0])
        context = COMMANDS[name].make_context(name, words)
        for override in context.params.get("overrides") or ():
            parse_config("{}", [override])
    for parameter in command.params:
        assert getattr(parameter, "help", ""), f"{verb}: {parameter.name} has no help"


def page() -> str:
    """docs/commands.md: what every `--help` says."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="dcod"), name="dcod")
    text = text.replace("* `--help`: ", "* `-h`, `--help`: ").replace("\\[", "[")
    text = re.sub(r"\[bold\]Examples\[/bold\]((?:\n\n  \$ .*)+)", _fenced, text)
    note = "<!-- Written by `make golden` from the commands' own help; do not edit. -->"
    return text.replace("# `dcod`\n", f"# Commands\n\n{note}\n", 1).rstrip() + "\n"


def _fenced(found: re.Match[str]) -> str:
    examples = "\n".join(line.strip() for line in found[1].splitlines() if line.strip())
    return f"**Examples**:\n\n```console\n{examples}\n```"


def test_the_page_of_commands_is_current(update_golden: bool) -> None:
    path = Path(__file__).parents[2] / "docs" / "commands.md"
    if update_golden:
        path.write_text(page(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == page(), "the commands changed: `make golden` writes the page"
    assert page().count("**Examples**") == len(COMMANDS)


def test_help_is_there_by_both_names() -> None:
    assert len(COMMANDS) >= 20
    shown = printed("-h")
    assert all(group in shown for group in GROUPS)
    assert "--install-completion" in shown
    assert "Examples" in printed("ingest", "-h")
    assert printed("train", "--help") == printed("train", "-h")


def test_a_preset_is_printed_to_be_copied() -> None:
    assert parse_config(printed("presets", "gsm8k")).name == "gsm8k"
    assert "quickstart" in printed("presets")


def test_a_configuration_is_printed_resolved() -> None:
    whole = parse_config(printed("config", "--preset", "gsm8k", "train.epochs=7"))
    assert whole == parse_config(printed("presets", "gsm8k"), ["train.epochs=7"])
    assert parse_config(printed("config")) == Config()
    assert yaml.safe_load(printed("config", "train.epochs=7", "--changed")) == {"train": {"epochs": 7}}
    assert yaml.safe_load(printed("config", "--schema"))["$defs"].keys() >= {"TrainConfig", "CorrectionConfig"}


@pytest.mark.parametrize("flag", ["", "-q", "--json", "-v"])
def test_flags_of_all_verbs_are_taken_behind_a_verb_as_well(
    tmp_path: Path, flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "decision" / "report.html"
    page.parent.mkdir()
    page.write_text("the report")
    root = logging.getLogger()
    monkeypatch.setattr("sys.argv", ["dcod", "report", str(tmp_path), *filter(None, [flag])])
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setenv("DCOD_PROGRESS", "")
    before = root.level
    try:
        with pytest.raises(SystemExit) as ended:
            main()
        assert root.isEnabledFor(logging.INFO) == (flag == "-v")
    finally:
        root.setLevel(before)
    assert ended.value.code == 0
    out = capsys.readouterr().out.replace("\n", "")
    if flag == "--json":
        assert json.loads(out) == {"report": str(page)}
    else:
        assert out == ("" if flag == "-q" else str(page))
    assert (os.environ["DCOD_PROGRESS"] == "none") == (flag in ("-q", "--json"))


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "dcod", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("dcod ")
