"""The sweep over architectures: its golden is whole and current, and the telling types are tried again."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from bench.sweep import build, table, trials

# Heads with a factor, a cap, a bias or layers of their own; layers that are not attention; buffers.
TOLD = (
    "gemma2", "gemma3_text", "granite", "cohere", "phi", "gptj", "codegen", "minicpm3", "hyperclovax", "nanochat",
    "falcon_h1", "bert", "modernbert-decoder", "recurrent_gemma", "mamba", "mamba2", "rwkv", "lfm2", "jamba", "bamba",
    "qwen3_next", "deepseek_v3",
)  # fmt: skip


def test_the_golden_names_every_type() -> None:
    golden = table.read()
    assert golden["transformers"] == transformers.__version__, "run `make sweep`"
    rows = golden["types"]
    assert sorted(rows) == sorted(build.types())
    for kind, row in rows.items():
        assert row["result"] in ("exact", "refused", "not built"), kind
        assert row["result"] == "exact" or row["reason"], kind
    assert sum(row["result"] == "exact" for row in rows.values()) > 140


def test_the_page_shows_the_golden() -> None:
    assert table.PAGE.read_text(encoding="utf-8") == table.page(), "run `python -m bench.sweep --table`"


def test_enough_types_are_tried_again() -> None:
    assert len(set(TOLD)) >= 20


@pytest.mark.parametrize("kind", TOLD)
def test_a_type(kind: str, tmp_path: Path) -> None:
    assert trials.of(kind, tmp_path) == table.read()["types"][kind]
