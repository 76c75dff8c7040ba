"""Train the student on several nodes: a TrainJob of Kubeflow Trainer, followed to its end."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_nodes(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    scores: dsl.Input[dsl.Dataset],
    start: dsl.Input[dsl.Model],
    student: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    choice: dsl.Input[dsl.Artifact] = None,  # how kfp says optional
    arm: str = "",
) -> None:
    """As `train`; this pod needs no GPU, it submits the job, follows it, and takes its student over."""
    from dcod.stages.component import run

    inputs = {"scores": scores.path, "student": start.path} | ({"choice": choice.path} if choice else {})
    for name, value in run("train_job", config.path, pipeline, student.path, inputs, label=arm, arm=arm).items():
        metrics.log_metric(name, value)
