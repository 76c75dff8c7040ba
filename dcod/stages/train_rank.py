"""What one rank trains, alone or beside others: the only one of a laptop, and each that a node starts.

1. check that the scores are of this very student, and open them, split train and selection; a step's traces are read
   when it comes;
2. check that the correction has all it needs, before the model is loaded;
3. train, or go on where an earlier attempt at the same run was stopped; keep the student that is best on the
   selection split;
4. write the student (safetensors and tokenizer), training.jsonl, weights.json and the plots: the first rank alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from dcod import storage
from dcod.config import Config
from dcod.models import fitting, loading
from dcod.score import asking, frozen
from dcod.score.preparing import Preparation
from dcod.score.scores import Scored, StoredTraces, check_scored, open_scores
from dcod.stages.digests import attempt_place
from dcod.stages.manifests import note
from dcod.traces import prompts, turns
from dcod.train import loop
from dcod.train.checkpoints import Checkpoints
from dcod.train.weights import check_active

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dcod.tracking import Log

_SHARD = "2GB"  # of the weights: what carries them, such as a tracking server, may hold a whole file


@dataclass(frozen=True)
class Inputs:
    """What is trained on, checked and opened."""

    scores: Path
    student: Path
    splits: Mapping[str, StoredTraces]
    tokenizer: PreTrainedTokenizerBase


def opened(config: Config, *, scores: Path, student: Path) -> Inputs:
    """Steps 1 and 2; see the module.

    Raises:
        UserError: the scores are of another student, or it is not whole; as :func:`dcod.train.loop.check`.
    """
    tokenizer = prompts.of_student(student, config.student)
    fitting.check_student(student, tokenizer, config.student.max_length)
    check_scored(scores, student, Scored(loading.digest(student), prompts.tokenizer_digest(tokenizer)))
    splits = open_scores(scores)
    loop.check(config.train, splits["train"])
    check_active(config.train, splits["train"])
    asking.check(config.train, splits["selection"], config.seed)
    return Inputs(scores, student, splits, tokenizer)


def run(config: Config, inputs: Inputs, out: Path, log: Log) -> dict[str, float]:
    """Steps 3 and 4, as the first rank; see the module.

    Raises:
        UserError: as :func:`dcod.train.loop.train`.
    """
    splits, tokenizer = inputs.splits, inputs.tokenizer
    longest = max(int(traces.sizes.max(initial=0)) for traces in splits.values())
    fitting.check_room(
        inputs.student, longest, f"train: {inputs.scores}", "ingest the traces with a lower student.max_length"
    )
    best = out / "best"

    def save(trained: PreTrainedModel) -> None:
        with storage.output_folder(best) as scratch:
            trained.save_pretrained(scratch, max_shard_size=_SHARD)

    result = on_this_rank(config, splits, inputs.scores, inputs.student, save, log.metrics)
    for path in best.iterdir():
        path.chmod(0o644)
        path.rename(out / path.name)
    shutil.rmtree(best)
    tokenizer.save_pretrained(out)
    turns.settle(out, tokenizer)
    note(out, turns=turns.of(tokenizer).table())
    loop.write_history(out / "training.jsonl", result.history)
    storage.write_json(out / "weights.json", result.weights)
    note(out, student=result.student, select=result.select)
    last = result.history[-1]
    metrics = {
        "steps": float(len(result.history)),
        "best_step": float(result.best_step),
        "skipped_steps": float(result.skipped),
        "final_loss": last["loss"],
        "mean_gamma": sum(row["gamma"] for row in result.history) / len(result.history),
        "final_staleness": last["staleness"],
        "mean_ess": sum(row["ess"] for row in result.history) / len(result.history),
    }
    if len(splits["selection"]):
        told = {"start_selection_nll": result.start_nll, "best_selection_nll": result.best_nll}
        told |= {"start_selection_accuracy": result.start_accuracy, "best_selection_accuracy": result.best_accuracy}
        told["kl_from_start"] = result.best_kl
        metrics |= {name: value for name, value in told.items() if isfinite(value)}
    return metrics


def on_this_rank(
    config: Config,
    splits: Mapping[str, StoredTraces],
    scores: Path,
    student: Path,
    save_best: Callable[[PreTrainedModel], None],
    metrics: loop.Metrics,
) -> loop.Result:
    """The training itself, of which each rank does its part: :func:`dcod.train.loop.train` on what the stage reads."""
    tokenizer = prompts.of_student(student, config.student)
    kept, load = checkpoints_of(config, scores, student), partial(loading.load, student, config.student.dtype)
    held = splits["selection"]
    fitted = frozen.fitted(splits["train"], held, Preparation(config.train, config.seed, load, tokenizer, kept))
    return loop.train(load(), fitted, held, config.train, config.seed, save_best, metrics, kept, tokenizer)


def checkpoints_of(config: Config, scores: Path, student: Path) -> Checkpoints | None:
    """The checkpoints of this very run: the same configuration, seed, inputs and code, and no other."""
    wanted = config.train.checkpoints
    sections = {"train": config.train.model_dump(mode="json", exclude={"checkpoints"})}
    place = attempt_place(wanted.uri, "train", config, sections, scores, student)
    return Checkpoints(place, wanted.keep) if place else None
