"""Between a decision and the alias: a fresh process, a budget of tests, a champion evaluated alike, a twin."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dcod.config import BenchmarkConfig, Config, EvaluateConfig, StudentConfig, TrainConfig, parse_config
from dcod.engines import reproduce
from dcod.errors import UserError
from dcod.evaluate.results import Results, load_results
from dcod.models import loading
from dcod.promote import promote
from dcod.promote.twins import equal_compute
from dcod.stages import evaluate, gate
from dcod.tracking import NullLog
from dcod.tracking.registry import Registry
from dcod.tracking.runs import Tracker
from tests.promote.test_promote import NAME, Place, contest, results
from tests.tracked import fresh_store

SUMS = "reasoning-gym://chain_sum?problems=6&seed=5&min_terms=2&max_terms=2"


@pytest.fixture
def place(tmp_path: Path, tiny_student: Path) -> Place:
    return Place(tmp_path, tiny_student)


def changed(place: Place, **fields: Any) -> None:
    place.config = place.config.model_copy(update={"promote": place.config.promote.model_copy(update=fields)})


def recorded(place: Place, student: Path) -> Path:
    """The recorded answers of a real evaluation of a model."""
    out = place.folder / f"evaluated-{student.name}"
    out.mkdir()
    asked = BenchmarkConfig(name="reasoning_gym", source=SUMS, max_new_tokens=4)
    evaluate.run(Config(evaluate=EvaluateConfig(benchmarks=[asked])), out, NullLog(), student=student)
    return out / reproduce.FILE


def decided(place: Place, student: Path, right: Iterable[int] = range(60)) -> Path:
    """A positive decision with the student's recorded answers."""
    decision, out = place.gate(student, right)
    assert decision.outcome == "promote"
    shutil.copyfile(recorded(place, student), out / reproduce.FILE)
    return out


def test_a_fresh_process_reproduces_recorded_answers_before_the_alias_moves(place: Place) -> None:
    place.load_check = True
    out = decided(place, place.student(1))
    data = json.loads((out / reproduce.FILE).read_text())
    assert len(data["prompts"]) == len(data["tokens"]) == reproduce.PROMPTS
    assert place.promote(out) == "promoted"
    version = place.registry.champion(NAME)
    assert version is not None
    assert version.tags["dcod.reproduced"].startswith("yes: 4 of 4 recorded answers reproduced by a fresh process")


def test_a_registered_model_that_says_something_else_is_not_promoted(place: Place) -> None:
    place.load_check = True
    out = decided(place, place.student(1))
    registered = place.registry.resolve(f"models:/{NAME}/2")
    assert registered != place.student(1)
    shutil.copyfile(place.student(2) / "model.safetensors", registered / "model.safetensors")
    assert place.promote(out) == "not_reproduced"
    assert place.champion() == 1
    version = place.registry.by_version(NAME, 2)
    assert version is not None
    assert version.tags["dcod.outcome"] == "not_reproduced"
    assert version.tags["dcod.reproduced"].startswith("NO: ")
    (registered / "model.safetensors").write_bytes(b"broken")
    assert place.promote(out) == "not_reproduced"
    version = place.registry.by_version(NAME, 2)
    assert version is not None
    assert "cannot run the registered model" in version.tags["dcod.outcome_reason"]


def test_without_recorded_answers_there_is_nothing_to_trust(place: Place) -> None:
    place.load_check = True
    _, out = place.gate(place.student(1), range(60))
    assert place.promote(out) == "not_reproduced"
    place.load_check = False
    assert place.promote(out) == "promoted"


