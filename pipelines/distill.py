"""The main job: traces and a start in, a better student in the registry out, or a refusal with its reasons.

  1. fetch     the start (a hub id, a folder, s3:// or models:/name@alias), and the champion to beat;
  2. ingest    raw traces: verified, quarantined, decontaminated, split by problem;
  3. score     the start's log-probs and entropies on every trace, and the drift;
  4. train     corrected supervision: the student;
  5. evaluate  start, start with worked examples, champion and student, on the same problems;
  6. gate      a paired test on the gate split; the student is registered as challenger either way;
  7. promote   only if the gate says so: the champion alias moves.
  Whatever happens, `finish` closes the run in MLflow, with the error of the stage that failed.

Caching is off everywhere: dcod reuses a stage's output by its own digest (configuration, inputs, code),
while Kubeflow's cache key does not cover dcod's code and would skip promotion and exit handler.
"""

from typing import Any

from kfp import dsl

from components.evaluate import evaluate
from components.fetch import fetch
from components.finish import finish
from components.gate import gate
from components.ingest import ingest
from components.promote import promote
from components.score import score
from components.train import train

COMPONENTS = (evaluate, fetch, finish, gate, ingest, promote, score, train)


def _task(task: dsl.PipelineTask, name: str) -> dsl.PipelineTask:
    return task.set_caching_options(False).set_display_name(name)


@dsl.pipeline(name="dcod-distill", description="Distribution-corrected offline distillation, gated.")
def distill(config: str) -> None:
    """The pipeline; ``config`` is the resolved configuration as JSON (see `dcod presets`)."""
    run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    closing = finish(config=config, pipeline=run).set_caching_options(False)
    with dsl.ExitHandler(closing, name="record-outcome"):
        start = _task(fetch(config=config, pipeline=run, which="start"), "fetch start")
        champion = _task(fetch(config=config, pipeline=run, which="champion"), "fetch champion")
        begin = start.outputs["model"]
        ingested = _task(ingest(config=config, pipeline=run, student=begin), "ingest traces")
        traces = ingested.outputs["traces"]
        scored = _task(score(config=config, pipeline=run, traces=traces, student=begin), "score traces")
        scores = scored.outputs["scores"]
        trained = _task(train(config=config, pipeline=run, scores=scores, start=begin), "train student")
        student = trained.outputs["student"]

        def evaluated(model: Any, label: str, few_shot: bool = False) -> Any:
            task = evaluate(config=config, pipeline=run, label=label, few_shot=few_shot, student=model, traces=traces)
            return _task(task, f"evaluate {label}").outputs["results"]

        decided = _task(
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
            _task(promote(config=config, pipeline=run, decision=decided.outputs["decision"]), "promote")
