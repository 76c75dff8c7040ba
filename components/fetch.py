"""Fetch a model: the configured start, or the registry's champion."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fetch(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    which: str,
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Puts a model's folder into the run as an artifact; ``which`` is start or champion."""
    from dcod.stages.component import run

    for name, value in run("fetch", config.path, pipeline, model.path, label=which, which=which).items():
        metrics.log_metric(name, value)
