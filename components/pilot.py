"""Train one arm on a share of the prompts, and ask it the pilot's problems."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pilot(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    arm: str,
    scores: dsl.Input[dsl.Dataset],
    start: dsl.Input[dsl.Model],
    traces: dsl.Input[dsl.Dataset],
    answers: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    first: bool = False,
    dropped: dsl.Input[dsl.Artifact] = None,  # how kfp says optional
) -> None:
    """Its answers, graded, and its first student; an arm that does not suit the traces says so and does nothing.

    ``first``: only the first seed. With ``dropped`` only the others, and none of an arm that is dropped.
    """
    from dcod.stages.component import run

    inputs = {"scores": scores.path, "student": start.path, "traces": traces.path}
    inputs |= {"dropped": dropped.path} if dropped else {}
    label = f"{arm}, further seeds" if dropped else arm
    figures = run("pilot", config.path, pipeline, answers.path, inputs, label=label, arm=arm, first=first)
    for name, value in figures.items():
        metrics.log_metric(name, value)
