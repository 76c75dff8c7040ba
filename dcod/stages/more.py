"""More traces where a prompt has too few (``teach.enough``): what `teach` and the ingestion behind it work on in a run.

In a pipeline `teach` asks the prompts that lack verified traces (dcod.teach.lacking), and a second `ingest` takes the
attempts in, onto the set. That one does not read the sources that the configuration names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dcod.config import Config
from dcod.teach import lacking


def narrowed(verb: str, config: Config, inputs: Mapping[str, Path]) -> Config:
    """The configuration of `teach` or of the ingestion behind it, in a pipeline; any other stage's as it is.

    Args:
        verb: of the stage.
        config: the whole configuration.
        inputs: folders by the names of the stage's arguments.

    Raises:
        UserError: the student is to answer, and a teacher is named besides.
    """
    if verb == "teach":
        from dcod.stages import teach

        return teach.settled(config)
    if verb == "ingest" and "taught" in inputs:
        from dcod.stages import ingest

        return ingest.of_attempts(config)
    return config


def nothing(config: Config, traces: Path) -> bool:
    """Whether no prompt of a trace set lacks traces, so that no teacher is needed."""
    return not lacking.read(traces, config)[0]
