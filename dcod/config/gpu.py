"""The GPUs of a cluster: what is set of them, and what pods are told of it.

A setting is a field, and its line in :meth:`GpuConfig.in_pipeline` and :meth:`GpuConfig.in_trainjob`. Who writes pods
takes over what these say (``dcod_pipelines.pods``, :mod:`dcod.cluster.trainjobs`) and adds how many GPUs of what kind.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dcod.config.base import Natural, Section
from dcod.config.pod import Memory, PodConfig

SHARED_MEMORY = "shm"  # volume, in k8s/trainer as well
_ON = "/dev/shm"  # noqa: S108 (where frameworks look for it)


class TolerationConfig(Section):
    """A taint that a pod may stand on."""

    key: str = Field(description="Of the taint.", examples=["nvidia.com/gpu"])
    operator: Literal["Exists", "Equal"] = Field("Exists", description="`Equal` compares `value` as well.")
    value: str = Field("", description="Of the taint, with operator `Equal`.", examples=["present"])
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field("NoSchedule", description="Of the taint.")


class GpuConfig(Section):
    """The GPUs of a cluster, for the stages that load a student; ``count`` 0 keeps them on CPUs."""

    count: Natural = Field(0, description="GPUs a pod.", examples=[1])
    resource: str = Field("nvidia.com/gpu", description="What the cluster calls them.", examples=["amd.com/gpu"])
    node_selector: dict[str, str] = Field(
        default_factory=dict, description="Labels of the nodes to run on.", examples=[{"gpu": "h200"}]
    )
    tolerations: list[TolerationConfig] = Field(
        default_factory=list, description="Taints that pods with GPUs accept.", examples=[[{"key": "nvidia.com/gpu"}]]
    )
    pod: PodConfig = PodConfig(cpu="4", cpu_limit="8", memory="32Gi")
    shared_memory: Memory = Field("8Gi", description="Size of /dev/shm.")

    def in_pipeline(self) -> dict[str, Any]:
        """What a pod of the pipeline is told, beside how many and of what kind: Kubeflow's KubernetesExecutorConfig."""
        shared = {"volumeName": SHARED_MEMORY, "mountPath": _ON}
        return {
            **({"nodeSelector": {"labels": self.node_selector}} if self.node_selector else {}),
            "tolerations": self._tolerations(),
            "emptyDirMounts": [shared | {"medium": "Memory", "sizeLimit": self.shared_memory}],
        }

    def in_trainjob(self) -> dict[str, Any]:
        """The same for a node of a TrainJob, whose runtime has the volume already: Kubernetes' PodSpec."""
        shared = {"name": SHARED_MEMORY, "emptyDir": {"medium": "Memory", "sizeLimit": self.shared_memory}}
        return {
            "nodeSelector": self.node_selector,
            "tolerations": self._tolerations(),
            "volumes": [shared],
            "volumeMounts": [{"name": SHARED_MEMORY, "mountPath": _ON}],
        }

    def _tolerations(self) -> list[dict[str, str]]:
        return [{key: text for key, text in one.model_dump().items() if text} for one in self.tolerations]
