"""The section ``cluster`` of the configuration: all that differs between clusters; secrets by name only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dcod.config.base import Few, Positive, Section
from dcod.config.gpu import GpuConfig
from dcod.config.pod import PodConfig

MOUNT = "/mnt/dcod"  # of `volume`, in every pod


class StageConfig(Section):
    """What one stage's pods get otherwise than the others; empty: as the others."""

    image: str = Field("", description="Empty: as the other stages.", examples=["registry.example.org/dcod:2"])
    pod: Literal["", "pod", "gpu"] = Field("", description="`cluster.pod`, without a GPU, or `cluster.gpu.pod` with.")
    cpu: Annotated[str, Field(pattern=r"^(\d+(\.\d+|m)?)?$")] = Field(
        "", description="CPUs that are reserved.", examples=["2"]
    )
    cpu_limit: Annotated[str, Field(pattern=r"^(\d+(\.\d+|m)?)?$")] = Field(
        "", description="CPUs that it may use.", examples=["8"]
    )
    memory: Annotated[str, Field(pattern=r"^(\d+(Mi|Gi|Ti))?$")] = Field(
        "", description="Memory, reserved and at most.", examples=["16Gi"]
    )


Placed = Literal[
    "choose", "decide", "evaluate", "examine", "fetch", "finish", "gate", "ingest", "join", "merge", "pilot",
    "promote", "score", "teach", "train",
]  # fmt: skip


class NodesConfig(Section):
    """Training on several nodes, by a TrainJob of Kubeflow Trainer; 1 node trains in the pipeline's own pod."""

    num_nodes: Few = Field(1, description="Nodes that train one student together.", examples=[2])
    runtime: str = Field("dcod-torch", description="ClusterTrainingRuntime.")
    timeout_s: Positive = Field(86400, description="The job is ended then.")


class SecretsConfig(Section):
    """Names of secrets in ``namespace``; empty: not used. Their keys are in docs/cluster.md."""

    s3: str = Field("dcod-s3", description="Keys of the bucket.")
    tracking: str = Field("mlflow-client", description="User and password of the MLflow server.")
    hub: str = Field("", description="Token of the model hub.", examples=["huggingface"])
    webhook: str = Field("", description="Address and signing key of the webhook.", examples=["dcod-webhook"])
    endpoint: str = Field("", description="Key of an endpoint (engine `openai`).", examples=["openai"])
    image_pull: list[str] = Field(
        default_factory=list, description="For images from a registry that asks who you are.", examples=[["registry"]]
    )


class ClusterConfig(Section):
    """All that differs between clusters; `dcod run` does not look at it but for ``shards``."""

    kubeflow: str = Field(
        "",
        description="Address of Kubeflow Pipelines; a token comes from $KUBEFLOW_TOKEN.",
        examples=["https://kubeflow.example.org"],
    )
    ui: str = Field(
        "", description="Address of its web page; empty: the same.", examples=["https://kubeflow.example.org"]
    )
    namespace: str = Field("dcod-runs", description="Where the pods run.")
    service_account: str = Field("dcod-pipeline", description="Which the pods run as.")
    experiment: str = Field("dcod", description="Kubeflow's experiment, which lists the runs together.")
    pipeline_root: str = Field(
        "", description="Where Kubeflow keeps artifacts; empty: the cluster's default.", examples=["s3://bucket/kfp"]
    )
    image: str = Field("", description="Of all stages; empty: dcod:VERSION.", examples=["registry.example.org/dcod:1"])
    gpu_image: str = Field(
        "", description="Of the stages on GPUs; empty: `image`.", examples=["registry.example.org/dcod-gpu:1"]
    )
    tracking: str = Field(
        "", description="tracking.uri of runs there; empty: tracking.uri.", examples=["http://mlflow.example.org"]
    )
    s3_endpoint: str = Field("", description="Address of S3; empty: AWS.", examples=["https://s3.example.org"])
    storage: str = Field(
        "",
        description="s3:// prefix, or a folder below /mnt/dcod: for the promotion's lease, checkpoints and TrainJobs.",
        examples=["s3://bucket/dcod"],
    )
    volume: str = Field(
        "", description="A claim (ReadWriteMany) that all pods mount on /mnt/dcod.", examples=["dcod-shared"]
    )
    queue: str = Field("", description="Kueue's LocalQueue.", examples=["gpu-queue"])
    pod: PodConfig = PodConfig()
    gpu: GpuConfig = GpuConfig()
    stages: dict[Placed, StageConfig] = Field(
        default_factory=dict,
        description="Image, pod and size of single stages; `gate` and `promote`, which load the student again, go by "
        "`evaluate`.",
        examples=[{"evaluate": {"memory": "16Gi"}}],
    )
    train: NodesConfig = NodesConfig()
    secrets: SecretsConfig = SecretsConfig()
    shards: Few = Field(1, description="Ingestion, scoring and evaluation are split into so many pods.", examples=[4])
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        2, description="Of a stage that failed, after 60 s, 120 s, …; promotion is not retried."
    )
    timeout_s: Positive = Field(43200, description="Of each stage.")

    @model_validator(mode="after")
    def _several_nodes_need(self) -> ClusterConfig:
        if self.train.num_nodes > 1 and not self.storage:
            raise ValueError("train.num_nodes > 1 needs cluster.storage, which all nodes reach")
        if self.storage and not self.storage.startswith("s3://") and not self.storage.startswith(f"{MOUNT}/"):
            raise ValueError("storage must be s3://bucket/prefix, or a folder below /mnt/dcod with cluster.volume")
        if self.storage.startswith("/") and not self.volume:
            raise ValueError("storage on /mnt/dcod needs cluster.volume, the claim that is mounted there")
        return self
