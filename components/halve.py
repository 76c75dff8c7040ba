"""Drop the arms that a first seed shows to be behind."""

from typing import List  # noqa: UP035 (Kubeflow reads this spelling)

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def halve(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    pilots: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    dropped: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """The worse half of many arms gets no further seed; plain fine-tuning always does."""
    from dcod.stages.component import run

    inputs = {f"pilot{number}": pilot.path for number, pilot in enumerate(pilots)}
    for name, value in run("halve", config.path, pipeline, dropped.path, inputs).items():
        metrics.log_metric(name, value)
