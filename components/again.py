"""Train the student, or plain fine-tuning beside it, with another seed, and ask it the report problems."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def again(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    arm: str,
    scores: dsl.Input[dsl.Dataset],
    start: dsl.Input[dsl.Model],
    answers: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    choice: dsl.Input[dsl.Artifact] = None,  # how kfp says optional
) -> None:
    """Its answers; ``arm`` says of which kind and with which number: ``student 1``, ``sft 1``."""
    from dcod.stages.component import run

    inputs = {"scores": scores.path, "student": start.path} | ({"choice": choice.path} if choice else {})
    for name, value in run("again", config.path, pipeline, answers.path, inputs, label=arm, arm=arm).items():
        metrics.log_metric(name, value)
