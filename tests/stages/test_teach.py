"""Teach: attempts with their log-probs through ingest and score, killed and gone on, stopped when there is enough."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dcod.config import parse_config
from dcod.config.teach import TeachConfig
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.score.scores import read_scores
from dcod.stages import teach
from dcod.stages.execute import RunContext, execute
from dcod.teach import questions
from dcod.teach.attempts import Attempts
from dcod.traces import prompt_digest, prompts
from dcod.train import loop
from tests.tiny import TWICE


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """The problems that the tiny teacher knows, with references; the last one's is wrong."""
    rows = [{"problem": text, "gold": said.rpartition(" ")[2]} for text, said in TWICE.items()]
    rows[-1]["gold"] = "99"
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def section(asked: Path, work: Path, **more: Any) -> dict[str, Any]:
    fixed = {"prompts": [str(asked)], "asks": "as_is", "work": str(work), "max_new_tokens": 24, "attempts": 3}
    return {**fixed, "batch_size": 4, "temperature": 0.8, "top_p": 0.95, **more}


def run(out: Path, teacher: Path, given: dict[str, Any], **others: Any) -> list[dict[str, Any]]:
    config = parse_config(json.dumps({"teach": {"model": str(teacher), **given}, **others}))
    execute("teach", config, out, {"teacher": teacher}, RunContext(tracked=False))
    rows: list[dict[str, Any]] = pq.read_table(out / "attempts.parquet").to_pylist()
    usage = json.loads((out / "usage.json").read_text())
    assert usage["attempts"] == len(rows) == sum(usage[name] for name in teach.OUTCOMES)
    assert len({(row["question"], row["attempt"]) for row in rows}) == len(rows)
    return rows


def test_attempts_go_through_ingest_and_score_to_the_trace_correction(
    tmp_path: Path, asked: Path, tiny_teacher: Path, tiny_student: Path
) -> None:
    """The behaviour log-probs arrive as they were drawn; without them the same correction is refused."""
    given = section(asked, tmp_path / "work", attempts=6, top_k=3, input_price=1.0, output_price=10.0)
    rows = run(tmp_path / "taught", tiny_teacher, given)
    usage = json.loads((tmp_path / "taught" / "usage.json").read_text())
    assert usage["correct"] >= 5
    assert usage["input_tokens"] == sum(row["read"] for row in rows)
    assert usage["cost"] == pytest.approx((usage["input_tokens"] + 10 * usage["output_tokens"]) / 1e6)
    assert {row["attempts"] for row in rows} == {6}
    assert all(len(row["token_ids"]) == len(row["behavior_logprobs"]) == row["wrote"] for row in rows)
    assert f"{usage['correct']:.0f} correct" in teach.table(tmp_path / "taught")

    def checked(source: Path, name: str) -> int:
        config = parse_config(
            json.dumps({"ingest": {"sources": [str(source)]}, "train": {"correction": {"name": "trace"}}})
        )
        folder = tmp_path / name
        execute("ingest", config, folder / "traces", {"student": tiny_student}, RunContext(tracked=False))
        inputs = {"traces": folder / "traces", "student": tiny_student}
        execute("score", config, folder / "scores", inputs, RunContext(tracked=False))
        splits = read_scores(folder / "scores")
        examples = splits["train"] + splits["selection"]
        if name == "recorded":
            drawn = [(prompt_digest(row["prompt"]), row["token_ids"], row["behavior_logprobs"]) for row in rows]
            assert all((one.prompt_id, one.completion_tokens, one.behavior_logprobs) in drawn for one in examples)
            assert all(one.behavior_total == pytest.approx(sum(one.behavior_logprobs or ())) for one in examples)
            assert all(one.teacher_top_ids for one in examples)
        loop.check(config.train, splits["train"])
        return len(examples)

    different = {row["good"] for row in rows if row["good"]}
    assert checked(tmp_path / "taught", "recorded") == len(different) > 0
    counts = json.loads((tmp_path / "recorded" / "traces" / "counts.json").read_text())
    assert counts["read"] == len(rows)
    assert counts["quarantined"].get("truncated", 0) == usage["truncated"]
    plain = section(asked, tmp_path / "work", attempts=6, logprobs=False)
    text_alone = run(tmp_path / "plain", tiny_teacher, plain)
    assert {row["behavior_logprobs"] for row in text_alone} == {None}
    with pytest.raises(UserError, match="needs behavior_logprobs or behavior_total"):
        checked(tmp_path / "plain", "text_alone")


