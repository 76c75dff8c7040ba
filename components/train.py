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
    choice: dsl.Input[dsl.Artifact] = None,  # how kfp says optional
    arm: str = "",
) -> None:
    """From the start and the scored traces to a student: of the chosen arm, or of a named one such as `sft`."""
    from dcod.stages.component import run

    inputs = {"scores": scores.path, "student": start.path} | ({"choice": choice.path} if choice else {})
    for name, value in run("train", config.path, pipeline, student.path, inputs, label=arm, arm=arm).items():
        metrics.log_metric(name, value)
