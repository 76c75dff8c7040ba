"""Gate: is the student really better? The decision as data, the challenger registered, the report written.

1. the start becomes the first champion where the registry has none;
2. a champion whose results are missing or were made by another evaluator is evaluated again;
3. student and champion are compared on the gate split of the same problems (dcod.promote.rules), the student with its
   SFT twin where there is one, and the training traces are searched for problems of the benchmarks;
4. the student is registered once, as challenger, with decision and reasons as tags;
5. with ``promote.exposure_traces`` and a teacher, errors of start, twin and student on their own answers are added up
   (dcod.score.exposure);
6. student and start get their model cards (dcod.reports.model_card), with the files behind the student
   (dcod.tracking.lineage);
7. decision.json and report.html are written; beside it traces.html, the traces with their weights, and the data card.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dcod
from dcod import storage
from dcod.config import Config, TrainConfig
from dcod.config.arms import CHOSEN, SFT, ArmConfig
from dcod.errors import UserError
from dcod.evaluate.results import Results, load_results
from dcod.models import loading
from dcod.promote import outcome, twins
from dcod.promote.compare import Comparison
from dcod.promote.contest import Contest
from dcod.promote.decision import TRAINED_ON, Decision
from dcod.promote.promote import challenge
from dcod.reports import arms, model_card, report, sections, side_by_side, trace_pages
from dcod.reports.run_page import RunPage
from dcod.reports.sections import Cost
from dcod.stages import evaluate, seeds
from dcod.stages.digests import code_digest, output_digest
from dcod.traces import sources_of
from dcod.tracking import NullLog, addresses, lineage
from dcod.tracking.lineage import Origin
from dcod.tracking.registry import Registry
from dcod.tracking.runs import StageRun

_CARD, EXPOSURE = "card.html", "exposure.json"
_TRACES = 300  # on the page beside the report; `dcod inspect` shows more
_ANSWERS = 16  # of the student, to prompts on that page


@dataclass(frozen=True)
class Inputs:
    """The folders that the gate is given.

    Attributes:
        start, student: model folders.
        results: of the student; ``start_results`` and ``champion_results`` of the others.
        few_shot_results: of the start; only for the report.
        traces: that the student was trained on.
        scores: of them; only for the report.
        twin: a student trained like this one, without correction, with its results.
        seeds: the answers of both with further seeds.
        choice: of the pilot that chose the student's arm.
        teacher: model folder; only for the report.
    """

    start: Path
    student: Path
    results: Path
    start_results: Path
    champion_results: Path
    few_shot_results: Path | None = None
    traces: Path | None = None
    scores: Path | None = None
    twin: Path | None = None
    twin_results: Path | None = None
    seeds: Path | None = None
    choice: Path | None = None
    teacher: Path | None = None


def accuracy_table(results: Mapping[str, Results]) -> str:
    """Accuracies on the report split, which the gate never looks at, as lines of text.

    ``detectable`` is the difference to another model that a paired test on so many problems would find; see
    :func:`dcod.evaluate.summaries.detectable`.
    """
    head = ["report split", "accuracy", "95 % interval", "n", "detectable", "unparseable", "truncated"]
    rows = []
    for label, one in results.items():
        for row in one.rows:
            if row.split != "report":
                continue
            answers = max(sum(row.outcomes.values()), 1)
            shares = [f"{row.outcomes[outcome] / answers:.1%}" for outcome in ("unparseable", "truncated")]
            interval = f"{row.low:.1%} to {row.high:.1%}"
            size = (str(row.n), f"{row.detectable * 100:.1f} points")
            rows.append([f"{label}: {row.benchmark}", f"{row.accuracy:.1%}", interval, *size, *shares])
    return "\n".join(arms.aligned((head, rows)) or ["no results on the report split"]) + "\n"


def run(config: Config, out: Path, log: StageRun, **inputs: Path) -> dict[str, float]:
    """Decides, registers and reports; see the module. ``inputs`` are :class:`Inputs`."""
    given, registry = Inputs(**inputs), Registry(log.tracker)
    twin = _twin(config, given)
    if given.traces is not None:
        storage.write_json(out / TRAINED_ON, sources_of(given.traces))
    if given.choice is not None:
        told = outcome.read(given.choice)
        kept = {"arm": told["settings"], "sft": told.get("sft"), "at": told["at"], "alone": told["alone"]}
        storage.write_json(out / CHOSEN, kept)
    student, start = load_results(given.results), load_results(given.start_results)
    champion = comparable(config, out, registry, student, [load_results(given.champion_results), start])
    dirty = None if given.traces is None else evaluate.contamination(config, given.traces)
    contest = Contest(student, (champion, start), twin, dirty)
    decision = challenge(config, out, log, contest, student=given.student, start=given.start)

    results = {"start": start}
    if given.few_shot_results is not None:
        results["start, few-shot"] = load_results(given.few_shot_results)
    results |= {"champion": champion, "student": student} | ({} if twin is None else {"SFT twin": twin})
    version = registry.by_version(decision.registered_model, decision.challenger.version)
    origin = lineage.origin(registry, version, given.traces)
    exposed, costs = _exposed(config, out, given), sections.costs(log)
    answer = _answer(config, given, student, twin, costs, exposed)
    describe(config, registry, decision, results, given, origin, answer)
    viewer = _viewer(config, out, log, given)
    folders = {"start": given.start, "student": given.student, "traces": given.traces, "scores": given.scores}
    folders |= {f"results of {name}": one.folder for name, one in results.items()}
    shown = RunPage(
        title=config.name,
        decision=decision,
        results=results,
        training=given.student,
        scores=given.scores,
        ingest=given.traces,
        lineage={name: output_digest(path) for name, path in folders.items() if path is not None}
        | {"seed": str(config.seed), "dcod": f"{dcod.__version__}, code {code_digest('gate')}"},
        origin=origin,
        costs=costs,
        viewer=viewer,
        card=_card(out, log, given),
        links=addresses.of_run(
            log.tracker.config.uri,
            log.tracker.experiment_id,
            log.parent or log.run_id,
            decision.registered_model,
            decision.challenger.version,
        ),
        date=time.strftime("%Y-%m-%d"),
        answer=answer,
        exposed=exposed,
    )
    page = report.page(shown)
    storage.write_json(out / arms.ANSWER, answer.to_dict())
    for name, text in (("report.html", page), ("accuracy.txt", accuracy_table(results))):
        storage.write_text(out / name, text)
        log.text(name, text)
    _tell(log, registry, decision, results, page, answer)
    return {"promoted": float(decision.promote)} | _errors(exposed)


def _errors(exposed: Mapping[str, Any]) -> dict[str, float]:
    curves: dict[str, Any] = exposed.get("students", {})
    return {f"exposure/{name}": curve["excess_error"] for name, curve in curves.items() if "at" in curve}


def _exposed(config: Config, out: Path, given: Inputs) -> dict[str, Any]:
    """Whether errors compound, of start, twin and student; empty where that is not asked for."""
    if not config.promote.exposure_traces:
        return {}
    if given.teacher is None or given.traces is None:
        raise UserError("gate: promote.exposure_traces needs the teacher (--teacher) and the traces (--traces)")
    from dcod.score import exposure

    students = {"start": given.start, "SFT twin": given.twin, "student": given.student}
    there = {name: folder for name, folder in students.items() if folder is not None}
    try:
        errors = exposure.compare(config, given.teacher, there, given.traces)
    except UserError as error:  # a figure of the report is no reason to lose the decision
        errors = {"why": str(error)}
    storage.write_json(out / EXPOSURE, errors)
    return errors


def _tell(
    log: StageRun,
    registry: Registry,
    decision: Decision,
    results: Mapping[str, Results],
    page: str,
    answer: arms.Answer,
) -> None:
    """What runs and models are compared by, on the parent run and on the pages of the models."""
    told = answer.to_dict()
    figures = {"level": decision.level} | arms.measured(told)
    for one in decision.comparisons:
        gap = {"difference": one.difference, "difference_low": one.low, "difference_high": one.high}
        figures |= {f"{one.benchmark}/{name}": value for name, value in (gap | {"p_value": one.p_value}).items()}
    for label, model in results.items():
        for row in model.rows:
            values = {"accuracy": row.accuracy, "accuracy_low": row.low, "accuracy_high": row.high}
            if row.n and row.split == "report":
                figures |= {f"{label}/{row.benchmark}/{name}": value for name, value in values.items()}
            if row.n and row.prompting == "zero_shot":
                data = f"{row.benchmark}, {row.split} split", model.fingerprints.get(row.benchmark, "")
                registry.models.measured(
                    model.model.digest, log.run_id, data, {f"{row.split}/{k}": v for k, v in values.items()}
                )
    checks = "".join(f"- {line}\n" for line in decision.lines)
    log.headline(figures, f"**{decision.outcome}**\n\n{model_card.answered(told)}\n\n{checks}", page)


def _twin(config: Config, given: Inputs) -> Results | None:
    """The results of the SFT twin, if one is given and was trained at equal compute, and at the pilot's best rate."""
    if given.twin is None or given.twin_results is None:
        if given.twin is not given.twin_results:
            raise UserError("gate: a twin needs its model folder and its results")
        return None
    twins.equal_compute(given.student, given.twin)
    best = outcome.read(given.choice).get("sft") if given.choice else None
    if best is not None:
        twins.best_rate(given.twin, config.train.of_arm(ArmConfig.model_validate(best)), str(best["name"]))
    results = load_results(given.twin_results)
    if results.model.digest != loading.digest(given.twin):
        raise UserError(f"{given.twin_results}: results of another model than the twin {given.twin}")
    return None if results.model.digest == loading.digest(given.student) else results  # plain fine-tuning was chosen


