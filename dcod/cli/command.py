"""The ``dcod`` command: its verbs together, and what a mistake of the user looks like."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

import dcod
from dcod.cli import arms, begin, cluster, extras, runs, stages
from dcod.cli.options import ANYWHERE, HELP, console
from dcod.errors import PreemptedError, StoppedError, UserError, one_line
from dcod.storage import room
from dcod.storage.stopping import stopping

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP,
    help="Teaches a small language model to reason from the written solutions of a large one, and promotes it only if "
    "it is really better.",
    epilog="Begin with `dcod run --preset quickstart`, or with files of your own: `dcod init traces.jsonl`.",
)
for part in (begin, stages, arms, runs, cluster):
    app.add_typer(part.app)


def main() -> None:
    """The entry point: a user's mistake is one line and exit code 2, anything else that fails 1."""
    # Threads that spin while they wait slow a shared machine down by a factor of 5; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name need not be text
            stream.reconfigure(errors="backslashreplace")
    try:
        with stopping():
            words = sys.argv[1:]
            app([*(word for word in words if word in ANYWHERE), *(word for word in words if word not in ANYWHERE)])
    except UserError as error:
        _end(error, 2)
    except PreemptedError as error:
        _end(error, 128 + signal.SIGTERM)
    except StoppedError as error:
        _end(error, 128 + error.number)
    except ModuleNotFoundError as error:
        if not (wanted := extras.wanted(error.name or "")):
            raise
        _end(UserError(wanted), 2)
    except Exception as error:
        told = room.explained(error, database="the tracking store")
        if told is None:
            raise
        _end(told, 2)


def _end(error: BaseException, status: int) -> NoReturn:
    print(f"dcod: {one_line(error)}", file=sys.stderr)
    sys.exit(status)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"dcod {dcod.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # noqa: ARG001 (its callback ends the program)
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more: what the log would hold.")] = False,
    machine: Annotated[bool, typer.Option("--json", help="Results as JSON, and nothing else, for programs.")] = False,
) -> None:
    console.quiet, console.machine = quiet or machine, machine
    if console.quiet:
        os.environ["DCOD_PROGRESS"] = "none"
    if quiet or verbose:
        level = logging.INFO if verbose else logging.ERROR
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", force=True)
