"""Mappings: paths, stars in step, values, and what is said where a row has not what they name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dcod.config import IngestConfig, parse_config
from dcod.config.mapping import MapConfig, SourceConfig
from dcod.errors import UserError
from dcod.traces import Trace
from dcod.traces.formats import RowError
from dcod.traces.mapping import addresses, checking, engine, paths, values

ASKED, SAID = "What are three threes?", "They are \\boxed{9}."


def mapped(row: dict[str, Any], **chosen: Any) -> list[Trace | RowError]:
    return engine.traces(row, MapConfig.model_validate({"prompt": "q", "completion": "a", **chosen}))


def one(row: dict[str, Any], **chosen: Any) -> Trace:
    (found,) = mapped({"q": ASKED, "a": SAID} | row, **chosen)
    assert isinstance(found, Trace), found
    return found


def code(row: dict[str, Any], **chosen: Any) -> str:
    try:
        (found,) = mapped({"q": ASKED, "a": SAID} | row, **chosen)
    except RowError as error:
        return error.code
    return found.code if isinstance(found, RowError) else ""


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b", 1),
        ("l[1]", "y"),
        ("l[-1]", "z"),
        ('"odd name/x-@.y"', 2),
        ("t[role=user].content", "hi"),
        ("j.k[0]", 5),
        ("a.none", None),
        ("missing?", None),
    ],
)
def test_what_a_path_finds(path: str, value: Any) -> None:
    row = {
        "a": {"b": 1, "none": None}, "l": ["x", "y", "z"], "odd name/x-@.y": 2, "j": '{"k": [5]}',
        "t": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}],
    }  # fmt: skip
    found = values.Mapped(row, MapConfig(gold=path)).value("gold")
    assert found == value


@pytest.mark.parametrize("path", ["", "[0]", "a[", "a[x", "a[*", '"a'])
def test_what_is_no_path_is_told(path: str) -> None:
    with pytest.raises(UserError, match="expected keys and positions"):
        paths.parse(path)


def test_a_list_becomes_traces_with_the_lists_beside_it() -> None:
    row = {"q": ASKED, "a": ["one", "two", "three"], "who": ["x", "y", "z"], "done": ["stop", "length", "stop"]}
    chosen = {"completion": "a[*]", "teacher": "who[*]", "finish_reason": "done[*]"}
    found = mapped(row, **chosen)
    assert [item.code if isinstance(item, RowError) else (item.completion, item.teacher) for item in found] == [
        ("one", "x"),
        "truncated",
        ("three", "z"),
    ]
    short = mapped(row | {"who": ["x"]}, **chosen)
    assert isinstance(short[2], RowError)
    assert short[2].code == "uneven_lists"
    nothing = mapped(row | {"who": ["x"]}, **chosen, uneven="null")
    assert isinstance(nothing[2], Trace)
    assert nothing[2].teacher is None
    assert [getattr(item, "teacher", "") for item in mapped(row | {"who": None}, **chosen)] == [None, "", None]


def test_columns_of_like_names_are_read_in_step_and_name_the_teacher() -> None:
    row = {"q": ASKED, "red_answer": "\\boxed{9}", "red_thought": "Hm, nine.", "blue_answer": "\\boxed{8}"}
    row |= {"blue_thought": "Eight then.", "red_grade": "Yes", "blue_grade": "No"}
    chosen = {"completion": "*_answer", "thought": "*_thought", "flags": ["*_grade"]}
    red, blue = mapped(row, **chosen, teacher={"star": 1, "names": {"red": "r-1"}})
    assert isinstance(red, Trace)
    assert isinstance(blue, Trace)
    assert (red.teacher, blue.teacher, red.flagged, blue.flagged) == ("r-1", "blue", "", "*_grade: No")
    assert red.completion == "<think>\nHm, nine.\n</think>\n\n\\boxed{9}"
    numbered = mapped({"q": ASKED, "r@1": ["a"], "r@2": ["b", "c"], "r@best": ["d"]}, completion="r@#[*]")
    assert [getattr(item, "completion", "") for item in numbered] == ["a", "b", "c"]


def test_values_of_every_form() -> None:
    assert one({}, teacher={"value": "gpt"}).teacher == "gpt"
    assert one({"c": "Mind."}, prompt={"join": ["q", "c", "d?"]}).problem == f"{ASKED}\n\nMind."
    options = one({"o": ["8", "9"]}, prompt={"text": "{q}\n{o|letters}"}).problem
    assert options == f"{ASKED}\n(A) 8\n(B) 9"
    assert one({"c": ["8", "9"], "n": [1]}, gold={"pick": "c", "at": "n"}).gold == "9"
    assert one({"g": None, "h": "9"}, gold=["f", "g", "h"]).gold == "9"
    assert one({"a": ["First.", "Then \\boxed{9}."]}, completion={"join": ["a[*]"], "by": "\n"}).completion == (
        "First.\nThen \\boxed{9}."
    )
    assert one({}, instruction="boxed").problem.endswith("\\boxed{}.")
    assert one({"g": "Three by three, so \\boxed{9}, as was to be shown."}, gold="g").gold == "9"
    assert one({"g": "proof"}, gold="g").no_gold == "gold: proof"
    assert code({"o": ["8"], "n": 4}, gold={"pick": "o", "at": "n"}) == "no_path"


def test_chats_of_every_form() -> None:
    chat = [{"speaker": "boss", "text": ASKED}, {"speaker": "aide", "text": SAID}]
    keys = {"role": "speaker", "content": "text", "roles": {"boss": "user", "aide": "assistant"}}
    found = engine.traces({"c": chat}, MapConfig.model_validate({"messages": "c", **keys}))
    assert [(item.problem, item.completion) for item in found if isinstance(item, Trace)] == [(ASKED, SAID)]
    lists = {"role": ["developer", "user"], "content": ["Be brief.", ASKED]}
    assert [turn["role"] for turn in one({"q": lists}).prompt] == ["system", "user"]
    assert one({"q": json.dumps(chat[:1])}, **keys).problem == ASKED
    whole = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}]
    assert one({"q": whole[:1], "a": whole}).prompt == whole[:1]
    assert one({"q": f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n"}).problem == ASKED


def test_turns_that_repeat_the_end_of_the_prompt_go_on_with_it() -> None:
    system, user = {"role": "system", "content": "Be terse."}, {"role": "user", "content": ASKED}
    said = {"role": "assistant", "content": SAID}
    for turns in ([said], [user, said], [system, user, said]):
        trace = one({"q": [system, user], "a": turns})
        assert (trace.prompt, trace.completion) == ([system, user], SAID)


def test_choosing_and_wrong_ones() -> None:
    where = [{"ok": True}, {"score": 5}]
    assert code({"ok": True}, where=where) == ""
    assert code({"ok": False, "score": 5}, where=where) == ""
    assert code({"ok": 1, "score": 4}, where=where) == "not_chosen"
    assert one({}, wrong=True).flagged == "mapped as wrong"


@pytest.mark.parametrize(
    ("row", "chosen", "reason"),
    [
        ({}, {"completion": "b"}, "no_path"),
        ({"a": None}, {}, "no_completion"),
        ({"a": []}, {"completion": "a[*]"}, "no_completion"),
        ({"a": ["x", "y"]}, {}, "bad_field"),
        ({"a": ["x"] * (paths.MOST + 1)}, {"completion": "a[*]"}, "too_many_items"),
        ({"q": ""}, {}, "empty_prompt"),
        ({"i": [1], "l": [-0.5]}, {"token_ids": "i", "logprobs": "l"}, "not_sampler_logprobs"),
        ({"i": [1], "l": [-0.5, 0.0]}, {"token_ids": "i", "logprobs": "l"}, "bad_field"),
    ],
)
def test_what_a_row_lacks_is_a_reason(row: dict[str, Any], chosen: dict[str, Any], reason: str) -> None:
    assert code(row, **chosen) == reason


def test_sampled_tokens_come_along_where_they_are_the_samplers() -> None:
    more = {"token_ids": "i", "logprobs": "l[*][0]", "temperature": {"value": "1"}, "top_p": {"value": "1.0"}}
    found = one({"i": [7, 8], "l": [[-0.5, 7], [-0.25, 8]]}, **more)
    assert (found.token_ids, found.behavior_logprobs) == ([7, 8], [-0.5, -0.25])


def test_a_path_that_no_row_has_is_told_with_the_nearest_names() -> None:
    rows = [{"question": ASKED, "meta": {"x": 1}}]
    with pytest.raises(UserError, match=r"prompt: no row has 'qestion'; did you mean question\?"):
        checking.check("f", MapConfig(prompt="qestion"), rows)
    with pytest.raises(UserError, match=r"gold: no row has 'meta.y' \(.*but x"):
        checking.check("f", MapConfig(prompt="question", gold="meta.y"), rows)
    checking.check("f", MapConfig(prompt="question", gold="none?"), rows)


def test_a_mapping_in_an_address() -> None:
    found = addresses.address("s3://b/x.jsonl?prompt=q&completion=a[*]&teacher==gpt&gold={g}!&ignore=c,d")
    (chosen,) = engine.compiled(found.map)
    assert found.path == "s3://b/x.jsonl"
    assert (chosen.completion, chosen.ignore) == ("a[*]", ["c", "d"])
    assert (chosen.teacher, chosen.gold) == (
        MapConfig.model_validate({"teacher": {"value": "gpt"}}).teacher,
        MapConfig.model_validate({"gold": {"text": "{g}!"}}).gold,
    )
    assert addresses.address("reasoning-gym://chain_sum?problems=3").map == ""
    assert addresses.address("traces-?.jsonl", "s1k").path == "traces-?.jsonl"
    for wrong, told in (("f?prmpt=x", "unknown option prmpt"), ("f?map=s1", "did you mean s1k"), ("f?gold=[", "path")):
        with pytest.raises(UserError, match=told):
            addresses.address(wrong)
    config = IngestConfig.model_validate({"sources": [{"path": "f", "map": {"prompt": "q", "completion": "a"}}]})
    (source,) = config.sources
    assert engine.compiled(addresses.address(source).map)[0].prompt == "q"
    assert IngestConfig.model_validate(config.model_dump(mode="json")) == config


def test_the_word_on_is_a_key_in_yaml() -> None:
    """YAML 1.1 reads it as true."""
    text = "ingest: {sources: [{path: a.jsonl, map: {completion: c, join: [{file: b.jsonl, on: id, by: key}]}}]}"
    (source,) = parse_config(text).ingest.sources
    assert isinstance(source, SourceConfig)
    assert not isinstance(source.map, str)
    assert source.map[0].join[0].on == "id"
