"""What the parent run shows of its stages, by which runs are compared; and what Kubeflow's page shows of one."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dcod import storage
from dcod.config import Config
from dcod.evaluate.results import SUMMARY
from dcod.ingest import quarantine

# The figures of a stage by their names on the parent run; those of answers come from the gate, which has all models.
_OF_RUN: Mapping[str, Mapping[str, str]] = {
    "ingest": {"accepted": "traces", "quarantined": "refused_rows", "problems": "problems"},
    "score": {"completion_tokens": "tokens"},
    "train": {
        **{"mean_gamma": "gamma", "mean_ess": "ess", "steps": "steps", "best_selection_nll": "selection_nll"},
        **{"best_selection_accuracy": "selection_accuracy", "kl_from_start": "kl_from_start"},
    },
    "gate": {"promoted": "accepted"},
    "promote": {"promoted": "promoted"},
}
_FIRST = {
    "accepted": "{:,.0f} traces accepted",
    "quarantined": "{:,.0f} refused",
    "solved": "{:,.0f} solved",
    "traces": "{:,.0f} traces",
    "mean_student_probability": "mean student probability of a token {:.2f}",
    "best_selection_accuracy": "selection split: {:.1%} right",
    "best_selection_nll": "selection split: loss {:.3f}",
    "mean_gamma": "correction γ {:.2f}",
    "mean_ess": "effective sample size {:.0%}",
    "accuracy": "{:.1%} right",
    "promoted": "promote: {}",
}
_FURTHER = (
    "problems", "prompts", "attempts", "cost", "completion_tokens", "steps", "final_loss", "start_selection_nll",
    "kl_from_start", "low", "high", "difference", "p_value", "go", "warnings", "bytes",
)  # fmt: skip
_MOST = 30  # on a page


def of_run(verb: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """The figures of a stage that its parent run shows."""
    names = _OF_RUN.get(verb, {})
    return {shown: metrics[name] for name, shown in names.items() if name in metrics}


def of_stage(metrics: Mapping[str, float]) -> dict[str, float]:
    """The figures of a stage that a person looks at, those for the eye's first glance first."""
    chosen: dict[str, float] = {}
    for names in (_FIRST, _FURTHER):
        told = {key: value for key, value in metrics.items() if key.rsplit("/", 1)[-1] in names}
        chosen |= {key: value for key, value in told.items() if math.isfinite(value)}  # JSON has no other
    return dict(list(chosen.items())[:_MOST])


def glance(metrics: Mapping[str, float]) -> str:
    """The first four of them, with words and units."""
    told = []
    for key, value in list(of_stage(metrics).items())[:4]:
        of, _, name = key.rpartition("/")
        if name in _FIRST:
            shown = ("yes" if value else "no") if name == "promoted" else value
            told.append(f"{of.replace('/', ' ')} {_FIRST[name].format(shown)}".strip())
    return ", ".join(told)


def line(stage: str, config: Config, out: Path, options: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """What a run says of a stage: the glance, with where its refused rows lie; or why an evaluation has no result.

    Args:
        stage: the verb.
        config: the whole configuration.
        out: its output.
        options: further arguments of the stage.
        metrics: of the stage.
    """
    shown, refused = glance(metrics), out / quarantine.FILE
    if metrics.get("quarantined") and refused.exists():
        return f"{shown}: {refused.relative_to(Path.cwd()) if refused.is_relative_to(Path.cwd()) else refused}"
    if stage != "evaluate" or shown or not (options.get("few_shot") and (out / SUMMARY).is_file()):
        return shown  # an empty shard wrote no summary
    if not config.evaluate.few_shot:
        return "not asked: evaluate.few_shot=0"
    asked = storage.read_json(out / SUMMARY, made_by="dcod evaluate")["benchmarks"]
    return f"not asked: {'there is no report problem' if asked else 'no trace for training is a single exchange'}"


def tags(config: Config, pipeline: str) -> dict[str, str]:
    """What the parent run says of its origin: code, image, and the page of Kubeflow."""
    cluster = config.cluster
    address = (cluster.ui or cluster.kubeflow).rstrip("/")
    named = {
        "mlflow.source.git.commit": _commit(),
        "dcod.image": cluster.image,
        "dcod.kubeflow": f"{address}/#/runs/details/{pipeline}" if address else "",
    }
    return {key: value for key, value in named.items() if value}


@cache
def _commit() -> str:
    """The commit of this code: what the image was built from, or what is checked out."""
    if told := os.environ.get("DCOD_REVISION", ""):
        return "" if told == "unknown" else told
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
