"""Close the run in MLflow, also when a stage failed or its pod was killed."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish(
    config: str,
    compiled: str,
    pipeline: str,
    status: dsl.PipelineTaskFinalStatus,
    data_benchmarks: str = "",
    data_traces: str = "",
    model_registered: str = "",
    model_start: str = "",
    run_experiment: str = "",
    run_name: str = "",
    train_correction: str = "",
    train_epochs: int = 0,
    train_learning_rate: float = 0.0,
    train_max_length: int = 0,
    train_traces_per_step: int = 0,
) -> None:
    """The exit handler: records the end of the pipeline run, with the error of the stage that failed."""
    from dcod.stages.component import finish

    inputs = {
        "data_benchmarks": data_benchmarks,
        "data_traces": data_traces,
        "model_registered": model_registered,
        "model_start": model_start,
        "run_experiment": run_experiment,
        "run_name": run_name,
        "train_correction": train_correction,
        "train_epochs": train_epochs,
        "train_learning_rate": train_learning_rate,
        "train_max_length": train_max_length,
        "train_traces_per_step": train_traces_per_step,
    }
    finish(config, pipeline, status.state, status.error_message or "", inputs, compiled)
