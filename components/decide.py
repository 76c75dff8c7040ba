"""Decide whether a scheduled run trains, and on what."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def decide(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    start: dsl.Input[dsl.Model],
    champion: dsl.Input[dsl.Model],
    traces: dsl.Input[dsl.Dataset],
    decision: dsl.Output[dsl.Artifact],
    selected: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
) -> str:
    """Returns ``go``, ``waiting`` (an accepted challenger is to be promoted) or ``skip``; the reasons are beside it."""
    from dcod.stages.component import run_decide

    inputs = {"start": start.path, "champion": champion.path, "traces": traces.path}
    outcome, figures = run_decide(config.path, pipeline, decision.path, inputs, selected.path, summary.path)
    for name, value in figures.items():
        metrics.log_metric(name, value)
    return outcome
