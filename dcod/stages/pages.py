"""What is shown of an output, made behind its stage from what that wrote: the data card, plots in MLflow, the answer in
Kubeflow.

Who executes a stage calls this, and no stage: an edit of a page or a plot voids no output.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dcod import storage

if TYPE_CHECKING:
    from dcod.tracking import Log


def show(stage: str, out: Path, log: Log, inputs: Mapping[str, Path]) -> None:
    """Adds the page of an output to it, and the plots to the log.

    Args:
        stage: the name in the table.
        out: what it wrote.
        log: of the stage.
        inputs: folders by the names of the stage's arguments.
    """
    if stage in ("ingest", "join"):
        from dcod.reports import data_card

        data_card.write(out)
    elif stage in ("train", "train_job"):
        _training(out, log)
    elif stage in ("score", "merge") and (out / "scores.parquet").is_file():
        _drift(out, log, inputs.get("traces"))


def of_gate(out: Path) -> tuple[str, dict[str, float]]:
    """What Kubeflow's page shows of an answer beside the decision: Markdown, and figures."""
    from dcod.reports import arms, model_card

    answer = storage.read_json(out / arms.ANSWER, made_by="dcod promote")
    return model_card.answered(answer), arms.measured(answer)


def _training(out: Path, log: Log) -> None:
    from dcod.reports import figures, sections

    for name, figure in figures.training_figures(sections.history_of(out)).items():
        log.figure(f"{name}.png", figure)
    log.figure("weights.png", figures.weight_figure(storage.read_json(out / "weights.json", made_by="dcod train")))


def _drift(out: Path, log: Log, traces: Path | None) -> None:
    from dcod.ingest import assemble
    from dcod.reports import data_card, figures

    curve = storage.read_json(out / "drift.json", made_by="dcod score")
    log.figure("drift.png", figures.drift_figure(curve))
    if traces and (traces / assemble.SOURCES).is_file():  # not in a shard of a set
        data_card.write(out, traces, curve)