def test_a_prompt_with_enough_correct_answers_is_left_alone(tmp_path: Path, asked: Path, tiny_teacher: Path) -> None:
    everything = run(tmp_path / "all", tiny_teacher, section(asked, tmp_path / "work", attempts=5))
    less = run(tmp_path / "less", tiny_teacher, section(asked, tmp_path / "work", attempts=5, enough=1))
    alone = run(tmp_path / "alone", tiny_teacher, section(asked, tmp_path / "other", attempts=5, enough=1))
    said = [[(row["question"], row["attempt"], row["token_ids"]) for row in rows] for rows in (less, alone)]
    assert sorted(said[0]) == sorted(said[1]), "what was asked before decides nothing"
    by_question: dict[str, list[dict[str, Any]]] = {}
    for row in less:
        by_question.setdefault(row["question"], []).append(row)
    sizes = set()
    for name, rows in by_question.items():
        full = [row for row in everything if row["question"] == name]
        first = next((n for n, row in enumerate(full) if row["good"]), 4)
        assert len(rows) == first + 1 == rows[0]["attempts"]
        assert [row["token_ids"] for row in rows] == [row["token_ids"] for row in full[: first + 1]]
        sizes.add(len(rows))
    assert len(by_question) == 6
    assert len(sizes) > 1
    wrong = [rows for rows in by_question.values() if rows[0]["gold"] == "99"]
    assert [len(rows) for rows in wrong] == [5], "no answer to it counts"


class Killed(BaseException):
    """Nothing catches it, and nothing tidies up after it."""


@pytest.mark.parametrize("moment", ["before", "half", "after"])
def test_stopped_anywhere_it_ends_with_the_same_attempts(
    tmp_path: Path, asked: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before a shard is written, when it is not yet in its place, and right after."""
    whole = run(tmp_path / "whole", tiny_teacher, section(asked, tmp_path / "work"))
    given, add, shards = section(asked, tmp_path / "killed"), Attempts.add, 0

    def die(*_: Any) -> None:
        raise Killed

    def dying(self: Attempts, rows: Any) -> None:
        nonlocal shards
        shards += 1
        if shards == 3 and moment == "before":
            die()
        with pytest.MonkeyPatch.context() as patch:
            if shards == 3 and moment == "half":
                patch.setattr("dcod.storage.outputs._take_place", die)
            add(self, rows)
        if shards == 3:
            die()

    with monkeypatch.context() as patch:
        patch.setattr(Attempts, "add", dying)
        with pytest.raises(Killed):
            run(tmp_path / "never", tiny_teacher, given)
    assert not (tmp_path / "never").exists()
    (folder,) = (tmp_path / "killed").iterdir()
    assert len(list(folder.glob("shard-*"))) == (3 if moment == "after" else 2)
    assert run(tmp_path / "again", tiny_teacher, given) == whole
    assert len(list(folder.glob("shard-*"))) == 6  # of four attempts and two, three times


@pytest.mark.slow
def test_a_killed_process_loses_no_shard(tmp_path: Path, asked: Path, tiny_teacher: Path) -> None:
    """The command line, killed by the system after its second shard, in the middle of the next."""
    given = section(asked, tmp_path / "killed", model=str(tiny_teacher), attempts=20)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"teach": given}))
    command = [sys.executable, "-m", "dcod", "teach", "--config", str(config), "--no-track", "--out"]
    process = subprocess.Popen([*command, str(tmp_path / "never")])
    while len(list(tmp_path.glob("killed/*/shard-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    kept = len(list(tmp_path.glob("killed/*/shard-*")))
    assert kept < 40
    done = subprocess.run([*command, str(tmp_path / "again")], check=True, capture_output=True, text=True)
    assert "120: " in done.stdout
    whole = run(tmp_path / "whole", tiny_teacher, {**given, "work": str(tmp_path / "work")})
    assert pq.read_table(tmp_path / "again" / "attempts.parquet").to_pylist() == whole


def test_what_was_asked_is_not_asked_again(
    tmp_path: Path, asked: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prices and limits are no part of the policy; the temperature is."""
    calls = []
    generate = TransformersEngine.generate

    def counted(self: TransformersEngine, some: Any, *rest: Any) -> Any:
        calls.append(len(some))
        return generate(self, some, *rest)

    monkeypatch.setattr(TransformersEngine, "generate", counted)
    given = section(asked, tmp_path / "work", attempts=2)
    rows = run(tmp_path / "first", tiny_teacher, given)
    assert sum(calls) == 12
    assert run(tmp_path / "second", tiny_teacher, {**given, "output_price": 3.0, "batch_size": 5}) == rows
    assert sum(calls) == 12
    more = run(tmp_path / "third", tiny_teacher, {**given, "attempts": 3})
    assert sum(calls) == 18
    assert [{**row, "attempts": 2} for row in more[:12]] == rows
    fewer = run(tmp_path / "fourth", tiny_teacher, {**given, "attempts": 1})
    assert [{**row, "attempts": 2} for row in fewer] == rows[:6]
    assert sum(calls) == 18
    run(tmp_path / "fifth", tiny_teacher, {**given, "temperature": 0.9})
    assert sum(calls) == 30


def test_two_at_once_are_refused(tmp_path: Path, asked: Path, tiny_teacher: Path) -> None:
    given = section(asked, tmp_path / "work", attempts=1)
    run(tmp_path / "out", tiny_teacher, given)
    (folder,) = (tmp_path / "work").iterdir()
    from dcod import storage

    with storage.lease(str(folder / "lock")), pytest.raises(UserError, match="another `dcod teach` works there"):
        run(tmp_path / "out", tiny_teacher, given)


def test_questions_come_from_every_kind_of_row(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"problem": "1 + 1?", "gold": "2"},
        {"question": "What is twice 3?", "answer": "3 * 2 = 6\n#### 6"},
        {"problem": "2 + 2?", "solution": "So \\boxed{4}."},
        {"prompt": "3 + 3?", "solution": "It is \\boxed{6}."},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "4 + 4?"}], "gold": 8},
        {"prompt": [{"role": "user", "content": "5 + 5?"}], "completion": "10", "gold": "10"},
        {"question": "Why?"},
        {"problem": "1  +  1?", "gold": "2"},
        {"something": "else"},
        {"messages": [{"role": "tool", "content": "x"}]},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    found, passed = questions.read([str(path)], "boxed")
    assert [one.gold for one in found] == ["2", "6", "4", "6", "8", "10", None]
    assert found[0].prompt == prompts.prompt_for("boxed", "1 + 1?")
    assert [message["role"] for message in found[4].prompt] == ["system", "user"]
    assert found[5].prompt == [{"role": "user", "content": "5 + 5?"}]
    assert passed == {"duplicate": 1, "no_prompt": 1, "bad_messages": 1, "bad_json": 1}
    assert len({one.id for one in found}) == 7
    path.write_text('{"something": "else"}\n')
    with pytest.raises(UserError, match=r"none of 1 rows is a question.*something"):
        questions.read([str(path)], "boxed")


