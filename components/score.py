"""Score the traces with the student."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def score(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    traces: dsl.Input[dsl.Dataset],
    student: dsl.Input[dsl.Model],
    scores: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    shard: str = "",
) -> None:
    """Log-probs and entropies of every trace (or of ``shard``, as 2/4), and the drift of the teacher."""
    from dcod.stages.component import run

    inputs = {"traces": traces.path, "student": student.path}
    for name, value in run("score", config.path, pipeline, scores.path, inputs, shard=shard).items():
        metrics.log_metric(name, value)