def _answer(
    config: Config,
    given: Inputs,
    student: Results,
    twin: Results | None,
    costs: Sequence[Cost],
    exposed: Mapping[str, Any],
) -> arms.Answer:
    """What the correction brought, as far as this run can tell."""
    told = None if given.choice is None else outcome.read(given.choice)
    trained = sections.of_json(given.student / storage.MANIFEST) or {}
    full, students, trainings, missing = list[Comparison](), list[dict[str, Any]](), 1, ""
    if twin is not None and given.twin is not None:
        pairs, missing = seeds.pairs(given.seeds)
        further, plain = [mine for mine, _ in pairs], [other for _, other in pairs]
        full, trainings = twins.over_seeds([student, *further], [twin, *plain], config.train.pilot), 1 + len(pairs)
        curves, named = exposed.get("students", {}), f"correction ({side_by_side.name_of(given.student)})"
        for title, label, verb, folder, one, others in (
            (named, "student", "train", given.student, student, further),
            (side_by_side.PLAIN, "SFT twin", f"train {SFT}", given.twin, twin, plain),
        ):
            spent = [cost for cost in costs if cost.stage == verb]
            students.append(side_by_side.student(title, folder, one, spent, curves.get(label, {})))
            students += [
                {"name": f"{title}, seed {number}", "asked": other.told()} for number, other in enumerate(others, 1)
            ]
    return arms.answer(
        plain=trained.get("stage") == "train" and TrainConfig(**trained["config"]["train"]).is_plain,
        full=full,
        choice=told,
        trial=[Comparison(**one) for one in told["report"]] if told else [],
        students=students,
        seeds=trainings,
        missing=missing,
    )


