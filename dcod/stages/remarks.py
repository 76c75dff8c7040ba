"""What the traces allow, said once of a stage that made or scored them, by who runs it.

The counts stand in the manifest of the trace set. What they say depends on the configuration of the training as well,
so it is no part of an output, and is said of one that was taken over from an earlier run, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dcod import storage
from dcod.config import Config
from dcod.config.arms import CHOSEN
from dcod.errors import UserError
from dcod.objective import feasibility
from dcod.objective.feasibility import Holdings, Remark
from dcod.stages import manifests
from dcod.traces import holdings, tokenizer_of


def of(
    stage: str, config: Config, out: Path, inputs: Mapping[str, Path], metrics: Mapping[str, float]
) -> tuple[Holdings, list[Remark]] | None:
    """What a trace set holds, and what would fail or do nothing with it; None where a stage says nothing of one.

    Args:
        stage: the name in the table; a shard of a scoring has no say.
        config: the whole configuration.
        out: its output.
        inputs: folders by the names of the stage's arguments.
        metrics: of the stage.
    """
    traces = out if stage in ("ingest", "join") else inputs.get("traces") if stage in ("score", "merge") else None
    if traces is None:
        return None
    known = metrics.get("mean_student_probability")
    holding = replace(held(traces), known=known)
    remarks = feasibility.remarks(config, holding)
    if config.asks and stage in ("ingest", "join") and "taught" not in inputs:  # said of what is scored
        text = f"a run asks the prompts that have fewer than {config.teach.enough} verified traces (teach.enough)"
        return holding, [Remark("note", "teach", text)]
    if known is not None:
        from dcod.score.outlook import of_start, of_weights

        remarks += of_start(config.train, known)
        if not any(remark.level == "idle" for remark in remarks):
            remarks += of_weights(config.train, metrics)
    told = [remark for remark in remarks if remark.level != "note"]
    if known is None and not config.train.arms and (unfit := feasibility.unfit(holding)):
        told.append(Remark("note", "corrections", f"corrections that {unfit}"))
    return holding, [*told, *_of_pilot(config, traces, holding)]


def _of_pilot(config: Config, traces: Path, held: Holdings) -> list[Remark]:
    """What is to be said of the pilot; nothing where a scheduled run takes an earlier choice over."""
    from dcod.promote import foreseen

    if not config.train.arms or (traces / CHOSEN).is_file():
        return []
    each = held.prompts / max(held.traces, 1)  # as of the traces for training, so of those that are held back
    if config.train.pilot.compare == "answers":
        each *= held.golds / max(held.traces, 1)
    problems = {"selection": each * held.selection, "pilot": each * held.pilot}
    return list(foreseen.remarks(config, held, problems))


def refusal(stage: str, config: Config, inputs: Mapping[str, Path]) -> str:
    """Why a pipeline does not score its traces: the configured training can do nothing with them; "" where it can.

    Args:
        stage: the name in the table; others than the scoring refuse nothing.
        config: the whole configuration.
        inputs: folders by the names of the stage's arguments.
    """
    return feasibility.refusal(config, held(inputs["traces"])) if stage == "score" else ""


def check(stage: str, config: Config, inputs: Mapping[str, Path]) -> None:
    """Raises what :func:`refusal` says.

    Raises:
        UserError: why, and the way out.
    """
    if why := refusal(stage, config, inputs):
        raise UserError(why)


def held(traces: Path, scores: Path | None = None) -> Holdings:
    """What a trace set holds for training, as its ingestion counted, else counted now; and what its scores say."""
    if scores is not None and (scores / storage.MANIFEST).is_file():
        known = manifests.read(scores)["metrics"].get("mean_student_probability")
        return replace(held(traces), known=known)
    if (traces / storage.MANIFEST).is_file():
        told = manifests.read(traces).get("facts", {}).get("holdings")
        if told is not None and "systems" in told:  # else of an earlier version
            return Holdings(**told)
    return holdings.count(traces, tokenizer_of(traces))
