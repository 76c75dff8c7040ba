"""Move the champion alias to the challenger."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    decision: dsl.Input[dsl.Artifact],
    outcome: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Promotes what the gate decided on, unless the champion changed meanwhile."""
    from dcod.stages.component import run

    for name, value in run("promote", config.path, pipeline, outcome.path, {"decision": decision.path}).items():
        metrics.log_metric(name, value)
