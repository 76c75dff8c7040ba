"""Which student is kept: by held-back traces or by its own answers; and how far it has gone from its start."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dcod.config import TrainConfig
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.models import loading
from dcod.traces import prompts
from dcod.traces.scored import ScoredTrace
from dcod.train import loop, parallel, selection
from dcod.train.checkpoints import Checkpoints
from tests.tiny import TWICE

KNOBS: dict[str, Any] = {"learning_rate": 1e-2, "epochs": 8, "traces_per_step": 6, "validations": 8}


@pytest.fixture(scope="module")
def misled(tiny_teacher: Path) -> tuple[list[ScoredTrace], list[ScoredTrace]]:
    """Traces that unteach what the start knows, for training and, with the right references, held back."""
    tokenizer = prompts.load_tokenizer(tiny_teacher)
    out = []
    for number, (text, answer) in enumerate(TWICE.items()):
        asked = prompts.encode_prompt(tokenizer, prompts.prompt_for("as_is", text))
        wrong = prompts.encode_completion(tokenizer, "Nobody knows: 99999.")
        gold = answer.rpartition(" ")[2]
        out.append(ScoredTrace(f"{number}", text, asked, wrong, [], [], gold=gold))
    TransformersEngine(tiny_teacher, tokenizer).annotate(out, 512)
    return [replace(trace, trace_id=f"t{trace.trace_id}") for trace in out], out


def run(
    student: Path, sets: tuple[list[ScoredTrace], list[ScoredTrace]], kept: Checkpoints | None = None, **knobs: Any
) -> tuple[loop.Result, list[int], Any]:
    model, steps = loading.load(student), list[int]()
    result = loop.train(
        model, *sets, TrainConfig.model_validate({**KNOBS, **knobs}), 0, lambda _: steps.append(len(steps)),
        lambda *_: None, kept, prompts.load_tokenizer(student),
    )  # fmt: skip
    return result, steps, model


def test_accuracy_keeps_the_student_that_answers(
    tiny_teacher: Path, misled: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces that unteach: their NLL falls until the end, while fewer and fewer answers are right."""
    monkeypatch.setattr(selection, "FEWEST", 6)
    slow = {"learning_rate": 3e-3}  # at 1e-2 some machines' students know nothing after one step
    by_nll, _, model = run(tiny_teacher, misled, select="nll", **slow)
    own = loading.load(tiny_teacher).generation_config
    assert by_nll.best_step == 8
    assert by_nll.select == {"by": "nll"}
    assert by_nll.best_accuracy == -math.inf
    assert not any("selection_accuracy" in row for row in by_nll.history)
    by_answers, saves, same = run(tiny_teacher, misled, select="accuracy", **slow)
    assert by_answers.select == {"by": "accuracy", "problems": 6}
    assert by_answers.start_accuracy > 0
    accuracies = [row["selection_accuracy"] for row in by_answers.history]
    assert max(accuracies) > accuracies[-1]
    assert by_answers.best_accuracy == max(accuracies)
    assert by_answers.best_step < 8
    assert len(saves) < 8
    for one, other in zip(model.parameters(), same.parameters(), strict=True):
        assert torch.equal(one, other)  # to ask changes nothing in what is learnt
    assert same.generation_config == own
    assert same.training


