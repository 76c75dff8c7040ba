"""The configuration: strict, complete in its errors, and the same from YAML, JSON and overrides."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dcod.config import Config, load_config, parse_config
from dcod.errors import UserError

BENCHMARKS = "evaluate:\n  benchmarks:\n    - {name: gsm8k, limit: 50}\n    - {name: math500, role: guard}\n"


def error_of(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_config(text, overrides)
    message = str(caught.value)
    assert "\n" not in message, "a user's mistake is one line"
    return message


@pytest.mark.parametrize("text", ["", "{}", "# nothing\n", "null"])
def test_nothing_given_is_the_default(text: str) -> None:
    assert parse_config(text) == Config()


def test_a_resolved_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    config = parse_config(BENCHMARKS, ["train.correction.name=surprisal", "ingest.limit=200"])
    assert parse_config(config.to_json()) == config
    assert "\n" not in config.to_json()
    file = tmp_path / "config.json"
    file.write_text(config.to_json(), encoding="utf-8")
    assert load_config(file) == config


@pytest.mark.parametrize(
    ("text", "place", "known"),
    [
        ("trian: {epochs: 3}", "trian", "train"),
        ("train: {epoch: 3}", "train.epoch", "epochs"),
        ("train: {correction: {gama: 1.0}}", "train.correction.gama", "gamma_max"),
        ("evaluate: {benchmarks: [{name: gsm8k, sampels: 2}]}", "evaluate.benchmarks.0.sampels", "samples"),
    ],
)
def test_an_unknown_key_lists_the_known_ones(text: str, place: str, known: str) -> None:
    message = error_of(text)
    assert f"{place}: unknown key" in message
    assert known in message.partition("known here: ")[2].split(", ")


def test_all_errors_are_said_at_once() -> None:
    message = error_of(
        "seed: zero\ntrain: {epochs: 0, learning_rate: -1.0}\nstudnet: {}\npromote: {level: 0.7}\n",
    )
    for place in ("seed", "train.epochs", "train.learning_rate", "studnet", "promote.level"):
        assert f"{place}: " in message
    assert message.count("; ") >= 4
    assert "'zero'" in message


@pytest.mark.parametrize(
    "text",
    [
        "train: {epochs: '3'}",
        "train: {epochs: 2.5}",
        "train: {learning_rate: fast}",
        "ingest: {decontaminate: 'no thanks'}",
        "ingest: {limit: -1}",
        "ingest: {limit: everything}",
        "student: {dtype: float16}",
        "train: {correction: {name: all}}",
        "evaluate: {benchmarks: [{limit: 3}]}",
        "evaluate: {benchmarks: {name: gsm8k}}",
        "evaluate: {benchmarks: [{name: gsm8k, samples: 4}]}",
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(text: str) -> None:
    section = text.partition(":")[0]
    assert f"{section}." in error_of(text)


def test_sampling_needs_a_temperature() -> None:
    assert "temperature" in error_of("evaluate: {benchmarks: [{name: gsm8k, samples: 4}]}")
    parse_config("evaluate: {benchmarks: [{name: gsm8k, samples: 4, temperature: 0.7}]}")


def test_a_configuration_does_not_change() -> None:
    config = Config()
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 7  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("train.epochs=3", lambda c: c.train.epochs, 3),
        ("train.learning_rate=1e-4", lambda c: c.train.learning_rate, 1e-4),
        ("train.learning_rate=5E-05", lambda c: c.train.learning_rate, 5e-5),
        ("train.weight_decay=0", lambda c: c.train.weight_decay, 0.0),
        ("train.correction.name=trace", lambda c: c.train.correction.name, "trace"),
        ("ingest.limit=all", lambda c: c.ingest.limit, "all"),
        ("ingest.sources=[a.jsonl, s3://b/c]", lambda c: c.ingest.sources, ["a.jsonl", "s3://b/c"]),
        (
            "ingest.sources=['reasoning-gym://chain_sum?min_terms=2&max_terms=3']",
            lambda c: c.ingest.sources,
            ["reasoning-gym://chain_sum?min_terms=2&max_terms=3"],
        ),
        ("ingest.decontaminate=false", lambda c: c.ingest.decontaminate, False),
        ("evaluate.benchmarks.1.limit=7", lambda c: c.evaluate.benchmarks[1].limit, 7),
        ("evaluate.benchmarks.0.temperature=1e-1", lambda c: c.evaluate.benchmarks[0].temperature, 0.1),
        ("evaluate.benchmarks=[{name: gsm_symbolic}]", lambda c: c.evaluate.benchmarks[0].name, "gsm_symbolic"),
        ("student.model=models:/m@champion", lambda c: c.student.model, "models:/m@champion"),
        ("name=a=b", lambda c: c.name, "a=b"),
    ],
)
def test_an_override_is_read_like_the_file(override: str, read: object, expected: object) -> None:
    assert callable(read)
    value = read(parse_config(BENCHMARKS, [override]))
    assert value == expected
    assert type(value) is type(expected)


def test_the_last_override_wins() -> None:
    assert parse_config("train: {epochs: 9}", ["train.epochs=3", "train.epochs=4"]).train.epochs == 4


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs", "expected section.key=value"),
        ("=3", "expected section.key=value"),
        ("evaluate.benchmarks.2.limit=7", "not an index of a list with 2 entries"),
        ("evaluate.benchmarks.first.limit=7", "not an index of a list with 2 entries"),
        ("seed.value=3", "seed is a value, not a section"),
        ("train.epohcs=3", "train.epohcs: unknown key"),
        ("train.epochs=three", "train.epochs"),
        ("train.learning_rate=nan", "train.learning_rate"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(override: str, expected: str) -> None:
    assert expected in error_of("seed: 1\n" + BENCHMARKS, override)


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "42"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    assert "expected a mapping of sections" in error_of(text)


def test_broken_yaml_names_the_line() -> None:
    message = error_of("train: {epochs: 3\nseed: [1")
    assert "not valid YAML" in message
    assert "line 2" in message


def test_a_file_that_cannot_be_read_names_itself_and_the_way_out(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "absent.yaml", tmp_path, binary):
        with pytest.raises(UserError, match="dcod presets") as caught:
            load_config(path)
        assert str(path) in str(caught.value)


def test_the_origin_stands_first(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("sede: 1\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert str(caught.value).startswith(f"{file}: sede: unknown key")


def test_values_survive_the_journey_through_a_pipeline_parameter() -> None:
    config = parse_config(BENCHMARKS, ["ingest.limit=200", "seed=7"])
    again = parse_config(json.dumps(json.loads(config.to_json())))
    assert again == config
    assert type(again.ingest.limit) is int


def test_it_imports_no_heavy_package() -> None:
    code = (
        "import sys, dcod.config; print([m for m in ('torch', 'transformers', 'mlflow', 'boto3') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
