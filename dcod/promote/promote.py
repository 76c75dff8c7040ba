"""The gate's decision meets the registry: budget, registration and the champion's alias, all under the promotion lease.

:func:`challenge`, before anything moves:
  1. where the registry has no champion, the start becomes version 1 and champion;
  2. decide (:mod:`dcod.promote.gate`, by :mod:`dcod.promote.rules`) between the student and the champion;
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
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dcod import benchmarks, storage
from dcod.config import Config, PromoteConfig
from dcod.config.arms import CHOSEN
from dcod.engines import reproduce
from dcod.errors import UserError
from dcod.evaluate.results import ModelRef
from dcod.models import loading
from dcod.promote.contest import Contest, Spending, Standing
from dcod.promote.decision import DECISION, TRAINED_ON, Decision, read_decision
from dcod.promote.gate import judge
from dcod.tracking.registry import CHALLENGER, CHAMPION, Registry, Version
from dcod.tracking.runs import StageRun, Tracker
from dcod.tracking.store import user

_WAIT_S = 300.0  # for the lease: another gate may be uploading a model
_LONGEST = 500  # characters of a tag
_TAG = re.compile(r"[^\w. /-]")


def challenge(
    config: Config,
    out: Path,
    log: StageRun,
    contest: Contest,
    *,
    student: Path,
    start: Path,
    clock: Callable[[], float] = time.time,
) -> Decision:
    """Decides, registers the student, and writes ``decision.json``; see the module.

    Args:
        config: the whole configuration.
        out: the output folder; of what lies there, ``trained_on.json`` and ``arm.json`` go beside the registered
            model.
        log: the run of the stage; the start is registered as its output.
        contest: results of the student and its rivals.
        student: the challenger's model folder.
        start: the model folder that training began with.
        clock: seconds since 1970, for the budget of the period.

    Raises:
        UserError: the student's results are of another model.
    """
    registry, name, digest = Registry(log.tracker), config.promote.registered_model, loading.digest(student)
    registry.models.serving = _serving(config)
    if contest.student.model.digest != digest:
        raise UserError(f"{contest.student.folder}: results of another model than {student}; evaluate this one")
    with held(config):
        champion = _ref(registry.champion(name) or _first(registry, name, start, log.run_id))
        earlier = registry.find(name, digest)
        rolled_back = earlier is not None and earlier.tags.get("dcod.outcome") == "rolled_back"
        standing = Standing(champion, earlier.version if earlier else 0, rolled_back)
        anew = champion.digest != digest
        if anew and config.promote.schedule == "repeated":
            standing = replace(standing, spending=_spend(registry, contest, champion, config.promote, clock()))
        decision = judge(contest, standing, config.promote)
        if anew:
            version = registry.register(name, student, log.run_id, _tags(decision))
            registry.set_alias(name, CHALLENGER, version.version)
            decision = replace(decision, challenger=replace(decision.challenger, version=version.version))
        storage.write_text(out / DECISION, decision.to_json())
        recorded = contest.student.folder / reproduce.FILE
        if recorded.is_file():
            shutil.copyfile(recorded, out / reproduce.FILE)
        if anew:  # all that another run needs to promote it, the decision last
            for path in (out / TRAINED_ON, out / CHOSEN, out / reproduce.FILE, out / DECISION):
                if path.is_file():
                    registry.attach(version, path, "decision")
    log.text(DECISION, decision.to_json())
    log.tag("dcod.decision", decision.outcome)
    log.metrics(decision.figures)
    return decision


def promote(config: Config, *, tracker: Tracker, decision: Path, load_check: bool = True) -> str:
    """Moves the champion alias to the challenger of a positive decision; a second call changes nothing.

    Args:
        config: the lease.
        tracker: the store.
        decision: ``decision.json``, or the folder that holds it.
        load_check: a fresh process must reproduce recorded answers with the registered model first.

    Returns:
        ``promoted``; ``refused`` or ``already_champion`` as the decision says; ``stale`` where the champion is
        no longer the one that was compared; ``not_reproduced`` where the registered model does not say what the
        evaluated one said.
    """
    decided = read_decision(decision)
    if decided.outcome != "promote":
        return "refused" if decided.outcome == "refuse" else decided.outcome
    registry, name = Registry(tracker), decided.registered_model
    checked = _registered(registry, decided, decision)
    champion = registry.champion(name)
    if load_check and (champion is None or champion.version != checked.version):
        # Before the lease: it takes as long as loading the model twice, and changes nothing.
        folder = decision if decision.is_dir() else decision.parent
        check = reproduce.reproduce(registry.resolve(checked.uri), folder / reproduce.FILE)
        registry.tag(checked, {"dcod.reproduced": f"{'yes' if check.holds else 'NO'}: {check.text}"})
        if not check.holds:
            registry.tag(checked, {"dcod.outcome": "not_reproduced", "dcod.outcome_reason": check.text})
            return "not_reproduced"
    with held(config) as still:
        version = _registered(registry, decided, decision)
        champion = registry.champion(name)
        if champion is not None and champion.version == version.version:
            _settled(registry, name, version)
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
        _settled(registry, name, version)
    return "promoted"


def _settled(registry: Registry, name: str, version: Version) -> None:
    """What follows a move of the champion's alias: its holder is no challenger any more."""
    registry.tag(version, {"dcod.outcome": "promoted"})
    registry.clear_alias(name, CHALLENGER, version.version)


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
    with held(config) as still:
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
        registry.tag(champion, {"dcod.outcome": "rolled_back", **user("dcod.rolled_back_by")})
        registry.tag(previous, {"dcod.outcome": "promoted"})
    return previous


