"""Choose: which arm trains the student, by what the pilots of all arms answered (:mod:`dcod.promote.choice`).

1. gather the arms, those that were left out or failed with their reasons;
2. choose by the selection and pilot problems;
3. ask the pilot's students of plain fine-tuning and of the chosen arm the report problems, once: that difference was
   used for nothing, so it is the answer where no arm is trained beside plain fine-tuning at full size;
4. write choice.json, the results of step 3, and some problems that the two answer differently.

Where a scheduled run takes an earlier choice over, that is the choice, and nothing is asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from dcod import benchmarks, storage
from dcod.config import Config
from dcod.errors import UserError
from dcod.evaluate.results import Results
from dcod.promote import choice, twins
from dcod.promote.choice import Choice
from dcod.promote.compare import at
from dcod.promote.outcome import CHOICE
from dcod.retrain import arms as taken_over
from dcod.retrain.arms import Kept
from dcod.stages import reported
from dcod.stages.piloting import ANSWERS, DROPPED, FEW, STUDENT, TAKEN_OVER, TRAINED, level_of
from dcod.stages.tried import Tried, gathered

if TYPE_CHECKING:
    from dcod.tracking import Log

_EXAMPLES = 5


def run(config: Config, out: Path, log: Log, **arms: Path) -> dict[str, float]:
    """Chooses an arm; see the module.

    Args:
        config: the whole configuration.
        out: an empty folder.
        log: the choice goes there.
        **arms: the outputs of all pilots, by whatever names.

    Raises:
        UserError: an arm is missing, or plain fine-tuning was not tried.
    """
    told = gathered(config, arms.values())
    if kept := next(filter(None, (taken_over.read(arm.folder / TAKEN_OVER) for arm in told.values())), None):
        return _untried(out, kept, told) | {"taken_over": 1.0}
    if few := next((arm for arm in told.values() if arm.sft and arm.state == FEW), None):
        sft, fields = config.train.arm(few.name), few.fields
        return _untried(out, Kept(sft, 0.0, fields["alone"], fields["why"], sft), told)  # of no time: ask again
    tried = {name: arm.answers() for name, arm in told.items() if arm.state == TRAINED}
    if not any(arm.sft for arm in tried.values()):
        raise UserError("choose: plain fine-tuning was not tried, so nothing can be compared with it")
    gone = [name for name, arm in told.items() if arm.state == DROPPED]
    dropped = {name: told[name].answers() for name in gone}
    asked = tried | dropped
    before = max(arm.fields["before"] for arm in told.values())
    made = choice.choose(list(tried.values()), level_of(config.train.pilot, before), gone)
    otherwise = ""
    if config.train.pilot.compare == "nll":
        made = replace(made, why=f"{made.why}; compared by likelihood, which favours plain fine-tuning")
    elif otherwise := _otherwise(config, made):
        made = replace(made, why=f"{made.why}; {otherwise}")
    results = _reported(config, out, {name: told[name].folder for name in (made.sft, made.arm)})
    compared = []
    if results:
        compared = twins.on_report(results[made.arm], results[made.sft])
    storage.write_json(
        out / CHOICE,
        {
            "choice": made.to_dict(),
            "otherwise": otherwise,
            "settings": told[made.arm].fields["arm"],
            "sft": told[made.sft].fields["arm"],
            "at": time.time(),
            "alone": told[made.arm].fields["alone"],
            "share": told[made.sft].fields["figures"]["share"],
            "arms": [
                {**arm.fields, "best": asked[name].best if name in asked else None} for name, arm in told.items()
            ],
            "dropped": [
                asdict(choice.after_first(dropped[name], list(tried.values()), config.train.pilot)) for name in gone
            ],
            "report": [one.__dict__ for one in compared],
            "asked": {name: one.told() for name, one in results.items()},
            "examples": _examples(config, told[made.sft].folder, _other(told, made)),
        },
    )  # fmt: skip
    log.text("choice.txt", f"{made.why}\n")
    figures = {f"{one.name}/{key}": getattr(one, key) for one in made.against for key in ("difference", "low", "high")}
    return figures | {"detectable": made.detectable, "problems": float(made.problems)}


def _untried(out: Path, kept: Kept, told: Mapping[str, Tried]) -> dict[str, float]:
    """The choice where no arm was tried: of an earlier pilot, as it was, or plain fine-tuning."""
    made = Choice(kept.arm.name, kept.sft.name, kept.why, (), 0, 0, 0.0, False, 0.0)
    storage.write_json(
        out / CHOICE,
        {
            "choice": made.to_dict(),
            "settings": kept.arm.model_dump(mode="json"),
            "sft": kept.sft.model_dump(mode="json"),
            "at": kept.at,
            "alone": kept.alone,
            "share": 0.0,
            "arms": [{**arm.fields, "best": None} for arm in told.values()],
            "report": [],
            "examples": [],
        },
    )
    return {}


def _reported(config: Config, out: Path, folders: Mapping[str, Path]) -> dict[str, Results]:
    """What the pilot's students answer to the report problems; nothing where no benchmark is configured or none won."""
    if len(folders) < 2 or not config.evaluate.benchmarks:
        return {}
    return {
        name: reported.results_of(config, folder / STUDENT, out / f"report-{name}") for name, folder in folders.items()
    }


def _otherwise(config: Config, made: Choice) -> str:
    """Where report and gate ask the winner at another temperature than it was chosen at, which; else empty."""
    won = next((one.temperature for one in made.against if one.name == made.arm), None)
    plans = (benchmarks.plan(one) for one in config.evaluate.benchmarks if one.role == "primary")
    asked = sorted({plan.temperature for plan in plans})
    if won is None or asked in ([], [won]):
        return ""
    ways = " and ".join(map(at, asked))
    return f"chosen {at(won)}, asked {ways} by report and gate"


def _other(told: Mapping[str, Tried], made: Choice) -> Path | None:
    """The pilot that is shown beside SFT: the chosen one, or the one that came nearest to being chosen."""
    if made.arm != made.sft:
        return told[made.arm].folder
    nearest = max(made.against, key=lambda one: one.bound, default=None)
    return told[nearest.name].folder if nearest else None


def _examples(config: Config, sft: Path, other: Path | None) -> list[dict[str, str]]:
    """A few pilot problems that the first students answer differently when greedy, or at the lowest temperature."""
    if other is None or config.train.pilot.compare == "nll":
        return []
    columns = ["problem_id", "temperature", "seed", "sample", "outcome", "response", "gold"]
    sides = []
    for folder in (sft, other):
        rows = pq.read_table(folder / ANSWERS, columns=columns, filters=[("split", "=", "pilot")]).to_pylist()
        lowest = min(row["temperature"] for row in rows)
        first = [row for row in rows if not row["seed"] and not row["sample"] and row["temperature"] == lowest]
        sides.append({row["problem_id"]: row for row in first})
    ours, theirs = sides
    differ = [name for name in ours if (ours[name]["outcome"] == "correct") != (theirs[name]["outcome"] == "correct")]
    return [
        {
            "gold": ours[name]["gold"],
            "sft": ours[name]["response"],
            "other": theirs[name]["response"],
            "right": "sft" if ours[name]["outcome"] == "correct" else "other",
        }
        for name in differ[:_EXAMPLES]
    ]