def test_an_answer_counts_though_the_process_falls_at_its_exit(
    place: Place, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vLLM's threads once did; without an answer it is the failure that counts."""
    file = recorded(place, tiny_student)
    for told, holds in (('{"of": 4, "same": 4, "same_device": true, "difference": 0.0}', True), ("", False)):
        fallen = subprocess.CompletedProcess([], -6, f"engine talk\n{told}\n", "terminate called\n")
        monkeypatch.setattr(reproduce.subprocess, "run", lambda *_, fallen=fallen, **__: fallen)
        found = reproduce.reproduce(tiny_student, file)
        assert found.holds == holds
    assert found.text == "a fresh process cannot run the registered model: terminate called"


def test_on_another_device_the_log_probs_decide(place: Place, tiny_student: Path) -> None:
    file = recorded(place, tiny_student)
    data = json.loads(file.read_text()) | {"device": "cuda"}
    data["tokens"][0][-1] = 7  # as if rounding had turned the last choice there
    file.write_text(json.dumps(data))
    far = reproduce.reproduce(tiny_student, file)
    assert not far.holds  # its log-prob is not that of token 7
    data = json.loads(recorded(place, place.student(3)).read_text()) | {"device": "cuda"}
    data["logprobs"] = [[value + 0.01 for value in one] for one in data["logprobs"]]
    file.write_text(json.dumps(data))
    near = reproduce.reproduce(place.student(3), file)
    assert near.holds
    assert "on another device" in near.text
    file.write_text(json.dumps(data | {"device": "cpu", "tokens": [[7, *one[1:]] for one in data["tokens"]]}))
    assert not reproduce.reproduce(place.student(3), file).holds


def test_a_period_holds_so_many_tests_and_each_has_its_part_of_the_level(place: Place) -> None:
    changed(place, schedule="repeated", tests_per_period=2, period_days=30)
    first, _ = place.gate(place.student(1), range(5, 36))
    again, _ = place.gate(place.student(1), range(5, 36))
    second, _ = place.gate(place.student(2), range(60))
    third, out = place.gate(place.student(3), range(90))
    assert [one.level for one in (first, second)] == [0.025, 0.025]
    budgets = [next(r for r in one.reasons if r.code == "budget") for one in (first, again, second, third)]
    assert [one.text.split(" in ")[0] for one in budgets[:3]] == [
        "test 1 of at most 2",
        "test 1 of at most 2",  # the same comparison says the same
        "test 2 of at most 2",
    ]
    assert second.outcome == "promote"
    assert [reason.code for reason in third.failed] == ["budget"]
    assert "the budget is spent" in third.failed[0].text
    assert place.promote(out) == "refused"
    spent = json.loads(place.registry.note(NAME, "dcod.tests"))
    assert len(spent) == 2
    old = {key: when - 31 * 86_400 for key, when in spent.items()}
    place.registry.set_note(NAME, "dcod.tests", json.dumps(old))
    fresh, _ = place.gate(place.student(3), range(90))
    assert fresh.outcome == "promote"
    assert len(json.loads(place.registry.note(NAME, "dcod.tests"))) == 1


def test_a_single_gate_spends_nothing(place: Place) -> None:
    decision, _ = place.gate(place.student(1), range(60))
    assert decision.level == 0.05
    assert place.registry.note(NAME, "dcod.tests") == ""


def test_the_decision_lies_beside_the_registered_model(place: Place) -> None:
    decision, out = place.gate(place.student(1), range(60))
    logged = place.registry.models.find(decision.challenger.digest)
    client = place.tracker.client
    assert [f.path for f in client.list_logged_model_artifacts(logged, "decision")] == ["decision/decision.json"]
    model = place.registry.resolve(f"models:/{NAME}/2")
    stored = model.parent / "decision" / "decision.json"
    assert stored.read_text() == (out / "decision.json").read_text()
    assert loading.digest(model) == decision.challenger.digest


def test_a_champion_evaluated_otherwise_is_evaluated_again(tmp_path: Path, tiny_student: Path) -> None:
    place = Place(tmp_path, tiny_student)
    asked = BenchmarkConfig(name="reasoning_gym", source=SUMS, max_new_tokens=4)
    config = place.config.model_copy(
        update={"student": StudentConfig(max_length=256), "evaluate": EvaluateConfig(benchmarks=[asked])}
    )
    made = {}
    for name, model, section in (
        ("student", place.student(1), config),
        ("champion", tiny_student, config),
        ("other", tiny_student, config.model_copy(update={"seed": 5})),
    ):
        (tmp_path / name).mkdir()
        evaluate.run(section, tmp_path / name, NullLog(), student=model)
        made[name] = load_results(tmp_path / name)
    out = tmp_path / "out"
    out.mkdir()

    def found(*candidates: str) -> Results:
        return gate.comparable(config, out, place.registry, made["student"], [made[name] for name in candidates])

    assert found("other") is made["other"]  # no champion yet
    with place.tracker.stage("gate", None, digest="x") as log:
        place.registry.set_alias(NAME, "champion", place.registry.register(NAME, tiny_student, log.run_id).version)
    assert found("champion") is made["champion"]
    anew = found("other", "student")
    assert anew.folder == out / "champion"
    assert anew.fingerprints == made["student"].fingerprints
    assert anew.model.digest == loading.digest(tiny_student)


def manifest(folder: Path, correction: str = "trace", epochs: int = 2, **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    train = {"correction": {"name": correction}, "epochs": epochs}
    data = {"stage": "train", "config": {"train": train}, "seed": 0, "inputs": {"scores": "a"}, "code": "c", **fields}
    (folder / "manifest.json").write_text(json.dumps(data))
    return folder


def test_a_twin_is_trained_alike(tmp_path: Path) -> None:
    student = manifest(tmp_path / "student")
    equal_compute(student, manifest(tmp_path / "twin", "none"))
    for wrong, told in (
        (manifest(tmp_path / "a", "prefix"), "trained with correction 'prefix'"),
        (manifest(tmp_path / "b", "none", epochs=3), "not at equal compute, another config"),
        (manifest(tmp_path / "c", "none", seed=1), "another seed"),
        (manifest(tmp_path / "d", "none", inputs={"scores": "b"}), "another inputs"),
        (manifest(tmp_path / "e", "none", stage="fetch"), "no manifest of a training"),
        (tmp_path / "nowhere", "no manifest.json in it; give the folder that `dcod train` wrote"),
    ):
        with pytest.raises(UserError, match=told):
            equal_compute(student, wrong)


@pytest.mark.parametrize(("name", "value"), [
    ("correction", {"name": "prefix"}), ("loss", {"name": "gce"}), ("focus", 1.0), ("anchor", 0.1),
    ("learning_rate", 5e-5),
])  # fmt: skip
def test_of_what_an_arm_names_only_the_rate_of_a_twin_may_differ(name: str, value: Any, tmp_path: Path) -> None:
    """A student may be any arm; its twin is plain, at any rate."""

    def trained(folder: str, **named: Any) -> Path:
        train = {**TrainConfig().model_dump(mode="json"), **named}
        return manifest(tmp_path / folder, config={"train": train})

    plain, arm = trained("plain"), trained("arm", **{name: value})
    equal_compute(arm, plain)
    if name == "learning_rate":
        equal_compute(plain, arm)
    else:
        with pytest.raises(UserError, match="trained with"):
            equal_compute(plain, arm)


def test_a_twin_goes_into_the_decision(place: Place) -> None:
    student = place.student(1)
    twin = results(place.folder / "twin", place.student(2), range(59))
    for must, promoted in (("report", True), ("require", False)):
        changed(place, twin=must)
        out = place.folder / f"out-{must}"
        out.mkdir()
        with place.tracker.stage("gate", None, digest=must) as log:
            ours = results(place.folder / must / "student", student, range(60))
            start = results(place.folder / must / "start", place.start, range(30))
            decision = promote.challenge(
                place.config, out, log, contest(ours, start, twin=twin), student=student, start=place.start
            )
        assert decision.promote is promoted
        assert [found.role for found in decision.comparisons][-1] == "twin"


def test_a_registry_that_is_empty_has_no_notes(tmp_path: Path) -> None:
    assert Registry(Tracker(fresh_store(tmp_path))).note("nothing", "dcod.tests") == ""


@pytest.mark.parametrize("key", ["promote.load_check=false", "promote.reevaluate=false", "retrain.now=2026-11-24"])
def test_no_key_turns_a_check_off_or_back_the_clock(key: str) -> None:
    with pytest.raises(UserError, match=f"{key.partition('=')[0]}: unknown key"):
        parse_config("", [key])
