"""The pages and plots of an output come from what its stage wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod import storage
from dcod.errors import UserError
from dcod.stages import pages
from dcod.stages.catalogue import STAGES
from dcod.tracking import NullLog


class Shown(NullLog):
    def __init__(self) -> None:
        self.names: list[str] = []

    def figure(self, name: str, figure: Any) -> None:
        assert figure.axes
        self.names.append(name)


def shown(stage: str, out: Path) -> list[str]:
    log = Shown()
    pages.show(stage, out, log, {})
    return log.names


@pytest.mark.parametrize("stage", ["train", "train_job"])
def test_a_training(stage: str, tmp_path: Path) -> None:
    rows: list[dict[str, float]] = [{"step": n, "loss": 2.0 / n, "gamma": 0.5, "ess": 0.9} for n in (1, 2)]
    (tmp_path / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    storage.write_json(tmp_path / "weights.json", {"edges": [0.0, 1.0, 2.0], "counts": {"0-15": [3, 1]}})
    assert shown(stage, tmp_path) == ["loss.png", "gamma_ess.png", "weights.png"]


def test_scores_show_their_drift_and_merged_answers_nothing(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "drift.json", {"positions": [0], "count": [1], "mean_surprisal": [0.1]})
    assert shown("merge", tmp_path) == []
    (tmp_path / "scores.parquet").touch()
    assert shown("merge", tmp_path) == shown("score", tmp_path) == ["drift.png"]


def test_all_other_stages_have_none(tmp_path: Path) -> None:
    others = STAGES.keys() - {"ingest", "join", "train", "train_job", "score", "merge"}
    assert len(others) == 12
    assert [shown(stage, tmp_path) for stage in others] == [[]] * 12
    with pytest.raises(UserError, match=r"no counts\.json in it"):
        shown("join", tmp_path)
