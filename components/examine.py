"""Examine the rows of one shard of the sources, for an ingestion that is fanned out."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def examine(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    student: dsl.Input[dsl.Model],
    shard: str,
    examined: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """What there is to find out about each row of ``shard`` (2/4) alone; `join` makes the trace set of all shards."""
    from dcod.stages.component import run

    for name, value in run(
        "examine", config.path, pipeline, examined.path, {"student": student.path}, shard=shard
    ).items():
        metrics.log_metric(name, value)
