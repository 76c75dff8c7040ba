"""Evaluate a model on the configured benchmarks."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    label: str,
    few_shot: bool,
    student: dsl.Input[dsl.Model],
    traces: dsl.Input[dsl.Dataset],
    results: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    shard: str = "",
) -> None:
    """Answers, graded one by one; ``few_shot`` puts worked traces first, ``shard`` (2/4) takes some benchmarks."""
    from dcod.stages.component import run

    inputs = {"student": student.path} | ({"traces": traces.path} if few_shot else {})
    named = {"label": label, "shard": shard}
    for name, value in run("evaluate", config.path, pipeline, results.path, inputs, few_shot=few_shot, **named).items():
        metrics.log_metric(name, value)
