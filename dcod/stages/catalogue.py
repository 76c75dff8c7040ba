"""The table of stages: what is to be known of one before its module, and with it maybe torch, is loaded."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from dcod.errors import UserError

PACKAGE = "dcod.stages"


@dataclass(frozen=True)
class Stage:
    """One stage. Its module has ``run(config, out, log, **inputs, **options) -> metrics``.

    Attributes:
        name: the stage, and its module in this package.
        sections: of the configuration, that decide its output.
        way_to: the stage that it is another way to run; both have one verb, and share runs, digests and outputs.
        decides: the inputs that decide its output; None for all, else the others only spare work.
        carried: inputs that the output goes on with, whole: it may take their place.
        later: folders in the output that dcod makes afterwards, outputs of their own.
        of_pipeline: `run` is told the id of the pipeline run and the label in it, as ``pipeline``.
        reusable: an output with the same digest is taken over from an earlier run.
        sources: its module has ``source_digests(config)``: what decides the content of the sources that it reads.
        demanded: what the corrections need decides as well, where it is recorded on demand (:mod:`dcod.traces.scored`).
        settles: its module has ``settle(config, **inputs)``, which drops what a next attempt would have gone on from.
        beyond: its module has ``beyond(config, out) -> metrics``: what an output, also one that was taken over, says of
            settings that did not decide it.
        joined_by: the stage that makes one output of those of its shards (:mod:`dcod.stages.shards`); its module has
            ``narrow(shard, work, scratch)``, which cuts the work down to a shard's.
    """

    name: str
    sections: tuple[str, ...]
    way_to: str = ""
    decides: tuple[str, ...] | None = None
    carried: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    of_pipeline: bool = False
    reusable: bool = True
    sources: bool = False
    demanded: bool = False
    settles: bool = False
    beyond: bool = False
    joined_by: str = ""

    @property
    def module(self) -> Any:
        """The module, loaded now."""
        return importlib.import_module(f"{PACKAGE}.{self.name}")

    @property
    def verb(self) -> str:
        """What it does, by the name of the MLflow run."""
        return self.way_to or self.name


_INGEST = ("student", "ingest", "evaluate")
_TRAIN = ("student", "train")

STAGES = {
    stage.name: stage
    for stage in (
        Stage("fetch", ("student",), reusable=False),
        Stage("teach", ("teach",), sources=True),
        Stage("ingest", _INGEST, carried=("onto",), sources=True),
        Stage("examine", _INGEST, sources=True, joined_by="join"),
        Stage("join", _INGEST, way_to="ingest", decides=("student",), sources=True),
        Stage("score", ("student", "score"), demanded=True, settles=True, beyond=True, joined_by="merge"),
        Stage("train", _TRAIN, settles=True),
        Stage("train_job", _TRAIN, way_to="train", of_pipeline=True, sources=True, settles=True),
        Stage("pilot", ("student", "ingest", "train")),
        Stage("halve", ("train",)),
        Stage("again", (*_TRAIN, "evaluate"), settles=True),
        Stage("seeds", ("train",)),
        Stage("choose", ("student", "train", "evaluate")),
        Stage("evaluate", ("student", "evaluate"), joined_by="merge"),
        Stage("merge", ("student", "score", "evaluate"), beyond=True),
        Stage("gate", ("promote", "evaluate"), later=("promotion",), reusable=False),
        Stage("promote", ("promote",), reusable=False),
        Stage("decide", ("student", "ingest", "train", "evaluate", "promote", "retrain"), reusable=False),
    )
}


def stage_of(name: str) -> Stage:
    """The stage of a name.

    Raises:
        UserError: there is none.
    """
    if name not in STAGES:
        raise UserError(f"stage {name!r}: not known; known: {', '.join(STAGES)}")
    return STAGES[name]


def ways(verb: str) -> list[str]:
    """The stages of a verb."""
    return [stage.name for stage in STAGES.values() if stage.verb == verb]
