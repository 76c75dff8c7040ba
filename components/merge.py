"""Merge the shards of a stage that was fanned out."""

from typing import List  # noqa: UP035 (Kubeflow reads this spelling)

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def merge(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    kind: str,
    traces: dsl.Input[dsl.Dataset],
    parts: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    merged: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """One output from those of all shards; ``kind`` is the stage, score (of ``traces``) or evaluate."""
    from dcod.stages.component import run

    inputs = {f"part{number}": part.path for number, part in enumerate(parts)}
    inputs |= {"traces": traces.path} if kind == "score" else {}
    for name, value in run("merge", config.path, pipeline, merged.path, inputs, label=kind, kind=kind).items():
        metrics.log_metric(name, value)