def _viewer(config: Config, out: Path, log: StageRun, given: Inputs) -> str:
    """Writes the page of the traces with their weights; returns its name, empty where there is nothing to show."""
    if given.scores is None or given.traces is None:
        return ""
    own = trace_pages.of_training(given.student, config)
    answers = 0 if config.evaluate.engine.name == "openai" else _ANSWERS  # a server may hold another model
    text = trace_pages.page(own, given.scores, given.student, traces=given.traces, limit=_TRACES, answers=answers)
    storage.write_text(out / "traces.html", text)
    log.text("traces.html", text)
    return "traces.html"


def _card(out: Path, log: StageRun, given: Inputs) -> str:
    """Puts the data card, that of the scores if it has the drift in it, beside the report; returns its name."""
    for folder in (given.scores, given.traces):
        if folder is not None and (folder / _CARD).is_file():
            text = (folder / _CARD).read_text(encoding="utf-8")
            storage.write_text(out / _CARD, text)
            log.text(_CARD, text)
            return _CARD
    return ""


def describe(
    config: Config,
    registry: Registry,
    decision: Decision,
    results: Mapping[str, Results],
    given: Inputs,
    origin: Origin,
    answer: arms.Answer,
) -> None:
    """Gives the registered student its model card, and the first champion, the start, where it has none yet."""
    name, licence = decision.registered_model, config.promote.base_licence
    version = registry.by_version(name, decision.challenger.version)
    if decision.outcome != "already_champion" and version is not None:
        card = model_card.student(decision, results, given.student, given.traces, licence, origin, answer)
        registry.describe(version, card)
    first = registry.find(name, loading.digest(given.start))
    if first is not None and not registry.card(first.uri):
        registry.describe(first, model_card.start(name, first.version, config.student.model, licence))


def comparable(
    config: Config, out: Path, registry: Registry, student: Results, candidates: Sequence[Results]
) -> Results:
    """Results of the champion that were made as the student's were; else the champion is evaluated again.

    Args:
        config: its ``evaluate`` section must be that of the student's results, or the gate refuses.
        out: the new results go below it.
        registry: says who is champion.
        student: its results.
        candidates: results that may be the champion's; the first is returned where there is no champion.
    """
    champion = registry.champion(config.promote.registered_model)
    if champion is None or champion.digest == student.model.digest:
        return candidates[0]
    for results in candidates:
        if results.model.digest == champion.digest and results.fingerprints == student.fingerprints:
            return results
    folder = out / "champion"
    folder.mkdir()
    evaluate.run(config, folder, NullLog(), student=registry.resolve(champion.uri))
    return load_results(folder)
