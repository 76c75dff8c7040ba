"""The main job: traces and a start in, a better student in the registry out, or a refusal with its reasons.

  1. fetch     the start (a hub id, a folder, s3:// or models:/name@alias), and the champion to beat;
  2. ingest    raw traces: verified, quarantined, decontaminated, split by problem;
  3. score     the start's log-probs and entropies on every trace, and the drift;
  4. train     corrected supervision: the student, in this pod or by a TrainJob on several nodes;
  5. evaluate  start, start with worked examples, champion and student, on the same problems;
  6. gate      a paired test on the gate split; the student is registered as challenger either way;
  7. promote   only if the gate says so: the champion alias moves.
  Whatever happens, `finish` closes the run in MLflow, with the error of the stage that failed.

Caching is off everywhere: dcod reuses a stage's output by its own digest (configuration, inputs, code),
while Kubeflow's cache key does not cover dcod's code and would skip promotion and exit handler.

`build` makes the pipeline for a cluster; `dcod run` and `dcod submit` both run what it returns. Its shape
depends on two settings only: with `cluster.shards` > 1, score (by traces) and evaluate (by benchmarks) fan out
and are merged; with `cluster.train.num_nodes` > 1, training is a TrainJob.
"""

from typing import TYPE_CHECKING, Any

from kfp import dsl

from components.evaluate import evaluate
from components.fetch import fetch
from components.finish import finish
from components.gate import gate
from components.ingest import ingest
from components.merge import merge
from components.promote import promote
from components.score import score
from components.train import train
from components.train_nodes import train_nodes
from pipelines.placing import Placing

if TYPE_CHECKING:
    from dcod.cluster import ClusterConfig

COMPONENTS = (evaluate, fetch, finish, gate, ingest, merge, promote, score, train, train_nodes)


def build(cluster: "ClusterConfig | None" = None) -> Any:
    """The pipeline for a cluster; without one, for the default section."""
    from dcod.cluster import ClusterConfig

    cluster = cluster or ClusterConfig()
    place = Placing(cluster)
    trainer = train_nodes if cluster.train.num_nodes > 1 else train
    shards = [f"{k}/{cluster.shards}" for k in range(1, cluster.shards + 1)]

    @dsl.pipeline(name="dcod-distill", description="Distribution-corrected offline distillation, gated.")
    def distill(config: str) -> None:
        """The pipeline; ``config`` is the resolved configuration as JSON (see `dcod presets`)."""
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        closing = place.closing(finish(config=config, pipeline=run))

        def merged(parts: Any, kind: str, name: str) -> Any:
            task = merge(config=config, pipeline=run, kind=kind, parts=dsl.Collected(parts))
            return place.task(task, name).outputs["merged"]

        def scored(traces: Any, model: Any) -> Any:
            inputs = {"config": config, "pipeline": run, "traces": traces, "student": model}
            if len(shards) == 1:
                return place.task(score(**inputs), "score traces", gpu=True).outputs["scores"]
            with dsl.ParallelFor(items=shards, name="score shards") as shard:
                part = place.task(score(**inputs, shard=shard), "score traces", gpu=True)
            return merged(part.outputs["scores"], "score", "merge scores")

        def evaluated(model: Any, label: str, few_shot: bool = False) -> Any:
            inputs = {"config": config, "pipeline": run, "student": model, "traces": traces}
            inputs |= {"label": label, "few_shot": few_shot}
            if len(shards) == 1:
                return place.task(evaluate(**inputs), f"evaluate {label}", gpu=True).outputs["results"]
            with dsl.ParallelFor(items=shards, name=f"evaluate {label} shards") as shard:
                part = place.task(evaluate(**inputs, shard=shard), f"evaluate {label}", gpu=True)
            return merged(part.outputs["results"], "evaluate", f"merge {label}")

        with dsl.ExitHandler(closing, name="record-outcome"):
            start = place.task(fetch(config=config, pipeline=run, which="start"), "fetch start")
            champion = place.task(fetch(config=config, pipeline=run, which="champion"), "fetch champion")
            begin = start.outputs["model"]
            ingested = place.task(ingest(config=config, pipeline=run, student=begin), "ingest traces")
            traces = ingested.outputs["traces"]
            scores = scored(traces, begin)
            in_this_pod = cluster.train.num_nodes == 1
            trained = trainer(config=config, pipeline=run, scores=scores, start=begin)
            longer = 0 if in_this_pod else cluster.train.timeout_s + 600  # than the job that this pod follows
            student = place.task(trained, "train student", gpu=in_this_pod, timeout_s=longer).outputs["student"]
            decided = place.task(
                gate(
                    config=config,
                    pipeline=run,
                    start=begin,
                    student=student,
                    traces=traces,
                    scores=scores,
                    start_results=evaluated(begin, "start"),
                    few_shot_results=evaluated(begin, "start, few-shot", few_shot=True),
                    champion_results=evaluated(champion.outputs["model"], "champion"),
                    results=evaluated(student, "student"),
                ),
                "gate",
            )
            # A single output read as .output: on a named one the local runner skips the branch silently.
            with dsl.If(decided.outputs["Output"] == "promote", name="better"):
                task = promote(config=config, pipeline=run, decision=decided.outputs["decision"])
                place.task(task, "promote", retried=False)

    return distill


distill = build()
