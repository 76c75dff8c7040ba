"""Every key is explained, its example is allowed, and the page, the schema and the comments say what the code does."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from dcod.config import Config, load_config, parse_config, reference
from dcod.errors import UserError
from dcod.traces import formats

ROOT = Path(__file__).parents[2]
KEYS = [key for part in reference.parts() for key in part.keys]
STORAGE = ["cluster.storage=s3://bucket/dcod"]
ALONE = {
    "promote.exposure_traces": ["teach.model=owner/teacher"],
    "train.seeds": ["train.twin=true"],
    "cluster.train.num_nodes": STORAGE,
    "promote.log_model": STORAGE,
}  # examples that need another key
FIRST = 'evaluate.benchmarks=[{"name": "gsm8k"}]'
TOLERATION = 'cluster.gpu.tolerations=[{"key": "gpu"}]'


def test_every_key_has_a_description_a_default_and_an_example() -> None:
    assert len(KEYS) >= 190
    assert len({key.path for key in KEYS}) == len(KEYS)
    for key in KEYS:
        assert len(key.description) >= 8, key.path
        assert key.description.endswith((".", "…")), key.path
        assert key.allowed, key.path
        assert key.default, key.path
        assert key.example not in ("", [], {}, None), f"{key.path}: give Field(examples=[…])"
        if key.default == reference.REQUIRED:
            assert ".0." in key.path, key.path


@pytest.mark.parametrize("text", ["a\u2028b", "a\x85b", "a\r\nb: # '\"", "  \ta\n", "{{ x }} %}", ""])
def test_commented_text_reads_back_as_it_was(text: str) -> None:
    assert parse_config(reference.commented({"student": {"system_prompt": text}})).student.system_prompt == text


def within(example: Any, value: Any) -> bool:
    """Whether a value is an example with defaults filled in."""
    if isinstance(example, dict):
        return all(within(inner, value[name]) for name, inner in example.items())
    if isinstance(example, list):
        return len(example) == len(value) and all(map(within, example, value))
    return bool(example == value)


def test_every_example_is_allowed() -> None:
    engine = ["engine.name=openai", "engine.endpoint=http://127.0.0.1/v1", "engine.model=m"]
    for key in KEYS:
        (override,) = shlex.split(key.override)
        more = ALONE.get(key.path, [])
        if key.path.endswith((".engine.endpoint", ".engine.model")):
            section = key.path.partition(".")[0]
            more = [f"{section}.{text}" for text in engine] + (["teach.logprobs=false"] if section == "teach" else [])
        elif ".benchmarks.0.map." in key.path:
            more = ['evaluate.benchmarks=[{"name": "custom", "map": {"join": [{"file": "f", "on": "a", "by": "b"}]}}]']
        elif ".benchmarks.0." in key.path:
            more = [FIRST]
        elif ".tolerations.0." in key.path:
            more = [TOLERATION]
        values = parse_config("{}", [*more, override]).model_dump(mode="json")
        for part in key.path.split("."):
            values = values[int(part)] if part.isdigit() else values[part]
        assert within(key.example, values), key.path


def test_the_page_is_current(update_golden: bool) -> None:
    page = ROOT / "docs" / "configuration.md"
    if update_golden:
        page.write_text(reference.markdown(), encoding="utf-8")
    assert page.read_text(encoding="utf-8") == reference.markdown(), "the keys changed: `make golden` writes the page"
    schema = page.with_name("dcod.schema.json")
    text = json.dumps(reference.schema(), indent=1, ensure_ascii=False) + "\n"
    if update_golden:
        schema.write_text(text, encoding="utf-8")
    assert schema.read_text(encoding="utf-8") == text, "the keys changed: `make golden` writes the schema"
    names = formats.names()
    assert len(names) >= 10
    assert "hf_" not in page.read_text(encoding="utf-8")


def test_what_is_printed_is_read_back(tmp_path: Path) -> None:
    config = parse_config("{}", [FIRST, TOLERATION, "train.epochs=3", "name='7: # no'", "ingest.limit=5"])
    whole = reference.commented(config.model_dump(mode="json"))
    (tmp_path / "whole.yaml").write_text(whole, encoding="utf-8")
    assert load_config(tmp_path / "whole.yaml") == config
    assert whole.count("# ") > len(KEYS) - 20
    assert all(len(line) <= 120 for line in whole.splitlines())
    changed = reference.changed(config.model_dump(mode="json"), Config().model_dump(mode="json"))
    assert changed["train"] == {"epochs": 3}
    (tmp_path / "changed.yaml").write_text(reference.commented(changed), encoding="utf-8")
    assert load_config(tmp_path / "changed.yaml") == config
    assert reference.commented(reference.changed({}, {})) == "\n"
    assert load_config(tmp_path / "changed.yaml", ["train.epochs=2"]) != config


def test_the_schema_is_of_every_key() -> None:
    schema = json.loads(json.dumps(reference.schema()))
    assert schema["title"] == "Configuration of dcod"
    assert schema["additionalProperties"] is False
    sections = [schema, *schema["$defs"].values()]
    described = [one for section in sections for one in section.get("properties", {}).values()]
    assert len(described) >= 150
    assert all("description" in one or "$ref" in one for one in described)
    assert schema["$defs"]["TrainConfig"]["properties"]["epochs"]["minimum"] == 1


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("ingest.kep=1", "did you mean keep?"),
        ("trian.epochs=3", "did you mean train?"),
        ("learning_rate=3", "did you mean train.learning_rate?"),
        ("max_new_tokens=3", "did you mean teach.max_new_tokens or train.pilot.max_new_tokens?"),
        ("train.lr=3", "did you mean train.learning_rate?"),
        ("student=tiny", "student: expected keys below it, such as student.model=tiny"),
        ("evaluate.benchmarks=[gsm8k]", "such as evaluate.benchmarks.0.name=gsm8k"),
        ("train.correction.name=suprisal", "did you mean surprisal?"),
        ("ingest.sources=a.jsonl", """for example 'ingest.sources=["traces.jsonl"]'"""),
        ("evaluate.benchmarks.0.name=gsm8k", """for example 'evaluate.benchmarks=[{"name": "gsm8k"}]'"""),
    ],
)
def test_a_mistake_is_told_with_what_was_meant(override: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        parse_config("{}", [override])
    assert told in str(error.value)


def test_nothing_is_meant_by_what_resembles_nothing() -> None:
    with pytest.raises(UserError) as error:
        parse_config("{}", ["train.qqqqq=3"])
    assert "did you mean" not in str(error.value)