def _serving(config: Config) -> dict[str, Any]:
    """How the evaluation asks, for whoever serves what is registered."""
    plans = [benchmarks.plan(one) for one in config.evaluate.benchmarks]
    asked: dict[str, Any] = {
        "seed": config.seed,
        "dtype": config.student.dtype,
        "chat_template": config.student.chat_template,
        "system_prompt": config.student.system_prompt,
    }
    if plans:
        limit = max(plan.max_new_tokens for plan in plans)
        asked |= {"max_tokens": limit, "temperature": plans[0].temperature, "top_p": plans[0].top_p}
    return asked


def _first(registry: Registry, name: str, start: Path, run_id: str) -> Version:
    """The start as the first champion, so that a refusal leaves a story in the registry as well."""
    tags = {"dcod.decision": "start", "dcod.reasons": "the start of the first run: there was no champion"}
    version = registry.register(name, start, run_id, tags, role="start")
    return registry.set_alias(name, CHAMPION, version.version)


def _ref(version: Version) -> ModelRef:
    return ModelRef(version.digest, version.uri, version.version)


def _spend(registry: Registry, contest: Contest, champion: ModelRef, config: PromoteConfig, now: float) -> Spending:
    """Takes one test from the budget of the period. The same comparison again costs nothing: it says the same."""
    student, baseline, name = contest.student, contest.baseline(champion), config.registered_model
    what = json.dumps([student.model.digest, baseline.model.digest, sorted(student.fingerprints.items())])
    key = hashlib.sha256(what.encode()).hexdigest()[:12]
    begin = now - config.period_days * 86_400
    tests: dict[str, Any] = json.loads(registry.note(name, "dcod.tests") or "{}")
    tests = {one: when for one, when in tests.items() if when > begin}
    if key in tests:
        return Spending(len(tests), True)
    if len(tests) >= config.tests_per_period:
        return Spending(len(tests), False)
    registry.set_note(name, "dcod.tests", json.dumps({**tests, key: int(now)}))
    return Spending(len(tests) + 1, True)


def _tags(decision: Decision) -> dict[str, str]:
    tags = {
        "dcod.decision": decision.outcome,
        "dcod.reasons": _short("\n".join(decision.lines)),
        "dcod.compared_with": str(decision.baseline.version),
        "dcod.result.level": f"{decision.level:.6g}",
    }
    for one in decision.comparisons:
        tags[_TAG.sub("_", f"dcod.result.{one.benchmark}")] = (
            f"{one.challenger:.4f} against {one.baseline:.4f}, n = {one.n}, "
            f"difference {one.difference:+.4f} [{one.low:+.4f}, {one.high:+.4f}], p = {one.p_value:.4g}"
        )
    return tags


def _short(text: str) -> str:
    """A text as a tag, which pages show whole; all of it lies in ``decision.json`` beside the model."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def held(config: Config) -> AbstractContextManager[Callable[[], None]]:
    """The lease of promotions, for who must not meet one."""
    return storage.lease(config.promote.lease, wait_s=_WAIT_S)
