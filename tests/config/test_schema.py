"""The one configuration: strict, every mistake named at once, with what would have been right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from dcod.config import Config, CorrectionConfig, Section, load_config, parse_config, reference
from dcod.config.losses import WITHDRAWN
from dcod.errors import UserError
from dcod_pipelines import presets


def mistake(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_config(text, overrides)
    line = str(caught.value)
    assert "\n" not in line
    return line


BENCHMARKS = "evaluate:\n  benchmarks:\n    - {name: gsm8k, limit: 50}\n    - {name: math500, role: guard}\n"


def sections(model: type[BaseModel] = Config) -> set[type[BaseModel]]:
    """A section and all sections inside it."""
    found = {model}
    for field in model.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= sections(part)
    return found


@pytest.mark.parametrize("text", ["", "{}", "# nothing\n", "null"])
def test_nothing_given_is_the_default_and_survives_a_round_trip(text: str) -> None:
    config = parse_config(text)
    assert config == Config()
    assert parse_config(config.to_json()) == config
    assert "\n" not in config.to_json()


def test_every_section_is_strict_and_immutable() -> None:
    found = sections()
    assert len(found) >= 10
    assert CorrectionConfig in found
    for section in found:
        assert issubclass(section, Section), section
        assert section.model_config["extra"] == "forbid"
        assert section.model_config["strict"] is True
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.train.epochs = 3  # type: ignore[misc]


def test_no_default_is_a_sentinel() -> None:
    for section in sections():
        for name, field in section.model_fields.items():
            assert field.default is not None, f"{section.__name__}.{name}"
            assert field.default != -1, f"{section.__name__}.{name}"


@pytest.mark.parametrize(
    ("text", "place", "known"),
    [
        ("trian: {}", "trian", ["evaluate", "ingest", "promote", "score", "student", "tracking", "train"]),
        ("train: {epoch: 3}", "train.epoch", ["epochs", "learning_rate", "traces_per_step"]),
        ("train: {correction: {gamma: 1.0}}", "train.correction.gamma", ["ess_floor", "gamma_max", "truncate"]),
        ("evaluate: {benchmarks: [{nam: x, name: gsm8k}]}", "evaluate.benchmarks.0.nam", ["max_new_tokens", "role"]),
    ],
)
def test_an_unknown_key_lists_the_known_ones(text: str, place: str, known: list[str]) -> None:
    line = mistake(text)
    assert f"{place}: unknown key; " in line
    for name in known:
        assert name in line.partition("known here: ")[2]


def test_all_mistakes_are_told_at_once() -> None:
    line = mistake(
        "student: {dtype: float16}\n"
        "ingest: {limit: 0, sources: traces.jsonl}\n"
        "train: {epochs: 0, epoch: 2, learning_rate: '0.1'}\n"
        "evaluate: {benchmarks: [{}]}\n"
    )
    for place in (
        "student.dtype",
        "ingest.limit",
        "ingest.sources",
        "train.epochs",
        "train.epoch: unknown key",
        "train.learning_rate",
        "evaluate.benchmarks.0.name: Field required",
    ):
        assert place in line
    assert "'float16'" in line  # the value
    assert "'float32' or 'bfloat16'" in line  # and what is allowed


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("train.epochs=2.5", "train.epochs"),
        ("train.epochs=true", "train.epochs"),
        ("train.epochs='3'", "train.epochs"),
        ("ingest.decontaminate=1", "ingest.decontaminate"),
        ("train.learning_rate=0", "train.learning_rate"),
        ("train.learning_rate=nan", "train.learning_rate"),
        ("train.correction.ess_floor=1.01", "train.correction.ess_floor"),
        ("train.correction.truncate=0.5", "train.correction.truncate"),
        ("seed=one", "seed"),
        ("student.max_length=null", "student.max_length"),
        ("promote.level=0.5", "promote.level"),
    ],
)
def test_values_are_not_bent_into_place(override: str, place: str) -> None:
    assert f"{place}: " in mistake("", override)


def test_greedy_samples_are_refused() -> None:
    line = mistake("evaluate: {benchmarks: [{name: gsm8k, samples: 4, temperature: 0.0}]}")
    assert "samples > 1 needs temperature > 0" in line
    parse_config("evaluate: {benchmarks: [{name: gsm8k, samples: 4, temperature: 0.7}]}")


def test_overrides_reach_every_depth() -> None:
    text = "train: {epochs: 1}\nevaluate: {benchmarks: [{name: gsm8k}, {name: math500}]}"
    config = parse_config(
        text,
        [
            "seed=7",
            "train.epochs=3",
            "train.learning_rate=1e-4",
            "train.correction.name=prefix",
            "evaluate.benchmarks.1.limit=50",
            "evaluate.benchmarks.0.limit=all",
            "ingest.sources=[a.jsonl, 's3://bucket/b']",
            "tracking.uri=http://server:5000?a=b",
            "ingest.limit=20",
            "ingest.limit=30",
        ],
    )
    assert (config.seed, config.train.epochs, config.train.learning_rate) == (7, 3, 1e-4)
    assert config.train.correction.name == "prefix"
    assert [b.limit for b in config.evaluate.benchmarks] == ["all", 50]
    assert config.ingest.sources == ["a.jsonl", "s3://bucket/b"]
    assert config.tracking.uri == "http://server:5000?a=b"
    assert config.ingest.limit == 30


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
        (
            "student.system_prompt=Note: end with #### and\nyes",
            lambda c: c.student.system_prompt,
            "Note: end with #### and\nyes",
        ),
        ("student.system_prompt=", lambda c: c.student.system_prompt, ""),
        ("student.system_prompt='a: b'", lambda c: c.student.system_prompt, "a: b"),
    ],
)
def test_an_override_is_read_like_the_file(override: str, read: object, expected: object) -> None:
    assert callable(read)
    value = read(parse_config(BENCHMARKS, [override]))
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epochs", "expected section.key=value"),
        ("=3", "expected section.key=value"),
        ("evaluate.benchmarks.2.limit=1", "'2' is not an index of a list with 2 entries"),
        ("evaluate.benchmarks.first.limit=1", "'first' is not an index"),
        ("seed.x=1", "seed is a value, not a section"),
        ("evaluate.benchmarks.1.limit=1", "evaluate.benchmarks.1 is a value, not a section"),
        ("train.correcton.name=none", "train.correcton: unknown key"),
    ],
)
def test_a_broken_override_is_named(override: str, said: str) -> None:
    assert said in mistake("seed: 1\nevaluate: {benchmarks: [{name: gsm8k}, math]}", override)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"train: [", "not valid YAML"),
        (b"- a\n- b\n", "expected a mapping of sections, got list"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_broken_file_is_one_line_with_its_name(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "conf.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_where_ready_ones_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read .*dcod presets"):
        load_config(tmp_path / "none.yaml")


def test_broken_yaml_names_the_line() -> None:
    message = mistake("train: {epochs: 3\nseed: [1")
    assert "not valid YAML" in message
    assert "line 2" in message


def test_the_origin_stands_first(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("sede: 1\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert str(caught.value).startswith(f"{file}: sede: unknown key")


def test_json_is_read_as_well(tmp_path: Path) -> None:
    file = tmp_path / "conf.json"
    file.write_text(json.dumps({"train": {"epochs": 5}}))
    assert load_config(file, ["seed=3"]).train.epochs == 5


def test_every_preset_is_valid_and_says_what_it_is() -> None:
    names = presets.names()
    assert "quickstart" in names
    for name in names:
        parse_config(presets.text_of(name), origin=name)
        assert len(presets.descriptions()[name]) > 20
    with pytest.raises(UserError, match=r"preset nonesuch: unknown; known: .*quickstart"):
        presets.text_of("nonesuch")


def test_reading_a_configuration_loads_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "mlflow", "kfp", "boto3", "datasets"]
    code = f"import sys, dcod.config\nprint([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", WITHDRAWN)
def test_withdrawn_corrections_are_refused_in_files_and_arms(name: str) -> None:
    """With the successor in the message; from Python studies and tests still name them."""
    live = "train.correction.weights=live"
    with pytest.raises(UserError, match=f"train.correction.name: {name} is .*; use [a-z_]+( \\(with \\S+\\))?$"):
        parse_config("{}", [f"train.correction.name={name}", live])
    arm = f'train.arms=[{{"name": "mine", "correction": {{"name": "{name}", "weights": "live"}}}}]'
    with pytest.raises(UserError, match=f"train.arms, mine: correction.name: {name} is "):
        parse_config("{}", [arm, "ingest.pilot_share=0.1"])
    assert CorrectionConfig.model_validate({"name": name}).name == name
    offered = reference.schema()["$defs"]["CorrectionConfig"]["properties"]["name"]["enum"]
    assert name not in offered
    assert WITHDRAWN[name].partition("; use ")[2].split()[0] in offered
    for wrong in ("suprisal", f"{name}x", "[]"):  # neither listed nor meant
        with pytest.raises(UserError, match=r"name: Input should be 'none', 'support', .* or 'given' ") as refused:
            parse_config("{}", [f"train.correction.name={wrong}"])
        assert name not in str(refused.value).replace(f"'{name}x'", "")
