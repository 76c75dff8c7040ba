"""The methods that are compared, and one cell of the table: a method, a regime, a learning rate, a seed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.study import lab
from bench.study.measure import measure
from bench.study.regimes import REGIMES
from dcod.config import TrainConfig
from dcod.models import loading
from dcod.train import loop

RATES = (1e-3, 2e-3, 4e-3)
MIDDLE = 2e-3

_LIVE = {"weights": "live"}


def _correction(name: str, **knobs: object) -> dict[str, Any]:
    return {"correction": {"name": name, **_LIVE, **knobs}}


MAIN: dict[str, Mapping[str, Any]] = {
    "sft": {},
    "dft": {"focus": 1.0},
    "prefix": _correction("prefix"),
    "trace": _correction("trace"),
    "trace_one_sided": _correction("trace", one_sided=True),
    "surprisal": _correction("surprisal"),
}
OTHERS: dict[str, Mapping[str, Any]] = {
    "iw_sft": _correction("iw_sft"),
    "gce": {"loss": {"name": "gce", "power": 0.5}},
    "focus_half": {"focus": 0.5},
    "trace_focus_half": {**_correction("trace"), "focus": 0.5},
    "prefix_focus_half": {**_correction("prefix"), "focus": 0.5},
    "surprisal_focus_half": {**_correction("surprisal"), "focus": 0.5},
    "surprisal_token": _correction("surprisal", scope="token"),
    "surprisal_stored": _correction("surprisal", weights="stored"),
    "trace_batch": _correction("trace", group="batch"),
    "trace_stored": _correction("trace", weights="stored"),
    "mixed": _correction("mixed"),
    "trace_mean": _correction("trace_mean", gamma_max=4.0),
    "surprisal_strong": _correction("surprisal", gamma_max=4.0),
    "forward_kl": {"loss": {"name": "forward_kl"}},
    "trace_forward_kl": {**_correction("trace"), "loss": {"name": "forward_kl"}},
}
CONTROLS: dict[str, Mapping[str, Any]] = {
    "shuffled": _correction("shuffled"),
    "length_only": _correction("length_only"),
    "student_likelihood_only": _correction("student_likelihood_only"),
    "position_decay": _correction("position_decay"),
}
START = "start"  # measured as it is
METHODS = {START: {}, **MAIN, **OTHERS, **CONTROLS}


def run(regime_name: str, method: str, rate: float, seed: int, work: Path, quick: bool = False) -> dict[str, Any]:
    """Trains and measures one cell; everything but the method is the same for all methods of a regime and seed."""
    regime = REGIMES[regime_name]
    sets = lab.traces(regime, seed, work)
    row = {"regime": regime_name, "method": method, "rate": rate, "seed": seed}
    if method == START:
        found = measure(lab.start(regime, seed, work), regime, seed, sets["selection"], quick)
        return {**row, **found, "mean_gamma": 0.0, "mean_ess": 1.0}
    model = loading.load(lab.start(regime, seed, work))
    config = TrainConfig.model_validate(
        {
            "learning_rate": rate,
            "epochs": regime.epochs,
            "traces_per_step": regime.traces_per_step,
            "micro_batch_tokens": 16384,
            **METHODS[method],
        }
    )
    result = loop.train(model, sets["train"], [], config, seed, save_best=lambda _: None, metrics=lambda *_: None)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        found = measure(Path(folder), regime, seed, sets["selection"], quick)
    rows = result.history
    found["mean_gamma"] = sum(row["gamma"] for row in rows) / len(rows)
    found["mean_ess"] = sum(row["ess"] for row in rows) / len(rows)
    return {**row, **found}
