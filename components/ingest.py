"""Ingest raw traces: verified, quarantined, decontaminated."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    student: dsl.Input[dsl.Model],
    traces: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Reads the configured sources; the student's tokenizer decides what is too long."""
    from dcod.stages.component import run

    for name, value in run("ingest", config.path, pipeline, traces.path, {"student": student.path}).items():
        metrics.log_metric(name, value)
