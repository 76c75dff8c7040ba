"""dcod from Python: the functions run, load nothing before they are asked, and the page says what they say."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dcod import api
from dcod.config import Config
from dcod.errors import UserError
from dcod.evaluate import results
from dcod.traces import schema
from dcod.train import trainers, weights

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "python.md"
PARTS: dict[str, list[Any]] = {  # what is promised, in the order of the page
    "dcod.api": [
        *(api.ingest, api.score, api.weights, api.write_weights, api.train, api.evaluate),
        *(api.configured, api.Output),
    ],
    "dcod.train.trainers": [trainers.WeightedCollator, trainers.compute_loss_func],
    "dcod.train.weights": [weights.WeightedTrace],
    "dcod.traces": [schema.read_traces, schema.Trace],
    "dcod.evaluate.results": [results.load_results],
}
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Yields")


def test_all_that_the_module_offers_is_on_the_page() -> None:
    offered = [thing.__name__ for thing in PARTS["dcod.api"]]
    assert sorted(offered) == sorted(api.__all__)
    assert {"ingest", "score", "weights", "train", "evaluate"} <= set(offered)


def test_the_page_is_current(update_golden: bool) -> None:
    if update_golden:
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "a function changed: `make golden` writes the page"


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, dcod.api; print([m for m in ('torch', 'mlflow', 'transformers', 'numpy') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_a_configuration_is_a_file_a_mapping_or_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("train: {epochs: 5}\n")
    for given in (tmp_path / "mine.yaml", str(tmp_path / "mine.yaml"), {"train": {"epochs": 5}}):
        read = api.configured(given, {"train.correction.name": "surprisal", "name": "7: # no"})
        assert (read.train.epochs, read.train.correction.name, read.name) == (5, "surprisal", "7: # no")
        assert api.configured(read) == read
    assert api.configured() == Config()
    with pytest.raises(UserError, match="did you mean"):
        api.configured(settings={"train.epoch": 3})


def test_from_rows_to_a_measured_student(tmp_path: Path, tiny_student: Path) -> None:
    """Every function, each on the output of the one before; no MLflow."""
    rows = [
        {"problem": f"How much is {n} + 1?", "response": f"{way} #### {n + 1}", "gold": str(n + 1)}
        for n in range(6)
        for way in (f"{n} + 1 = {n + 1}.", f"One more than {n} is {n + 1}.")
    ]
    (tmp_path / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"problem": f"How much is {n} + 2?", "answer": str(n + 2)} for n in range(4)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    settings = {"ingest.selection_share": 0.0, "train.correction.name": "surprisal", "train.epochs": 1}
    common: dict[str, Any] = {"student": tiny_student, "settings": settings}
    traces = api.ingest(tmp_path / "traces.jsonl", tmp_path / "traces", **common)
    assert traces.metrics["accepted"] == 12
    assert len(list(schema.read_traces(traces.folder))) == 12
    scores = api.score(traces, tmp_path / "scores", **common)
    weighed = list(api.weights(scores, settings=settings))
    assert len(weighed) == 12
    assert api.write_weights(scores, tmp_path / "weighted", settings=settings).metrics == {"traces": 12.0}
    trained = api.train(scores, str(tmp_path / "student"), **common)
    assert trained.metrics["steps"] >= 1
    benchmark = {"name": "custom", "source": str(tmp_path / "asked.jsonl"), "max_new_tokens": 4}
    measured = api.evaluate(
        tmp_path / "results",
        student=trained,
        settings={"evaluate.benchmarks": [benchmark]},
    )
    assert any(name.endswith("/accuracy") for name in measured.metrics)
    assert results.load_results(measured.folder).answers
    assert not list(tmp_path.glob("**/mlflow.db"))
    with pytest.raises(UserError, match="not both"):
        api.evaluate(tmp_path / "r", student=trained, responses=tmp_path)


def page() -> str:
    """docs/python.md, of the docstrings."""
    about = inspect.getdoc(api) or ""
    lines = [
        "# From Python",
        "",
        "<!-- Written by `make golden` from the docstrings; do not edit. -->",
        "",
        _prose(about),
        "",
        "The weights in your own trainer are told in [weights.md](weights.md); "
        "[a notebook](../examples/notebook.ipynb) scores, weighs and looks at ten traces.",
    ]
    for module, things in PARTS.items():
        lines += ["", f"## {module}"]
        for thing in things:
            lines += ["", f"### {thing.__name__}", "", "```python", _signature(thing), "```", ""]
            lines += _told(inspect.getdoc(thing) or "")
    return "\n".join(lines) + "\n"


def _signature(thing: Any) -> str:
    """As it stands in the source, a long one with a line each."""
    signature = inspect.signature(thing)
    parts, keyword = [], False
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not keyword:
            parts, keyword = [*parts, "*"], True
        given = "" if one.default is one.empty else f" = {one.default!r}".replace("'", '"')
        parts.append(f"{one.name}: {_typed(one.annotation)}{given}")
    after = "" if inspect.isclass(thing) else f" -> {_typed(signature.return_annotation)}"
    whole = f"{thing.__name__}({', '.join(parts)}){after}"
    each = "".join(f"    {part},\n" for part in parts)
    return whole if len(whole) <= 100 else f"{thing.__name__}(\n{each}){after}"


def _typed(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _told(text: str) -> list[str]:
    """A Google docstring as Markdown."""
    head, *rest = re.split(rf"^({'|'.join(SECTIONS)}):\n", text, flags=re.MULTILINE)
    lines = [_prose(head.strip())]
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        lines += ["", f"**{name}**", ""]
        entries = re.split(r"^    (?=\S)", body, flags=re.MULTILINE)[1:]
        for entry in entries:
            what, colon, says = " ".join(entry.split()).partition(": ")
            lines.append(
                f"- `{what}`: {_prose(says)}" if colon and " " not in what.replace(", ", "") else f"- {_prose(entry)}"
            )
    return lines


def _prose(text: str) -> str:
    """Without the marks of Sphinx; indented code fenced."""
    text = re.sub(r":\w+:`[~.]?([^`]+)`", r"`\1`", text.replace("``", "`"))
    blocks = re.split(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, flags=re.MULTILINE)
    code = re.findall(r"((?:^ {4}.*\n|^\n(?= {4}))+)", text, flags=re.MULTILINE)
    out = blocks[0]
    for fenced, after in zip(code, blocks[1:], strict=True):
        out = out.rstrip() + "\n\n```python\n" + inspect.cleandoc(fenced) + "\n```\n" + after
    return out.strip()
