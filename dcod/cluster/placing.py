"""Image, size and GPUs of a stage by the section ``cluster``: the same in a pipeline's pod and in a TrainJob's.

Without Kubernetes: who writes the pods asks here (:mod:`dcod.cluster.trainjobs`, ``dcod_pipelines.pods``).
"""

from __future__ import annotations

from dataclasses import dataclass

from dcod.config.cluster import ClusterConfig, StageConfig
from dcod.config.pod import PodConfig

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
FOLLOWER = "train-nodes"  # its pod makes a TrainJob and waits: the code is training's, size and GPUs are the job's
# Tasks without settings of their own in `cluster.stages`, by the stage whose they take.
GOES_BY = {
    "gate": "evaluate", "promote": "evaluate", "ingest-more": "ingest", "choose-halved": "choose", "again": "train",
    FOLLOWER: "train",
}  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """What one pod gets.

    Attributes:
        image: empty: the component's.
        size: CPUs and memory.
        gpus: how many; 0: it stands on a node without.
    """

    image: str
    size: PodConfig
    gpus: int


def placement(cluster: ClusterConfig, task: str, gpu: bool, otherwise: PodConfig | None = None) -> Placement:
    """What the pod of a task gets.

    Args:
        cluster: the configuration.
        task: its stage, or one of :data:`GOES_BY`.
        gpu: it runs on a GPU where the cluster has some, unless `cluster.stages` says otherwise.
        otherwise: its size without a GPU; None: `cluster.pod`.
    """
    own = _own(cluster, task)
    on_gpu = cluster.gpu.count > 0 and (own.pod == "gpu" if own.pod else gpu)
    pod = cluster.gpu.pod if on_gpu else otherwise or cluster.pod
    sizes = {"cpu": own.cpu, "cpu_limit": own.cpu_limit, "memory": own.memory}
    return Placement(
        own.image or (cluster.gpu_image if on_gpu else "") or cluster.image,
        pod.model_copy(update={key: value for key, value in sizes.items() if value}),
        cluster.gpu.count if on_gpu else 0,
    )


def _own(cluster: ClusterConfig, task: str) -> StageConfig:
    """What the configuration says of this task alone."""
    stages = {str(stage): own for stage, own in cluster.stages.items()}
    own = stages.get(task) or stages.get(GOES_BY.get(task, task)) or StageConfig()
    return StageConfig(image=own.image) if task == FOLLOWER else own
