"""The pre-trained student's second protocol: its tasks, a cell of a tiny student, its rules on made-up rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.pretrained.second import cells, choice, core, guards, lab, tables
from bench.pretrained.second.tasks import TASKS, answer_of
from bench.study.second.cells import Cell, Row
from bench.study.second.choice import indexed
from bench.study.second.entries import ENTRIES, SFT, START
from dcod.engines import Completion
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.traces import prompts


@pytest.mark.parametrize("name", TASKS)
def test_every_style_ends_in_the_answer_and_is_told(name: str) -> None:
    task = TASKS[name]
    for problem in task.problems(60, 5, "train"):
        for style in task.styles:
            text = task.write(problem, style)
            assert answer_of(text) == problem.answer
            assert task.style_of(text) == style
            assert len(text) < 4 * task.max_new_tokens


@pytest.mark.parametrize("name", TASKS)
def test_a_text_is_of_one_part(name: str) -> None:
    sets = [
        {p.text for p in TASKS[name].problems(120, seed, part)}
        for part in ("teacher", "train", "validation", "test")
        for seed in (1000, 4000)
    ]  # fmt: skip
    for place, one in enumerate(sets):
        assert len(one) == 120
        assert all(not one & other for other in sets[place // 2 * 2 + 2 :])


def test_answers_to_a_task_are_not_guessed() -> None:
    """No answer is that of more than a tenth of the problems."""
    for task in TASKS.values():
        answers = [p.answer for p in task.problems(400, 3, "test")]
        assert max(answers.count(answer) for answer in set(answers)) < 40


@pytest.fixture
def laboratory(tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """A tiny student that is also the teacher, whose samples are the program's own texts."""
    tokenizer, generate = prompts.load_tokenizer(tiny_student), TransformersEngine.generate

    def written(engine: TransformersEngine, asked: list[list[int]], *rest: object) -> list[Completion]:
        """The solution that stands in the prompt as a hint, where there is one."""
        texts = [tokenizer.decode(one, skip_special_tokens=True).partition(f"{lab.MARK}\n") for one in asked]
        if not texts[0][1]:
            return generate(engine, asked, *rest)  # type: ignore[arg-type]
        whole = [text.partition("\n" if "\nassistant" not in text else "\nassistant")[0] for _, _, text in texts]
        return [Completion(text, prompts.encode_completion(tokenizer, text), truncated=False) for text in whole]

    monkeypatch.setattr(lab, "base", lambda: tiny_student)
    monkeypatch.setattr(lab, "tokenizer", lambda: tokenizer)
    monkeypatch.setattr(lab, "teacher", lambda *_: tiny_student)
    monkeypatch.setattr(lab, "TRACES", 8)
    monkeypatch.setattr(TransformersEngine, "generate", written)
    for name, value in (("VALIDATION", 4), ("TEST", 4), ("SAMPLED", 2)):
        monkeypatch.setattr(cells, name, value)
    monkeypatch.setitem(TASKS, "reversal", replace(TASKS["reversal"], max_new_tokens=3))
    return lambda: tmp_path


def test_a_cell(laboratory: Callable[[], Path]) -> None:
    row = cells.row_of(Cell("reversal/4", "support_4", 1e-3, 1, 0), laboratory())
    assert (len(row["greedy"]), len(row["sampled"]["0.6"])) == (4, 4)
    assert set(row["validation"]) == {"greedy", "0.6"}
    assert row["mean_ess"] > 0
    assert sum(row["styles"].values()) == 4
    json.dumps(row)


