"""The notebook's cells run one after the other, as they stand; only the student is a tiny one."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
STUDENT = "HuggingFaceTB/SmolLM2-135M-Instruct"


def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_it_is_a_clean_notebook() -> None:
    whole = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (whole["nbformat"], whole["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in cells()}) == len(cells()) >= 10
    for cell in cells():
        source = "".join(cell["source"])
        assert max(map(len, source.splitlines())) <= 130
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            compile(source, cell["id"], "exec")
    assert sum(STUDENT in "".join(cell["source"]) for cell in cells()) == 1


@pytest.mark.slow
def test_its_cells_run(tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(NOTEBOOK.parent / "own-traces", tmp_path / "own-traces")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    told = []
    for cell in cells():
        if cell["cell_type"] == "code":
            source = "".join(cell["source"]).replace(STUDENT, str(tiny_student))
            source = source.replace('"student.max_length": 512', '"student.max_length": 1024')  # a token a byte
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(source, cell["id"], "exec"), names)
            told.append(printed.getvalue())
    shown, scored, weighed, tokens = told[1:]
    assert shown.count("correct") == 10
    assert "nats a token" in scored
    lines = weighed.splitlines()
    assert len(lines) == 10
    values = [float(line.split()[1]) for line in lines]
    assert len(set(values)) > 3
    assert sum(values) / 10 == pytest.approx(1, abs=0.3)
    assert tokens.count("→") == 8