@pytest.mark.parametrize(
    ("select", "why"),
    [
        ("accuracy", "train.select=accuracy: NLL selects, since 6 of 6 held-back problems have a reference answer"),
        ("auto", "train.select=auto: NLL selects, since answers are up to"),
    ],
)
def test_nll_selects_where_answers_cannot(
    tiny_teacher: Path, misled: tuple[Any, Any], select: str, why: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Too few problems with a reference; or too many tokens for what is trained on. Said once."""
    if select == "auto":
        monkeypatch.setattr(selection, "FEWEST", 6)
    result, _, _ = run(tiny_teacher, misled, select=select, epochs=1)
    assert str(result.select["why"]).startswith(why)
    assert result.select["by"] == "nll"
    assert capsys.readouterr().err.count(why) == 1


def test_auto_asks_where_it_is_affordable(
    tiny_teacher: Path, misled: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "FEWEST", 6)
    train, held = misled
    many = [replace(trace, trace_id=f"{copy}/{trace.trace_id}") for copy in range(4) for trace in train]
    result, _, _ = run(tiny_teacher, (many, held), select="auto", validations=1, epochs=1)
    assert result.select == {"by": "accuracy", "problems": 6}
    without = [replace(trace, gold=None if number else " ") for number, trace in enumerate(held)]
    result, _, _ = run(tiny_teacher, (many, without), select="auto", validations=1, epochs=1)
    assert "0 of 6 held-back problems" in result.select["why"]


def test_a_run_that_goes_on_measures_the_same(
    tiny_teacher: Path, misled: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start's own distribution is looked at anew, before the student is set back to its checkpoint."""
    monkeypatch.setattr(selection, "FEWEST", 6)
    knobs = {"select": "accuracy", "epochs": 3, "validations": 3, "checkpoints": {"every": 1}}
    calm, _, _ = run(tiny_teacher, misled, **knobs)
    store = Checkpoints(str(tmp_path / "kept"))
    run(tiny_teacher, misled, store, **knobs)  # the last checkpoint is that of step 2
    again, _, _ = run(tiny_teacher, misled, store, **knobs)
    assert again == calm


def test_kl_is_that_of_the_whole_vocabulary(
    tiny_student: Path, misled: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the student that is kept, against its start, at every held-back position, where all tokens are looked at."""
    monkeypatch.setattr(selection, "TOP", 10_000)
    result, _, model = run(tiny_student, misled)
    assert result.best_step == 8
    start, far = loading.load(tiny_student), []
    with torch.no_grad():
        for trace in misled[1]:
            ids = torch.tensor([trace.prompt_tokens + trace.completion_tokens])
            at = slice(len(trace.prompt_tokens) - 1, -1)
            ours, theirs = (F.log_softmax(each(ids).logits[0, at].double(), -1) for each in (model, start))
            far.append((theirs.exp() * (theirs - ours)).sum(-1))
    assert result.best_kl == pytest.approx(float(torch.cat(far).mean()), rel=1e-4)
    assert result.best_kl > 0.01
    monkeypatch.setattr(selection, "TOP", 8)  # what the other tokens exchange among themselves is not seen
    coarse, _, _ = run(tiny_student, misled)
    assert 0 < coarse.best_kl < result.best_kl


def test_positions_are_bounded(tiny_student: Path, misled: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_POSITIONS", 200)
    seen: list[int] = []
    original = selection._likeliest
    monkeypatch.setattr(
        selection, "_likeliest", lambda learner, traces: seen.append(len(traces)) or original(learner, traces)
    )
    run(tiny_student, misled, epochs=1)
    assert 0 < seen[0] < len(misled[1])


def test_a_student_in_parts_is_not_asked(
    tiny_student: Path, misled: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "is_sharded", lambda _: True)
    with pytest.raises(UserError, match=r"train\.select=accuracy: a student that is split .* or train\.select=nll"):
        run(tiny_student, misled, select="accuracy")
    whole, _, _ = run(tiny_student, misled, select="auto", epochs=1, validations=1)
    assert "since the student is split over ranks" in str(whole.select["why"])


@pytest.mark.slow
def test_two_ranks_ask_as_one(tiny_teacher: Path, misled: tuple[Any, Any], tmp_path: Path) -> None:
    """A hundred problems, parted between the ranks: figures and choice are those of one."""
    train, held = misled
    many = [replace(e, trace_id=f"{n}", prompt_id=f"{n}") for n in range(18) for e in held]
    many = [replace(e, prompt_id=f"{number}") for number, e in enumerate(many)]
    knobs = {"select": "accuracy", "epochs": 3, "validations": 3}
    alone, _, _ = run(tiny_teacher, (train, many), **knobs)
    (tmp_path / "examples").write_bytes(pickle.dumps((train, many)))
    config = TrainConfig.model_validate({**KNOBS, **knobs}).model_dump_json()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command += ["tests.two_ranks", str(tiny_teacher), str(tmp_path), config]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    both = json.loads((tmp_path / "history").read_text())
    assert [row["selection_accuracy"] for row in both] == [row["selection_accuracy"] for row in alone.history]
    assert [row.get("selection_kl") for row in both] == pytest.approx(
        [row.get("selection_kl") for row in alone.history], rel=1e-2
    )
