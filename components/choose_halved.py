"""Choose the arm that trains the student, where the worse half of the arms got no further seed.

A component of its own: Kubeflow knows no list of artifacts that may be missing.
"""

from typing import List  # noqa: UP035 (Kubeflow reads this spelling)

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def choose_halved(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    pilots: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    further: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    choice: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """As choose, of the first seeds (``pilots``) and the further ones."""
    from dcod.stages.component import run

    inputs = {f"pilot{number}": pilot.path for number, pilot in enumerate([*pilots, *further])}
    for name, value in run("choose", config.path, pipeline, choice.path, inputs).items():
        metrics.log_metric(name, value)
