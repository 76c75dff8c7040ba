"""Where a task runs on a cluster: resources, nodes, volumes, secrets by reference, retries and time-outs.

All of it comes from the section ``cluster`` of the configuration. The local runner heeds nothing of it but retries.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kfp import dsl, kubernetes

if TYPE_CHECKING:
    from dcod.cluster.placing import Placement
    from dcod.config.cluster import ClusterConfig
    from dcod.config.pod import PodConfig

RUN_LABEL = "dcod.dev/part-of"
CLOSING_S = 1800
TRACKING_KEYS = {"username": "MLFLOW_TRACKING_USERNAME", "password": "MLFLOW_TRACKING_PASSWORD"}
HUB_KEYS = {"token": "HF_TOKEN"}
ENDPOINT_KEYS = {"key": "OPENAI_API_KEY"}
SIGNED = {f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}": "true" for way in ("UPLOAD", "DOWNLOAD")}
WEBHOOK_KEYS = {"secret": "DCOD_WEBHOOK_SECRET", "url": "DCOD_WEBHOOK_URL"}


class Pods:
    """Places the tasks of one pipeline.

    Attributes:
        cluster: the cluster's section of the configuration.
    """

    def __init__(self, cluster: ClusterConfig) -> None:
        self.cluster = cluster

    def task(
        self,
        task: dsl.PipelineTask,
        name: str,
        *,
        gpu: bool = False,
        retried: bool = True,
        timeout_s: int = 0,
        look: dsl.PipelineTask | None = None,
    ) -> dsl.PipelineTask:
        """A stage's task.

        Args:
            task: as the component made it.
            name: for the web page.
            gpu: it runs on a GPU where the cluster has some, unless `cluster.stages` says otherwise.
            retried: it is safe to run again.
            timeout_s: other than the cluster's.
            look: the task that found out whether it needs a GPU; None: nobody looked.
        """
        self._place(task, name, self._placed(_verb(task), gpu), look)
        return self._scheduled(task, retried, timeout_s or self.cluster.timeout_s)

    def closing(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """The exit handler: small, in no queue, and tried again, since it alone says how the run ended."""
        from dcod.config.pod import PodConfig

        small = PodConfig(cpu="100m", cpu_limit="1", memory="1Gi")  # it keeps books, and loads no model
        self._place(task, "record outcome", self._placed(_verb(task), False, small))
        task.set_retry(max(1, self.cluster.retries), "60s", 2.0, "3600s")
        kubernetes.set_timeout(task, min(self.cluster.timeout_s, CLOSING_S))
        return task

    def look(self, task: dsl.PipelineTask, verb: str, name: str) -> dsl.PipelineTask:
        """The task that looks for a stage's output: small, of the stage's image, whose code decides the digest."""
        self._place(task, name, replace(self._placed(verb, True), size=self.cluster.pod, gpus=0))
        return self._scheduled(task, True, self.cluster.timeout_s)

    def _scheduled(self, task: dsl.PipelineTask, retried: bool, timeout_s: int) -> dsl.PipelineTask:
        if retried and self.cluster.retries:
            task.set_retry(self.cluster.retries, "60s", 2.0, "3600s")
        if self.cluster.queue:
            from dcod.cluster.placing import QUEUE_LABEL

            kubernetes.add_pod_label(task, QUEUE_LABEL, self.cluster.queue)
        kubernetes.set_timeout(task, timeout_s)
        return task

    def takes_gpu(self, verb: str) -> bool:
        """Whether a stage that can use a GPU gets one here."""
        return self._placed(verb, True).gpus > 0

    def sizes(self, verb: str) -> dict[str, dict[str, Any]]:
        """What a stage asks for where its output is there, and where it has to work; see the component `look`."""
        gpu = self.cluster.gpu
        small, large = self.cluster.pod, self._placed(verb, True).size
        return {
            "small": {**small.model_dump(), "gpus": "0", "nodes": {}},
            "large": {**large.model_dump(), "gpus": str(gpu.count), "nodes": dict(gpu.node_selector)},
        }

    def _placed(self, verb: str, gpu: bool, otherwise: PodConfig | None = None) -> Placement:
        from dcod.cluster.placing import placement

        return placement(self.cluster, verb, gpu, otherwise)

    def _place(
        self, task: dsl.PipelineTask, name: str, placed: Placement, look: dsl.PipelineTask | None = None
    ) -> None:
        pod = placed.size
        task.set_caching_options(False).set_display_name(name)
        task.set_cpu_request(pod.cpu).set_cpu_limit(pod.cpu_limit)
        task.set_memory_request(pod.memory).set_memory_limit(pod.memory)
        for key, value in self.environment(pod.cpu_limit).items():
            task.set_env_variable(key, value)
        if placed.image:
            task.set_container_image(placed.image)
        if placed.gpus:
            self._add_gpu(task, look)
        self._surround(task)

    def environment(self, cpus: str) -> dict[str, str]:
        """Variables of every stage: threads as CPUs, the endpoint of S3, caches on the shared volume."""
        from dcod.config.cluster import MOUNT

        threads = 1 if cpus.endswith("m") else max(1, int(float(cpus)))
        # Weights go to the store by addresses that MLflow signs: through the server each file would fill its disk.
        variables = {"OMP_NUM_THREADS": str(threads), **SIGNED}
        if self.cluster.s3_endpoint:
            variables["AWS_ENDPOINT_URL"] = self.cluster.s3_endpoint
        if self.cluster.volume:
            variables |= {"DCOD_CACHE": f"{MOUNT}/cache/dcod", "HF_HOME": f"{MOUNT}/cache/huggingface"}
        return variables

    def _add_gpu(self, task: dsl.PipelineTask, look: dsl.PipelineTask | None) -> None:
        gpu = self.cluster.gpu
        told = gpu.in_pipeline()
        task.set_accelerator_type(gpu.resource).set_accelerator_limit(gpu.count)
        if look is not None:  # Kubeflow fills in what it found: none, and no node of those with GPUs
            pod = look.outputs
            task.set_accelerator_limit(pod["gpus"]).set_cpu_request(pod["cpu"]).set_cpu_limit(pod["cpu_limit"])
            task.set_memory_request(pod["memory"]).set_memory_limit(pod["memory"])
            if told.pop("nodeSelector", None):
                kubernetes.add_node_selector_json(task, pod["nodes"])
        task.platform_config.setdefault("kubernetes", {}).update(told)  # read as Kubeflow's message by what comes next

    def _surround(self, task: dsl.PipelineTask) -> None:
        from dcod.cluster.trainjobs import S3_KEYS

        cluster, secrets = self.cluster, self.cluster.secrets
        kubernetes.set_security_context(task, run_as_user=10001, run_as_group=10001, run_as_non_root=True)
        kubernetes.empty_dir_mount(task, "tmp", "/tmp")  # noqa: S108 (the only place that is writable)
        kubernetes.add_pod_label(task, RUN_LABEL, "pipeline")
        if cluster.volume:
            from dcod.config.cluster import MOUNT

            kubernetes.mount_pvc(task, cluster.volume, MOUNT)
        if secrets.image_pull:
            kubernetes.set_image_pull_secrets(task, list(secrets.image_pull))
        named: list[tuple[str, dict[str, Any]]] = [
            (secrets.s3, S3_KEYS),
            (secrets.tracking, TRACKING_KEYS),
            (secrets.hub, HUB_KEYS),
            (secrets.webhook, WEBHOOK_KEYS),
            (secrets.endpoint, ENDPOINT_KEYS),
        ]
        for name, keys in named:
            if name:
                kubernetes.use_secret_as_env(task, name, keys)


def _verb(task: dsl.PipelineTask) -> str:
    return str(task.component_spec.name)
