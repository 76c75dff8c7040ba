"""Settle the configuration: merge the inputs of the run into it, and refuse what cannot run where this runs."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def settle(
    config: str,
    compiled: str,
    pipeline: str,
    settled: dsl.Output[dsl.Artifact],
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
    """The configuration of all further tasks; ``compiled`` says what the pipeline was compiled with."""
    from dcod.stages.component import settle

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
    settle(config, compiled, pipeline, settled.path, inputs)
