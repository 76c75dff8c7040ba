"""Put the answers of all further students together."""

from typing import List  # noqa: UP035 (Kubeflow reads this spelling)

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def seeds(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    students: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    gathered: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """One folder for the gate, which may read no list beside its other inputs."""
    from dcod.stages.component import run

    inputs = {f"student{number}": student.path for number, student in enumerate(students)}
    for name, value in run("seeds", config.path, pipeline, gathered.path, inputs).items():
        metrics.log_metric(name, value)
