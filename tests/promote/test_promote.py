"""The gate and the registry: promoted, refused, stale, rolled back, at once; on a real sqlite MLflow."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcod.config import Config, PromoteConfig
from dcod.errors import UserError
from dcod.evaluate.results import load_results
from dcod.models import loading
from dcod.promote import promote
from dcod.promote.contest import Contest
from dcod.promote.decision import Decision
from dcod.stages import promote as stage
from dcod.tracking import NullLog
from dcod.tracking.registry import Registry
from dcod.tracking.runs import Tracker
from tests.tiny import save_tiny_student
from tests.tracked import fresh_store

NAME = "student-of-test"
N = 100


def results(folder: Path, model: Path, right: Iterable[int], fingerprint: str = "f1") -> Path:
    """A results folder of one greedy benchmark with 100 gate problems; ``right`` are answered correctly."""
    folder.mkdir(parents=True)
    correct = set(right)
    entry = {"fingerprint": fingerprint, "role": "primary", "version": "1", "prompting": {"zero_shot": {}}}
    summary = {"model": {"digest": loading.digest(model), "uri": str(model)}, "benchmarks": {"sums": entry}}
    (folder / "summary.json").write_text(json.dumps(summary))
    rows: list[dict[str, Any]] = [
        {
            "benchmark": "sums",
            "problem_id": f"p{i}",
            "split": "gate",
            "prompting": "zero_shot",
            "sample": 0,
            "outcome": "correct" if i in correct else "wrong",
            "answer": "7",
            "truncated": False,
            "looping": False,
            "contradicting": False,
        }
        for i in range(N)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")
    return folder


def contest(student: Path, *baselines: Path, twin: Path | None = None) -> Contest:
    """Of results folders."""
    loaded = tuple(load_results(folder) for folder in baselines)
    return Contest(load_results(student), loaded, load_results(twin) if twin else None)


class Place:
    """A store, a start and students; runs the gate as the stage does."""

    load_check = False  # most students were never asked

    def __init__(self, folder: Path, start: Path) -> None:
        self.folder = folder
        section = PromoteConfig(registered_model=NAME, lease=str(folder / "lease"))
        self.config = Config(promote=section, tracking=fresh_store(folder / "store"))
        self.tracker = Tracker(self.config.tracking)
        self.registry = Registry(self.tracker)
        self.start = start
        self.gates = 0

    def student(self, seed: int) -> Path:
        folder = self.folder / f"student{seed}"
        return folder if folder.exists() else save_tiny_student(folder, seed=seed)

    def gate(
        self,
        student: Path,
        right: Iterable[int],
        champion: tuple[Path, Iterable[int]] | None = None,
        fingerprint: str = "f1",
    ) -> tuple[Decision, Path]:
        """One gate against a start that answers 30 problems, and a champion where one is given."""
        self.gates += 1
        here = self.folder / f"gate{self.gates}"
        start_results = results(here / "start", self.start, range(30))
        champion_results = results(here / "champion", *champion) if champion else start_results
        out = here / "out"
        out.mkdir()
        with self.tracker.stage("gate", None, digest=f"g{self.gates}") as log:
            decision = promote.challenge(
                self.config,
                out,
                log,
                contest(results(here / "student", student, right, fingerprint), champion_results, start_results),
                student=student,
                start=self.start,
            )
        assert Decision.from_json((out / "decision.json").read_text()) == decision
        return decision, out

    def promote(self, decision: Path) -> str:
        return promote.promote(self.config, tracker=self.tracker, decision=decision, load_check=self.load_check)

    def champion(self) -> int:
        found = self.registry.champion(NAME)
        return found.version if found else 0


@pytest.fixture
def place(tmp_path: Path, tiny_student: Path) -> Place:
    return Place(tmp_path, tiny_student)


def test_a_better_student_becomes_champion_and_nothing_is_registered_twice(place: Place) -> None:
    student = place.student(1)
    decision, out = place.gate(student, range(60))
    assert decision.outcome == "promote"
    assert (decision.baseline.version, decision.challenger.version) == (1, 2)
    assert place.champion() == 1  # only promote moves it
    assert place.promote(out) == "promoted"
    assert place.promote(out / "decision.json") == "promoted"
    first, second = place.registry.versions(NAME)
    assert place.champion() == second.version == 2
    assert first.tags["dcod.decision"] == "start"
    assert second.tags["dcod.decision"] == "promote"
    assert second.tags["dcod.previous_champion"] == "1"
    assert second.tags["dcod.outcome"] == "promoted"
    assert "yes: sums: improved: 60.0% against 30.0%" in second.tags["dcod.reasons"]
    assert second.tags["dcod.result.sums"].startswith("0.6000 against 0.3000, n = 100")
    again, out = place.gate(student, range(60), champion=(student, range(60)))
    assert again.outcome == "already_champion"
    assert [reason.code for reason in again.reasons] == ["already_champion"]
    assert place.promote(out) == "already_champion"
    assert len(place.registry.versions(NAME)) == 2
    assert place.registry.versions(NAME)[1].tags["dcod.decision"] == "promote"


def test_a_refusal_leaves_its_story(place: Place) -> None:
    student = place.student(1)
    for _ in range(2):
        decision, out = place.gate(student, range(5, 36))
        assert decision.outcome == "refuse"
        assert [reason.code for reason in decision.failed] == ["improves"]
        assert place.promote(out) == "refused"
        assert place.champion() == 1
        versions = place.registry.versions(NAME)
        assert [item.version for item in versions] == [1, 2]
        assert versions[1].tags["dcod.decision"] == "refuse"
        assert "NO: sums: no improvement shown" in versions[1].tags["dcod.reasons"]
    found = place.registry.by_alias(NAME, "challenger")
    assert found is not None
    assert found.version == 2


def test_the_stage_writes_its_outcome(place: Place, tmp_path: Path) -> None:
    _, decision = place.gate(place.student(1), range(60))
    assert place.promote(decision) == "promoted"
    out = tmp_path / "outcome"
    out.mkdir()
    assert stage.run(place.config, out, NullLog(), decision=decision) == {"promoted": 1.0}
    assert json.loads((out / "outcome.json").read_text()) == {"outcome": "promoted"}
    with place.tracker.stage("promote", None, digest="d") as log:
        assert stage.run(place.config, out, log, decision=decision) == {"promoted": 1.0}


def test_a_champion_that_moved_makes_a_decision_stale(place: Place) -> None:
    _, one = place.gate(place.student(1), range(60))
    _, two = place.gate(place.student(2), range(70))
    assert place.promote(one) == "promoted"
    assert place.promote(two) == "stale"
    assert place.champion() == 2
    third = place.registry.by_version(NAME, 3)
    assert third is not None
    assert third.tags["dcod.outcome"] == "stale"
    assert "it is version 2 now" in third.tags["dcod.outcome_reason"]


def test_a_champion_that_was_not_evaluated_is_not_replaced(place: Place) -> None:
    _, out = place.gate(place.student(1), range(60))
    place.promote(out)
    decision, out = place.gate(place.student(2), range(90))
    assert decision.outcome == "refuse"
    assert decision.failed[0].code == "champion_not_evaluated"
    assert decision.baseline.version == 2
    assert place.promote(out) == "refused"
    decision, out = place.gate(place.student(2), range(90), champion=(place.student(1), range(60)))
    assert decision.outcome == "promote"
    assert place.promote(out) == "promoted"
    assert place.champion() == 3


def test_another_evaluator_is_refused(place: Place) -> None:
    decision, _ = place.gate(place.student(1), range(60), fingerprint="f2")
    assert [reason.code for reason in decision.failed] == ["evaluators_differ"]


def test_results_of_another_model_are_an_error(place: Place) -> None:
    place.gate(place.student(1), range(60))
    other = place.student(2)
    folder = place.folder / "gate1" / "student"

    def gate_with_results_of_the_first() -> None:
        with place.tracker.stage("gate", None, digest="d") as log:
            promote.challenge(
                place.config, place.folder, log, contest(folder, folder), student=other, start=place.start
            )

    with pytest.raises(UserError, match="results of another model"):
        gate_with_results_of_the_first()


def test_rollback_and_no_return_by_itself(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "a-run")
    with pytest.raises(UserError, match="no champion to roll back"):
        promote.rollback(place.config, tracker=place.tracker)
    student = place.student(1)
    _, out = place.gate(student, range(60))
    place.promote(out)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "on-call")
    assert promote.rollback(place.config, tracker=place.tracker).version == 1
    left = place.registry.versions(NAME)[1]
    assert (left.tags["dcod.user"], left.tags["dcod.rolled_back_by"]) == ("a-run", "on-call")
    assert place.champion() == 1
    assert place.promote(out) == "refused"  # an old decision
    decision, out = place.gate(student, range(60))
    assert decision.failed[0].code == "rolled_back"
    assert place.promote(out) == "refused"
    assert place.champion() == 1
    with pytest.raises(UserError, match="has no champion before it"):
        promote.rollback(place.config, tracker=place.tracker)
    place.tracker.client.delete_model_version_tag(NAME, "2", "dcod.outcome")
    decision, out = place.gate(student, range(60))
    assert place.promote(out) == "promoted"
    assert len(place.registry.versions(NAME)) == 2


def test_two_promotions_at_once_end_with_one_champion(place: Place) -> None:
    decisions = [place.gate(place.student(seed), range(50 + seed))[1] for seed in (1, 2, 3)]
    outcomes: list[str] = []

    def move(decision: Path) -> None:
        tracker = Tracker(place.config.tracking)
        outcomes.append(promote.promote(place.config, tracker=tracker, decision=decision, load_check=False))

    threads = [threading.Thread(target=move, args=(decision,)) for decision in decisions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["promoted", "stale", "stale"]
    stories = {item.version: item.tags.get("dcod.outcome") for item in place.registry.versions(NAME)}
    assert stories.pop(1) is None
    assert stories[place.champion()] == "promoted"
    assert sorted(str(story) for story in stories.values()) == ["promoted", "stale", "stale"]


def test_a_gate_that_was_killed_after_registering_the_start_goes_on(place: Place) -> None:
    with place.tracker.stage("gate", None, digest="killed") as log:
        place.registry.register(NAME, place.start, log.run_id)
    assert place.champion() == 0
    decision, _ = place.gate(place.student(1), range(60))
    assert place.champion() == 1
    assert decision.challenger.version == 2


def test_a_decision_that_is_none(place: Place) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        place.promote(place.folder / "nowhere")
    (place.folder / "decision.json").write_text('{"promote": true}')
    with pytest.raises(UserError, match="not a decision"):
        place.promote(place.folder)


def test_a_tag_is_short() -> None:
    from dcod.promote.promote import _short

    assert _short("yes: better") == "yes: better"
    cut = _short("x" * 5000)
    assert (len(cut), cut[-1]) == (500, "…")