def test_a_policy_that_nobody_could_know_is_refused() -> None:
    endpoint = {"name": "openai", "endpoint": "http://127.0.0.1:9/v1", "model": "x"}
    for wrong, words in (
        ({"engine": endpoint, "model": "m", "temperature": 0.7}, "only at temperature=1 and top_p=1"),
        ({"engine": endpoint, "model": "m", "top_p": 0.9}, "only at temperature=1 and top_p=1"),
        ({"engine": endpoint}, "text alone"),
        ({"logprobs": False, "top_k": 5}, "top_k needs logprobs"),
        ({"temperature": 0.0}, "greater than 0"),
    ):
        with pytest.raises(UserError, match=words):
            parse_config(json.dumps({"teach": wrong}))
    TeachConfig.model_validate({"engine": endpoint, "model": "m", "top_p": 0.9, "endpoint_logprobs": "processed"})
    TeachConfig.model_validate({"engine": endpoint, "logprobs": False, "temperature": 0.7})


def test_a_teacher_is_needed_and_must_have_room(tmp_path: Path, asked: Path, tiny_teacher: Path) -> None:
    config = parse_config(json.dumps({"teach": section(asked, tmp_path / "work")}))
    with pytest.raises(UserError, match="no teacher"):
        execute("teach", config, tmp_path / "out", {}, RunContext(tracked=False))
    with pytest.raises(UserError, match=r"teach\.prompts is empty"):
        run(tmp_path / "out", tiny_teacher, {})
    with pytest.raises(UserError, match=r"has 2048 positions; lower teach\.max_new_tokens"):
        run(tmp_path / "out", tiny_teacher, section(asked, tmp_path / "work", max_new_tokens=2048))


def test_a_teacher_is_asked_behind_its_system_prompt_which_no_trace_holds(
    tmp_path: Path, asked: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    true = TransformersEngine.generate

    def generate(self: TransformersEngine, given: Any, *more: Any) -> Any:
        seen.extend(given)
        return true(self, given, *more)

    monkeypatch.setattr(TransformersEngine, "generate", generate)
    work = section(asked, tmp_path / "work", attempts=1)
    plain = run(tmp_path / "plain", tiny_teacher, work)
    first = len(seen)
    behind = run(tmp_path / "behind", tiny_teacher, {**work, "system_prompt": "Be brief."})
    assert len(seen) == 2 * first  # another policy: nothing of the first is taken over
    tokenizer = prompts.load_tokenizer(tiny_teacher)
    system = {"role": "system", "content": "Be brief."}
    assert seen[first:] == [prompts.encode_prompt(tokenizer, [system, *row["prompt"]]) for row in behind]
    assert [row["prompt"] for row in behind] == [row["prompt"] for row in plain]
    assert {row["tokenizer_digest"] for row in behind}.isdisjoint(row["tokenizer_digest"] for row in plain)


def test_the_students_own_answers_are_to_what_it_is_taught(tiny_teacher: Path) -> None:
    given = {"student": {"model": str(tiny_teacher), "system_prompt": "Be brief."}, "teach": {"source": "student"}}
    assert teach.settled(parse_config(json.dumps(given))).teach.system_prompt == "Be brief."
