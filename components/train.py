"""Train the student on corrected supervision."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    scores: dsl.Input[dsl.Dataset],
    start: dsl.Input[dsl.Model],
    student: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """From the start and the scored traces to a trained student."""
    from dcod.stages.component import run

    inputs = {"scores": scores.path, "student": start.path}
    for name, value in run("train", config.path, pipeline, student.path, inputs).items():
        metrics.log_metric(name, value)
