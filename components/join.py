"""Join the shards of an ingestion that was fanned out to one trace set."""

from typing import List  # noqa: UP035 (Kubeflow reads this spelling)

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def join(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    student: dsl.Input[dsl.Model],
    parts: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    traces: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Duplicates across all shards, the splits and the accounts; the trace set is that of `ingest` in one pod."""
    from dcod.stages.component import run

    inputs = {"student": student.path} | {f"part{number}": part.path for number, part in enumerate(parts)}
    for name, value in run("join", config.path, pipeline, traces.path, inputs).items():
        metrics.log_metric(name, value)
