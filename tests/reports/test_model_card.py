"""Model cards and exports: what is known is there, what is not is said to be unknown, and the folder loads anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dcod.config import Config, PromoteConfig
from dcod.errors import UserError
from dcod.evaluate.results import load_results
from dcod.models import loading
from dcod.promote import promote
from dcod.promote.contest import Contest
from dcod.reports import arms, model_card
from dcod.stages import gate
from dcod.traces import Trace, write_traces
from dcod.tracking import cards, export
from dcod.tracking.lineage import Origin
from dcod.tracking.registry import Registry
from dcod.tracking.runs import Tracker
from tests.promote.test_promote import NAME, results
from tests.reports.test_arms import CHOICE, comparison
from tests.reports.test_report import HISTORY, HOSTILE, decision, write_results
from tests.tiny import save_tiny_student
from tests.tracked import fresh_store

UNTOLD = arms.Answer(arms.NOTHING)
NOT_TRIED = {"arm": {"name": "late"}, "state": "failed", "why": HOSTILE}


def head_of(card: str) -> dict[str, Any]:
    _, head, _ = card.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Path]:
    """A training folder and its trace set, hostile where a source can be."""
    folder, traces = tmp_path / "student", tmp_path / "traces"
    folder.mkdir()
    traces.mkdir()
    (folder / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in HISTORY))
    sections = {name: getattr(Config(), name).model_dump(mode="json") for name in ("student", "train")}
    (folder / "manifest.json").write_text(json.dumps({"stage": "train", "config": sections, "seed": 5}))
    prompt = [{"role": "user", "content": "p"}]
    kept = [Trace(prompt, f"c{i}", licence=one, source_file=HOSTILE) for i, one in enumerate((None, "MIT", "MIT"))]
    write_traces(traces / "traces.parquet", kept)
    counts = {"read": 5, "accepted": 3, "problems": 1, "train": 3, "selection": 0, "quarantined": {"duplicate": 2}}
    (traces / "counts.json").write_text(json.dumps(counts))
    return folder, traces


def test_a_card_says_what_is_known(tmp_path: Path, trained: tuple[Path, Path]) -> None:
    folder, traces = trained
    shown = {"champion": write_results(tmp_path / "b", 0.4, set()), "student": write_results(tmp_path / "c", 0.6, {1})}
    files = {f"{number:064x}": f"night-{number}.jsonl" for number in range(12)} | {"f" * 64: HOSTILE}
    origin = Origin(dict(sorted(files.items(), key=lambda item: item[1])), untraced=2)
    against = CHOICE["choice"]["against"]
    brought = arms.answer(plain=False, choice=CHOICE | {"arms": [*CHOICE["arms"], NOT_TRIED]})
    card = model_card.student(decision(), shown, folder, traces, "apache-2.0", origin, brought)
    head = head_of(card)
    assert head["license"] == "apache-2.0"
    assert head["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert head["pipeline_tag"] == "text-generation"
    measured = {one["dataset"]["type"]: one["metrics"][0]["value"] for one in head["model-index"][0]["results"]}
    assert measured == {"sums": 0.6, "odd$<b>": 0.6}
    for text in (
        "# student, version 2",
        "better than the champion",
        "| holds | check | measured | limit |",
        "| yes | answers cut off: sums | 0.0% of the answers truncated | at most 50% allowed |",
        "3 of 5 rows accepted, 1 problems",
        "refused: 2 duplicate",
        "- correction: none: plain fine-tuning",
        "30 optimizer steps; mean γ 0.500",
        "| sums (zero-shot) | student | 40 | 60.0% | 50.0% to 70.0% |",
        "2 of 40 on sums",
        "traces: MIT (2), unknown (1)",
        "base model HuggingFaceTB/SmolLM2-135M-Instruct: apache-2.0",
        "a" * 64,
        "f" * 64,
        "  - night-10.jsonl: `" + f"{10:064x}",
        "  - and 3 more; `dcod lineage` names all",
        "- 2 of these files are known from the traces alone",
    ):
        assert text in card, text
    row, written = [line for line in card.splitlines() if line.startswith(f"| {against[0]['name']}")]
    assert row.count(" | ") == card[: card.index(row)].splitlines()[-1].count(" | ") > 3
    assert "tokens learnt" in card[card.index(row) : card.index(written)]
    assert card.index("The pilot chose support") < card.index(row)
    assert f"{9:064x}" not in card
    assert "<script" not in card
    assert "&lt;script" in card
    assert "\n- unknown" not in card


def test_the_short_answer_is_its_sentence_and_the_arms() -> None:
    """For pages with little room; what it holds is text, no Markdown."""
    given = arms.answer(plain=False, full=[comparison(40, 4)], choice=CHOICE | {"arms": [*CHOICE["arms"], NOT_TRIED]})
    sentence, *lines = model_card.answered(given.to_dict()).splitlines()
    assert sentence == given.text
    firsts = [line.strip("| ").partition(" | ")[0] for line in lines if line]
    assert firsts[:7] == ["report problems", "---", "sums", "arm", "---", "sft", "support (chosen)"]
    assert firsts[8].startswith("late: failed: &lt;script")
    assert "tokens learnt" not in "".join(lines)
    assert "<script" not in "".join(lines)
    assert model_card.answered(UNTOLD.to_dict()) == arms.NOTHING


def test_what_is_unknown_is_said_to_be(tmp_path: Path) -> None:
    card = model_card.student(decision(promote=False), {}, tmp_path, None, "", Origin({}), UNTOLD)
    assert head_of(card)["license"] == "unknown"
    assert "base_model" not in head_of(card)
    for text in (
        "unknown (promote.base_licence says it)",
        "Unknown: the trace set was not given",
        "| NO | better than the champion: sums",
        "files behind it: unknown",
    ):
        assert text in card, text
    assert "not shown to be better" in card


def test_a_description_fits_into_a_registry(tmp_path: Path) -> None:
    card = model_card.student(decision(), {}, tmp_path, None, "", Origin({}), UNTOLD)
    assert cards.description(card).startswith("# student, version 2")
    assert "license:" not in cards.description(card)
    long = card + "".join(f"\n## More {i}\n\n{'x' * 400}\n" for i in range(20))
    short = cards.description(long)
    assert len(short) <= cards.DESCRIPTION
    assert short.endswith("xxx\n\nThe whole card is README.md beside the weights.")


def test_a_registered_student_has_its_card_and_is_exported(tmp_path: Path, tiny_student: Path) -> None:
    section = PromoteConfig(registered_model=NAME, lease=str(tmp_path / "lease"))
    config = Config(promote=section, tracking=fresh_store(tmp_path / "store"))
    tracker = Tracker(config.tracking)
    student = save_tiny_student(tmp_path / "student", seed=1)
    shown = {
        "start": results(tmp_path / "a", tiny_student, range(30)),
        "student": results(tmp_path / "b", student, range(60)),
    }
    measured = {name: load_results(folder) for name, folder in shown.items()}
    (tmp_path / "out").mkdir()
    with tracker.stage("train", None, digest="t") as log:
        log.output(student)
    with tracker.stage("gate", None, digest="g") as log:
        contest = Contest(measured["student"], (measured["start"],))
        decided = promote.challenge(config, tmp_path / "out", log, contest, student=student, start=tiny_student)
    registry = Registry(tracker)
    given = gate.Inputs(tiny_student, student, shown["student"], shown["start"], shown["start"])
    gate.describe(config, registry, decided, measured, given, Origin({}), UNTOLD)
    card = registry.card(f"models:/{NAME}@challenger")
    assert f"# {NAME.replace('-', '-')}, version 2" in card
    described = tracker.client.get_model_version(NAME, "2").description
    assert described == cards.description(card)
    assert "not trained by dcod" in registry.card(f"models:/{NAME}@champion")
    found = tracker.outputs.find("train", "t")
    assert found is not None
    tracker.outputs.fetch(found, tmp_path / "again")  # the card that came later is no part of the stage's output
    assert not (tmp_path / "again" / "README.md").exists()

    assert export.export(config.tracking, f"models:/{NAME}/2", tmp_path / "export")
    assert (tmp_path / "export" / "README.md").read_text() == card
    assert loading.digest(tmp_path / "export") == decided.challenger.digest
    ids = torch.tensor([[1, 20, 30, 40]])
    ours, theirs = (loading.load(folder)(input_ids=ids).logits for folder in (student, tmp_path / "export"))
    assert torch.equal(ours, theirs)
    with pytest.raises(UserError, match=r"versions: 1, 2"):
        export.export(config.tracking, f"models:/{NAME}/3", tmp_path / "none")
    assert not (tmp_path / "none").exists()
