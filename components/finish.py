"""Close the run in MLflow, also when a stage failed or its pod was killed."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish(config: str, pipeline: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """The exit handler: records the end of the pipeline run, with the error of the stage that failed."""
    from dcod.stages.component import finish

    finish(config, pipeline, status.state, status.error_message or "")