def test_a_fresh_student_is_asked_ifeval(laboratory: Callable[[], Path], tmp_path: Path) -> None:
    """It says a few words: one prompt is content with any without a comma, one wants nine hundred."""
    kinds = [
        ("punctuation:no_comma", {}),
        ("length_constraints:number_words", {"num_words": 900, "relation": "at least"}),
    ]
    asked = [
        {
            "key": i,
            "prompt": f"Say {i}.\n{lab.MARK}\nA few words.",
            "instruction_id_list": [kinds[i % 2][0]],
            "kwargs": [kinds[i % 2][1]],
        }
        for i in range(541)
    ]
    (tmp_path / "ifeval.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    with pytest.MonkeyPatch.context() as few:
        few.setattr(guards, "TOKENS", 4)
        few.setattr(guards, "PROMPTS", 2)
        row = cells.row_of(Cell("reversal/4", START, 0.0, 0, 10), laboratory(), str(tmp_path / "ifeval.jsonl"))
    assert row["ifeval"] == [1, 0]
    assert row["looping"] + row["contradicting"] == 0
    json.dumps(row)


def row(regime: str, method: str, setting: tuple[float, int], seed: int, value: float, part: str) -> Row:
    """All temperatures alike."""
    names = ("greedy", "0.6") if part == "validation" else ("greedy", *cells.LATE)
    hits = [1] * round(100 * value) + [0] * round(100 - 100 * value)
    return {
        "regime": regime, "method": method, "rate": setting[0], "epochs": setting[1], "seed": seed,
        "seconds": 1, "date": "2020-01-01", "machine": "m", part: dict.fromkeys(names, value),
        "greedy": hits, "sampled": dict.fromkeys(names[1:], hits), "majority": dict.fromkeys(names[1:], hits),
        "truncated": 1, "looping": 2, "contradicting": 0, "ifeval": [1, 0, 0, 0],
        "styles": {"at_once": 60, "sum": 40}, "styles_right": {"sum": 40},
    }  # fmt: skip


def test_from_rows_to_the_confirmation(tmp_path: Path) -> None:
    gains = {SFT: 0.0, "deft": 0.06, "gce_25": 0.02, "support_4": -0.1, "own_unverified": 0.2}
    rows = [
        row(regime, method, setting, seed, 0.5 + gain + 0.02 * seed - 0.1 * (setting != (2e-4, 2)), "validation")
        for regime in choice.regimes() for method, gain in gains.items()
        for setting in choice.GRID for seed in choice.SEEDS
    ]  # fmt: skip
    assert choice.finalists(indexed(rows)) == ["deft", "gce_25"]  # no control, whatever it gains
    with pytest.raises(UserError, match="--stage shortlist"):
        choice.committed(tmp_path, "shortlist")
    with pytest.raises(UserError, match="not tuned"):
        choice.settings(indexed(rows[1:]), ["deft"])
    (tmp_path / "shortlist.json").write_text(json.dumps({"finalists": ["deft", "gce_25"]}))
    made = choice.settings(indexed(rows), ["deft", "gce_25"])
    (tmp_path / "choice.json").write_text(json.dumps(made))
    wanted = list(choice.confirmation(choice.committed(tmp_path, "choice")))
    assert len(set(wanted)) == len(wanted) == 4 * (5 * 3 + 1)
    fresh = [
        row(c.regime, c.method, (c.rate, c.epochs), c.seed, 0.5 + gains[c.method] + 0.01 * (c.seed % 2), "test")
        for c in wanted if c.method != START and c.regime != "reversal/4"
    ]  # fmt: skip
    for name, some in (("tune", rows), ("confirm", fresh)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in some))
    tables.write(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "| deft | 3 of 4 | **+6.0 [+6.0, +6.0]** |" in text
    assert "at_once 60 (0), sum 40 (100)" in text
    assert "reversal/4 sft" in text.split("## Cells")[1]
    assert "| deft | legs/4 | 5 | 1.0 | 2.0 | 0.0 | 25.0 |" in text


def test_the_core_is_the_whole_of_a_narrowed_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COUNTS", "METHODS", "GRID"):
        monkeypatch.setattr(choice, name, getattr(choice, name))
    core.narrow()
    rows = [
        row("sorting/4", method, setting, seed, 0.5 + 0.01 * place, "validation")
        for place, method in enumerate(core.METHODS) for setting in choice.GRID for seed in choice.SEEDS
    ]  # fmt: skip
    wanted = list(choice.tuning([SFT]))
    assert {(c.regime, c.epochs) for c in wanted if c.method == SFT} == {("sorting/4", 2)}
    assert choice.finalists(indexed(rows)) == ["naturalness_gce", "naturalness"]
    made = choice.settings(indexed(rows), ["naturalness"])
    assert {c.regime for c in choice.confirmation(made)} == {"sorting/4", "reversal/4", "legs/4"}


def test_every_method_is_an_entry() -> None:
    assert set(choice.METHODS) <= set(ENTRIES)
    assert choice.FIRST in TASKS
    assert not any(choice.is_idle(m, f"{choice.FIRST}/4") for m in choice.METHODS)
    assert choice.is_idle("naturalness", f"{choice.FIRST}/1")
