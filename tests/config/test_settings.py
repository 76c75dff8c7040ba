"""Configurations that are bombs: one line each, in bounded time and memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from pydantic import BaseModel

from dcod.config import Config, load_config, parse_config
from dcod.errors import UserError

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(ord('a') + n)}: &{chr(ord('a') + n)} [{', '.join(['*' + chr(ord('a') + n - 1)] * 10)}]\n"
    for n in range(1, 20)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{chr(ord('a') + n)}: &{chr(ord('a') + n)} {{<<: [{', '.join(['*' + chr(ord('a') + n - 1)] * 10)}]}}\n"
    for n in range(1, 20)
)
BOMBS = {
    "billion laughs": LAUGHS,
    "merged laughs": MERGES,
    "holds itself": "a: &a [*a]",
    "holds itself deep down": "a: &a {b: {c: [1, *a]}}",
    "an alias chain that grows deep": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 90)),
    "deep lists": "[" * 100_000,
    "deep lists, closed": "train: " + "[" * 5000 + "]" * 5000,
    "deep mappings": "{a: " * 3000 + "1" + "}" * 3000,
    "deep json": '{"a": ' * 100_000 + "1" + "}" * 100_000,
    "deep blocks": "".join(" " * n + "a:\n" for n in range(900)),
    "deep dashes": "- " * 3000 + "x",
    "wide list": "ingest: {sources: [" + "a," * 101_000 + "]}",
    "many unknown keys": "".join(f"key{n}: 1\n" for n in range(4_000)),
    "many unknown keys, json": "{" + ",".join(f'"key{n}": 1' for n in range(4_000)) + "}",
    "too large": "# " + "x" * 2**20,
    "too large json": '{"name": "' + "x" * 2**23 + '"}',
    "long text": "train: {epochs: " + "x" * 500_000 + "}",
    "long key": "x" * 500_000 + ": 1",
    "a key of many lines": '"a\\nb\\n\\x1b[31mc": 1',
    "digits": "seed: " + "9" * 900_000,
    "digits, json": '{"seed": ' + "9" * 900_000 + "}",
    "digits, float": "train: {learning_rate: 0." + "9" * 900_000 + "}",
    "hexadecimal": "seed: 0x" + "f" * 900_000,
    "binary": "seed: 0b" + "1" * 900_000,
    "base 60": "seed: 1" + ":1" * 400_000,
    "base 60 float": "train: {learning_rate: 1" + ":1" * 400_000 + ".5}",
    "exponent": "train: {learning_rate: 1e999999999}",
    "no such day": "seed: 2001-99-99",
    "no timestamp": "seed: !!timestamp x",
    "no integer": "seed: !!int x",
    "no number": "seed: !!float x",
    "no bool": "seed: !!bool x",
    "an object": "seed: !!python/object/apply:os.system [ls]",
    "a list as key": "? [1]\n: 2",
    "a day as key": "2001-01-01: 2",
    "two documents": "seed: 1\n---\nseed: 2",
    "a key twice": "seed: 1\nseed: 2",
    "a key twice, json": '{"seed": 1, "seed": 2}',
    "not closed": "{seed: 1",
    "a control character": "seed: \x07",
    "infinity": "train: {learning_rate: .inf}",
    "infinity, json": '{"train": {"learning_rate": Infinity}}',
}


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_config(text, overrides)
    line = str(caught.value)
    assert "\n" not in line
    assert line.isprintable()
    assert len(line) < 8000
    return line


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_one_line(name: str) -> None:
    tracemalloc.start()
    try:
        refusal(BOMBS[name])
        assert tracemalloc.get_traced_memory()[1] < 500_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "value", ["[" * 50_000, "{a: " * 5000, "9" * 100_000, "0x" + "f" * 100_000, "1" + ":1" * 50_000, "&a [*a]", LAUGHS]
)
def test_a_bomb_as_an_override(value: str) -> None:
    assert "seed" in refusal("", f"seed={value}")


def test_an_override_deeper_than_any_section() -> None:
    assert "levels" in refusal("", ".".join("a" * 100_000) + "=1")
    assert "not an index" in refusal("evaluate: {benchmarks: [{name: gsm8k}]}", f"evaluate.benchmarks.{'9' * 9000}.x=1")


def numbers(model: type[BaseModel] = Config, place: str = "") -> list[tuple[str, bool]]:
    """Every setting that takes a number, and whether it is a whole one."""
    found = []
    for name, field in model.model_fields.items():
        parts = (field.annotation, *getattr(field.annotation, "__args__", ()))
        inner = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
        if len(inner) > 1:  # a value of a mapping, in one of its forms
            continue
        listed = "0." if "list[" in str(field.annotation) else ""
        for section in inner:
            found += numbers(section, f"{place}{name}.{listed}")
        if not inner and ("int" in str(field.annotation) or "float" in str(field.annotation).replace("float32", "")):
            found.append((f"{place}{name}", "int" in str(field.annotation)))
    return [one for one in found if not one[0].endswith(("dtype", "precision"))]


def test_no_number_is_absurd() -> None:
    places = numbers()
    assert len(places) >= 85
    assert ("evaluate.benchmarks.0.samples", True) in places
    text = "evaluate: {benchmarks: [{name: gsm8k}]}"
    for place, whole in places:
        for value in ("1e400", "-.inf", ".nan", *(["9" * 90, "2" * 16] if whole else [])):
            assert place in refusal(text, f"{place}={value}").partition(" (got")[0], (place, value)


def test_aliases_are_read_where_they_are_few() -> None:
    text = "teach: {engine: &engine {concurrency: 3}}\nevaluate: {engine: {<<: *engine}}"
    assert parse_config(text).evaluate.engine.concurrency == 3


def test_many_seen_files_are_no_bomb() -> None:
    seen = [f"{n:064x}" for n in range(20_000)]
    config = parse_config("{}")
    config = config.model_copy(update={"ingest": config.ingest.model_copy(update={"seen": seen})})
    assert parse_config(config.to_json()) == config


@pytest.mark.parametrize("value", ["", "  ", '""', "''"])
def test_nothing_is_the_empty_text(value: str) -> None:
    """What `score.checkpoints.uri` calls "empty: none"."""
    assert parse_config("", [f"score.checkpoints.uri={value}"]).score.checkpoints.uri == ""
    assert "train.epochs" in refusal("", f"train.epochs={value}")


def test_nothing_for_a_list_says_how_an_empty_one_is_written() -> None:
    assert "[] is an empty list" in refusal("", "ingest.sources=")
    assert parse_config("ingest: {sources: [a]}", ["ingest.sources=[]"]).ingest.sources == []


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for place in (tmp_path, Path("/dev/zero"), tmp_path / "missing.yaml"):
        with pytest.raises(UserError, match="presets"):
            load_config(place)
    (tmp_path / "wide.yaml").write_text("ä" * 2**23)
    with pytest.raises(UserError, match="characters"):
        load_config(tmp_path / "wide.yaml")
