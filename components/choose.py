"""Choose the arm that trains the student."""

from typing import List  # noqa: UP035 (Kubeflow reads this spelling)

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def choose(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    pilots: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    choice: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """The arm that is shown to be better than plain fine-tuning, or plain fine-tuning; and all arms side by side."""
    from dcod.stages.component import run

    inputs = {f"pilot{number}": pilot.path for number, pilot in enumerate(pilots)}
    for name, value in run("choose", config.path, pipeline, choice.path, inputs).items():
        metrics.log_metric(name, value)
