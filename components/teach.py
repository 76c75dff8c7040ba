"""Ask a teacher, or the student itself, the prompts that have too few verified traces."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def teach(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    traces: dsl.Input[dsl.Dataset],
    taught: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    teacher: dsl.Input[dsl.Model] = None,  # how kfp says optional: a chat endpoint has no folder
) -> None:
    """Its attempts, verified; none where no prompt lacks traces."""
    from dcod.stages.component import run

    inputs = {"traces": traces.path} | ({"teacher": teacher.path} if teacher else {})
    for name, value in run("teach", config.path, pipeline, taught.path, inputs).items():
        metrics.log_metric(name, value)
