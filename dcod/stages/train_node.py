"""What runs on every rank of a TrainJob: `torchrun --module dcod.stages.train_node WORK`.

1. the first rank of a node fetches configuration, scores and start from WORK;
2. all ranks train (dcod.stages.train_rank); rank 0 prints its metrics and writes the student;
3. rank 0 puts the student into WORK, ``done.json`` last; a rank that fails says why in ``error.json``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod import storage
from dcod.config import Config, load_config
from dcod.errors import UserError, one_line
from dcod.stages.handover import ERROR, METRICS, OUTPUT
from dcod.storage import parts, workers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PATIENCE_S = 1800.0


class PrintedLog:
    """Metrics as lines of text, for whoever follows the log; figures are drawn by them."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        print(METRICS + json.dumps({"step": step or 0, "values": dict(values)}), flush=True)

    def figure(self, name: str, figure: Figure) -> None: ...

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def sources(self, files: Mapping[str, str]) -> None: ...

    def text(self, name: str, text: str) -> None: ...


def main(work: str) -> None:
    """One rank, to its end."""
    workers.end_with_parent()  # of whoever started all ranks of this machine; on a cluster nobody has
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    try:
        config, scores, student = _inputs(work, local)
        from dcod.score.scores import open_scores
        from dcod.stages import train_rank

        if rank != 0:  # the same training, of which this rank keeps nothing
            train_rank.on_this_rank(config, open_scores(scores), scores, student, lambda _: None, lambda *_: None)
            return
        with storage.scratch() as out:
            inputs = train_rank.opened(config, scores=scores, student=student)
            metrics = train_rank.run(config, inputs, out, PrintedLog())
            parts.copy(out, f"{work}/{OUTPUT}")
            storage.write_json(out / "done.json", metrics)
            parts.copy(out / "done.json", f"{work}/{OUTPUT}/done.json")
    except Exception as error:
        mistake = isinstance(error, UserError)
        line = one_line(error) or type(error).__name__
        line = line if mistake else f"rank {rank}: {type(error).__name__}: {line}"
        with storage.scratch() as folder:
            note = folder / ERROR
            storage.write_json(note, {"error": line, "users_mistake": mistake, "rank": rank})
            parts.copy(note, f"{work}/{ERROR}")
        raise


def _inputs(work: str, local: int) -> tuple[Config, Path, Path]:
    """Configuration, scores and start; one rank of a node fetches, the others wait for it."""
    if not storage.is_s3(work):  # every rank reads a shared volume itself
        folder = Path(work)
    else:
        folder = Path(tempfile.gettempdir()) / f"dcod-{os.environ.get('TORCHELASTIC_RUN_ID', 'job')}"
        mark = folder / "fetched"
        if local == 0:
            places = {name: storage.fetch(f"{work}/{name}", folder) for name in ("config.json", "scores", "student")}
            storage.write_json(mark, {name: str(path) for name, path in places.items()})
        deadline = time.monotonic() + _PATIENCE_S
        while not mark.is_file():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no inputs from {work} after {_PATIENCE_S:.0f} s")
            time.sleep(0.2)
        places = {name: Path(path) for name, path in json.loads(mark.read_text(encoding="utf-8")).items()}
        return load_config(places["config.json"]), places["scores"], places["student"]
    return load_config(folder / "config.json"), folder / "scores", folder / "student"


if __name__ == "__main__":
    main(sys.argv[1])
