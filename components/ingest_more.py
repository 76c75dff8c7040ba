"""Take a teacher's attempts in, onto the traces that are there."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest_more(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    student: dsl.Input[dsl.Model],
    traces: dsl.Input[dsl.Dataset],
    taught: dsl.Input[dsl.Dataset],
    more: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Verified, quarantined and decontaminated like any row; the traces that were there stay as they are."""
    from dcod.stages.component import run

    inputs = {"student": student.path, "onto": traces.path, "taught": taught.path}
    for name, value in run("ingest", config.path, pipeline, more.path, inputs, label="more").items():
        metrics.log_metric(name, value)
