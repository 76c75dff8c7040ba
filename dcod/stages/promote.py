"""Promote: the gate's decision meets the registry. All of it under the promotion lease.

:func:`gate`, before anything moves:
  1. where the registry has no champion, the start becomes version 1 and champion;
  2. decide (:mod:`dcod.promote.gate`) between the student and the champion;
  3. register the student once per digest, as ``challenger``, with the decision and its reasons as tags, and as a JSON
     artifact beside the model.

:func:`promote`, on a positive decision: a fresh process loads the registered version and must reproduce recorded
answers (dcod.engines.reproduce); then the alias ``champion`` moves, unless the champion is no longer the one that was
compared. :func:`rollback` moves it back. MLflow has no compare-and-set: the lease serialises
all who use dcod, and every alias is read again after it was set.

Tags of a version: ``dcod.digest``, ``dcod.decision`` (promote, refuse), ``dcod.reasons``, ``dcod.compared_with``,
``dcod.result.BENCHMARK``, ``dcod.result.level``; later ``dcod.outcome`` (promoted, stale, not_reproduced, rolled_back),
``dcod.reproduced`` and ``dcod.previous_champion``. The registered model itself carries ``dcod.tests``: when it was
tested, for ``promote.schedule=repeated``.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dcod import storage
from dcod.config import Config
from dcod.engines import reproduce
from dcod.errors import UserError
from dcod.evaluate.results import ModelRef, Results, load_results
from dcod.models import loading
from dcod.promote.gate import Decision, Reason, against_twin, decide
from dcod.tracking import Log, StageRun, Tracker
from dcod.tracking.registry import CHALLENGER, CHAMPION, Registry, Version

_WAIT_S = 300.0  # for the lease: another gate may be uploading a model
_TAG = re.compile(r"[^\w. /-]")


def run(config: Config, out: Path, log: Log, *, decision: Path) -> dict[str, float]:
    """The stage: promotes what the gate decided on; see :func:`promote`."""
    tracker = log.tracker if isinstance(log, StageRun) else Tracker(config.tracking)
    outcome = promote(config, tracker=tracker, decision=decision)
    storage.write_json(out / "outcome.json", {"outcome": outcome})
    if isinstance(log, StageRun):
        log.tag("dcod.decision", outcome)
    log.text("outcome.txt", f"{outcome}\n")
    return {"promoted": float(outcome == "promoted")}


def gate(
    config: Config,
    out: Path,
    log: StageRun,
    *,
    tracker: Tracker,
    student: Path,
    start: Path,
    results: Path,
    start_results: Path,
    champion_results: Path,
    twin_results: Path | None = None,
    further: Sequence[Reason] = (),
    beside: Sequence[Path] = (),
) -> Decision:
    """Decides, registers the student, and writes ``decision.json``; see the module.

    Args:
        config: the whole configuration.
        out: an empty folder.
        log: the run of the stage; the start is registered as its output.
        tracker: the store.
        student: the challenger's model folder.
        start: the model folder that training began with.
        results: of the student.
        start_results: of the start.
        champion_results: of the registry's champion, or of the start where there was none.
        twin_results: of an SFT twin of the student.
        further: checks that were made elsewhere.
        beside: further files that go beside the registered model, as ``decision.json`` does.

    Raises:
        UserError: the student's results are of another model.
    """
    registry, name = Registry(tracker), config.promote.registered_model
    challenger, digest = load_results(results), loading.digest(student)
    if challenger.model.digest != digest:
        raise UserError(f"{results}: results of another model than {student}; evaluate this one")
    candidates = [load_results(folder) for folder in (champion_results, start_results)]
    with _lease(config):
        champion = registry.champion(name) or _first(registry, name, start, log.run_id)
        compared = next((found for found in candidates if found.model.digest == champion.digest), None)
        earlier = registry.find(name, digest)
        baseline = compared or candidates[0]
        decision = decide(challenger, baseline, config.promote)
        decision = _with(decision, further)
        if twin_results is not None:
            comparisons, reasons = against_twin(challenger, load_results(twin_results), config.promote)
            decision = _with(replace(decision, comparisons=(*decision.comparisons, *comparisons)), reasons)
        decision = _with_registry(decision, champion, compared is not None, earlier)
        if decision.outcome != "already_champion":
            if config.promote.schedule == "repeated":
                decision = _with(decision, [_spend(registry, name, challenger, baseline, config)])
            version = registry.register(name, student, log.run_id, _tags(decision))
            registry.set_alias(name, CHALLENGER, version.version)
            decision = replace(decision, challenger=replace(decision.challenger, version=version.version))
        storage.write_text(out / "decision.json", decision.to_json())
        if (results / reproduce.FILE).is_file():
            shutil.copyfile(results / reproduce.FILE, out / reproduce.FILE)
        if decision.outcome != "already_champion":  # all that another run needs to promote it, the decision last
            told = [path for path in (*beside, out / reproduce.FILE, out / "decision.json") if path.is_file()]
            for path in told:
                registry.attach(version, path, "decision")
    log.text("decision.json", decision.to_json())
    log.tag("dcod.decision", decision.outcome)
    for found in decision.comparisons:
        figures = {"difference": found.difference, "low": found.low, "high": found.high, "p_value": found.p_value}
        log.metrics({f"{found.benchmark}/{figure}": value for figure, value in figures.items()})
    return decision


def promote(config: Config, *, tracker: Tracker, decision: Path) -> str:
    """Moves the champion alias to the challenger of a positive decision; again does nothing.

    Args:
        config: the lease.
        tracker: the store.
        decision: ``decision.json``, or the folder that holds it.

    Returns:
        ``promoted``; ``refused`` or ``already_champion`` as the decision says; ``stale`` where the champion is
        no longer the one that was compared; ``not_reproduced`` where the registered model does not say what the
        evaluated one said.
    """
    decided = Decision.from_json(_read(decision))
    if decided.outcome != "promote":
        return "refused" if decided.outcome == "refuse" else decided.outcome
    registry, name = Registry(tracker), decided.registered_model
    checked = _registered(registry, decided, decision)
    champion = registry.champion(name)
    if config.promote.load_check and (champion is None or champion.version != checked.version):
        # Before the lease: it takes as long as loading the model twice, and changes nothing.
        folder = decision if decision.is_dir() else decision.parent
        found = reproduce.reproduce(registry.resolve(checked.uri), folder / reproduce.FILE)
        registry.tag(checked, {"dcod.reproduced": f"{'yes' if found.holds else 'NO'}: {found.text}"})
        if not found.holds:
            registry.tag(checked, {"dcod.outcome": "not_reproduced", "dcod.outcome_reason": found.text})
            return "not_reproduced"
    with _lease(config) as still:
        version = _registered(registry, decided, decision)
        champion = registry.champion(name)
        if champion is not None and champion.version == version.version:
            registry.tag(version, {"dcod.outcome": "promoted"})
            return "promoted"
        if version.tags.get("dcod.outcome") == "rolled_back":
            return "refused"
        if champion is None or champion.version != decided.baseline.version:
            seen = "there is none" if champion is None else f"it is version {champion.version} now"
            text = f"stale decision: made against champion version {decided.baseline.version}, but {seen}"
            registry.tag(version, {"dcod.outcome": "stale", "dcod.outcome_reason": text})
            return "stale"
        registry.tag(version, {"dcod.previous_champion": str(champion.version)})
        still()
        registry.set_alias(name, CHAMPION, version.version)
        registry.tag(version, {"dcod.outcome": "promoted"})
    return "promoted"


def _registered(registry: Registry, decided: Decision, where: Path) -> Version:
    version = registry.by_version(decided.registered_model, decided.challenger.version)
    if version is None or version.digest != decided.challenger.digest:
        raise UserError(
            f"models:/{decided.registered_model}/{decided.challenger.version}: not the model of {where}; run the gate "
            "again"
        )
    return version


def rollback(config: Config, *, tracker: Tracker) -> Version:
    """Makes the previous champion the champion again; the version that is left is not promoted again by itself.

    Returns:
        The champion after it.

    Raises:
        UserError: there is no champion, or none before it.
    """
    registry, name = Registry(tracker), config.promote.registered_model
    with _lease(config) as still:
        champion = registry.champion(name)
        if champion is None:
            raise UserError(f"models:/{name}@{CHAMPION}: there is no champion to roll back")
        number = champion.tags.get("dcod.previous_champion", "")
        previous = registry.by_version(name, int(number)) if number.isdigit() else None
        if previous is None:
            raise UserError(
                f"models:/{name}@{CHAMPION}: version {champion.version} has no champion before it"
                + (f" (version {number} was deleted)" if number else "")
            )
        still()
        registry.set_alias(name, CHAMPION, previous.version)
        registry.tag(champion, {"dcod.outcome": "rolled_back"})
        registry.tag(previous, {"dcod.outcome": "promoted"})
    return previous


def _first(registry: Registry, name: str, start: Path, run_id: str) -> Version:
    """The start as the first champion, so that a refusal leaves a story in the registry as well."""
    tags = {"dcod.decision": "start", "dcod.reasons": "the start of the first run: there was no champion"}
    version = registry.register(name, start, run_id, tags)
    return registry.set_alias(name, CHAMPION, version.version)


def _with(decision: Decision, reasons: Sequence[Reason]) -> Decision:
    """The decision with further checks."""
    together = (*decision.reasons, *reasons)
    return replace(decision, reasons=together, promote=all(reason.passed for reason in together))


def _spend(registry: Registry, name: str, challenger: Results, baseline: Results, config: Config) -> Reason:
    """Takes one test from the budget of the period. The same comparison again costs nothing: it says the same."""
    section, now = config.promote, config.retrain.clock()
    what = json.dumps([challenger.model.digest, baseline.model.digest, sorted(challenger.fingerprints.items())])
    key = hashlib.sha256(what.encode()).hexdigest()[:12]
    begin = now - section.period_days * 86_400
    tests: dict[str, Any] = json.loads(registry.note(name, "dcod.tests") or "{}")
    tests = {one: when for one, when in tests.items() if when > begin}
    known = key in tests
    passed = known or len(tests) < section.tests_per_period
    if passed and not known:
        registry.set_note(name, "dcod.tests", json.dumps({**tests, key: int(now)}))
    count = len(tests) + (not known and passed)
    text = (
        f"test {count} of at most {section.tests_per_period} in {section.period_days} days; together they promote "
        f"noise with a chance of at most {section.level:g}"
    )
    if not passed:
        text = f"the budget is spent: {text}; wait, or raise promote.tests_per_period, which lowers the level of each"
    return Reason("budget", text, passed)


def _with_registry(decision: Decision, champion: Version, compared: bool, earlier: Version | None) -> Decision:
    """Adds what only the registry knows: versions, a champion that was not evaluated, a version rolled back."""
    ours = replace(decision.challenger, version=earlier.version if earlier else 0)
    reasons = decision.reasons
    if champion.digest == decision.challenger.digest:
        reasons = (Reason("already_champion", f"the student is champion version {champion.version} itself", False),)
    elif not compared:
        text = (
            f"the champion is version {champion.version} ({champion.digest[:12] or 'registered by another tool'}), "
            f"but the results are of {decision.baseline.digest[:12]}; run again, so that the champion is evaluated"
        )
        reasons = (Reason("champion_not_evaluated", text, False), *reasons)
    elif earlier is not None and earlier.tags.get("dcod.outcome") == "rolled_back":
        text = (
            f"version {earlier.version}, the same model, was rolled back; to allow it again, delete its tag "
            "dcod.outcome"
        )
        reasons = (Reason("rolled_back", text, False), *reasons)
    baseline = ModelRef(champion.digest, champion.uri, champion.version)
    promotes = all(reason.passed for reason in reasons)
    return replace(decision, promote=promotes, reasons=reasons, challenger=ours, baseline=baseline)


def _tags(decision: Decision) -> dict[str, str]:
    lines = [f"{'yes' if reason.passed else 'NO'}: {reason.text}" for reason in decision.reasons]
    tags = {
        "dcod.decision": decision.outcome,
        "dcod.reasons": "\n".join(lines)[:5000],
        "dcod.compared_with": str(decision.baseline.version),
        "dcod.result.level": f"{decision.level:.6g}",
    }
    for found in decision.comparisons:
        tags[_TAG.sub("_", f"dcod.result.{found.benchmark}")] = (
            f"{found.challenger:.4f} against {found.baseline:.4f}, n = {found.n}, "
            f"difference {found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}], p = {found.p_value:.4g}"
        )
    return tags


def _read(decision: Path) -> str:
    path = decision / "decision.json" if decision.is_dir() else decision
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it is written by the gate") from None


@contextmanager
def _lease(config: Config) -> Iterator[Callable[[], None]]:
    with storage.lease(config.promote.lease, wait_s=_WAIT_S) as still:
        yield still
