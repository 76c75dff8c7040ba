"""The main job: traces and a start in, a better student in the registry out, or a refusal with its reasons.

  1. fetch     the start (a hub id, a folder, s3:// or models:/name@alias), and the champion to beat;
  2. ingest    raw traces: verified, quarantined, decontaminated, split by problem;
     teach     with `teach.enough` and a teacher: more traces for the prompts that have too few, ingested as well;
  3. score     the start's log-probs and entropies on every trace, and the drift;
     pilot, choose   where arms are configured: each is tried on a share of the prompts, and the best is chosen;
  4. train     corrected supervision: the student, in this pod or by a TrainJob on several nodes; and beside it one by
               plain fine-tuning, where a twin is wanted;
     again, seeds    with `train.seeds`: both with other seeds, asked the report problems alone;
  5. evaluate  start, start with worked examples, champion and student, on the same problems;
  6. gate      a paired test on the gate split; the student is registered as challenger either way;
  7. promote   only if the gate says so: the champion alias moves.
  Whatever happens, `finish` closes the run in MLflow, with the error of the stage that failed.

First of all `settle` merges the inputs of the run into its configuration. `build` makes the pipeline for a cluster;
`dcod run` and `dcod submit` both run what it returns. Its shape depends on `cluster.shards`,
`cluster.train.num_nodes`, the names of `train.arms`, `train.twin`, `train.seeds`, and who is asked
(dcod_pipelines.tasks).
"""

from typing import TYPE_CHECKING, Any

from kfp import dsl

from dcod_pipelines.form import pipeline
from dcod_pipelines.tasks import Tasks

if TYPE_CHECKING:
    from dcod.config import Config


def build(settings: "Config | None" = None, parallelism: int = 0) -> Any:
    """The pipeline for a configuration's cluster; without one, for the default.

    Args:
        settings: the configuration.
        parallelism: so many trainings at once; 0: as many as there is room for.
    """
    from dcod.config import Config

    settings = settings or Config()

    @pipeline("dcod-distill", "Distribution-corrected offline distillation, gated.", settings)
    def distill(inputs: dict[str, Any]) -> None:
        tasks = Tasks(settings, inputs, parallelism)
        with dsl.ExitHandler(tasks.closing(), name="record-outcome"):
            tasks.settle()
            start = tasks.fetch("start", "start")
            champion = tasks.fetch("champion", "champion")
            traces = tasks.taught(tasks.ingest(start), start)
            scores = tasks.score(traces, start)
            choice = tasks.choose(scores, start, traces)
            student = tasks.train(scores, start, **choice)
            twin = tasks.twin(scores, start, traces, **choice)
            tasks.gate(start, champion, student, traces, scores, **choice, **twin)

    return distill


distill = build()
