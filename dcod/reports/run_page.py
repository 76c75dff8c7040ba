"""What the page of a run is made of: ``report`` makes it, ``headline`` its beginning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcod.evaluate.results import Results
    from dcod.promote.decision import Decision
    from dcod.reports.arms import Answer
    from dcod.reports.sections import Cost
    from dcod.tracking.lineage import Origin


@dataclass(frozen=True)
class RunPage:
    """What is told of a run; what is missing is named on the page.

    Attributes:
        title: the name of the run.
        decision: of the gate.
        results: by the name of the model, such as ``student``, ``champion``, ``start``.
            Examples of better and worse answers compare ``student`` with ``champion``, else with ``start``; and with
            ``SFT twin``.
        training: the student folder, with ``training.jsonl`` and ``weights.json``.
        scores: the scores folder, with ``drift.json``.
        ingest: the trace set, with ``counts.json``.
        lineage: digests and addresses by what they stand for.
        origin: the files behind the student.
        costs: of the stages so far.
        viewer: the file name of the traces' page, where it lies beside this one.
        date: of the decision.
        answer: what the correction brought.
        exposed: what :func:`dcod.score.exposure.compare` found.
        card: the file name of the data card, where it lies beside this one.
        links: addresses by what they lead to; one that is no web address is shown as text.
    """

    title: str
    decision: Decision | None
    results: Mapping[str, Results]
    training: Path | None = None
    scores: Path | None = None
    ingest: Path | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = None
    costs: Sequence[Cost] = ()
    viewer: str = ""
    date: str = ""
    answer: Answer | None = None
    exposed: Mapping[str, Any] | None = None
    card: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
