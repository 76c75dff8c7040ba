"""What a further student answers to the report problems: no worked examples, no drift, nothing of the gate."""

from __future__ import annotations

from pathlib import Path

from dcod.config import Config
from dcod.evaluate.results import Results, load_results
from dcod.stages import evaluate
from dcod.tracking import NullLog


def results_of(config: Config, student: Path, place: Path) -> Results:
    """Asks a student the report problems.

    Args:
        config: the whole configuration.
        student: its folder.
        place: a new folder, which the results lie in.

    Raises:
        UserError: as :func:`dcod.stages.evaluate.run`.
    """
    bare = config.evaluate.model_copy(update={"few_shot": 0, "drift_traces": 0})
    place.mkdir()
    asked = config.model_copy(update={"evaluate": bare})
    evaluate.run(asked, place, NullLog(), student=student, report_only=True)
    return load_results(place)
