"""Where a task runs on a cluster: resources, nodes, volumes, secrets by reference, retries and time-outs.

All of it comes from the section ``cluster`` of the configuration. The local runner heeds nothing of it but retries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kfp import dsl, kubernetes

if TYPE_CHECKING:
    from dcod.config.cluster import ClusterConfig

RUN_LABEL = "dcod.dev/part-of"
TRACKING_KEYS = {"username": "MLFLOW_TRACKING_USERNAME", "password": "MLFLOW_TRACKING_PASSWORD"}
HUB_KEYS = {"token": "HF_TOKEN"}
WEBHOOK_KEYS = {"secret": "DCOD_WEBHOOK_SECRET", "url": "DCOD_WEBHOOK_URL"}


class Pods:
    """Places the tasks of one pipeline.

    Attributes:
        cluster: the cluster's section of the configuration.
    """

    def __init__(self, cluster: ClusterConfig) -> None:
        self.cluster = cluster

    def task(
        self, task: dsl.PipelineTask, name: str, *, gpu: bool = False, retried: bool = True, timeout_s: int = 0
    ) -> dsl.PipelineTask:
        """A stage's task.

        Args:
            task: as the component made it.
            name: for the web page.
            gpu: it runs on a GPU where the cluster has some.
            retried: it is safe to run again.
            timeout_s: other than the cluster's.
        """
        cluster = self.cluster
        task.set_caching_options(False).set_display_name(name)
        on_gpu = gpu and cluster.gpu.count > 0
        pod = cluster.gpu.pod if on_gpu else cluster.pod
        task.set_cpu_request(pod.cpu).set_cpu_limit(pod.cpu_limit)
        task.set_memory_request(pod.memory).set_memory_limit(pod.memory)
        if retried and cluster.retries:
            task.set_retry(cluster.retries, "60s", 2.0, "3600s")
        for key, value in self.environment(pod.cpu_limit).items():
            task.set_env_variable(key, value)
        if on_gpu:
            self._on_gpu(task)
        self._surround(task, timeout_s or cluster.timeout_s)
        return task

    def closing(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """The exit handler: Kubeflow allows it neither retries nor variables of its own."""
        task.set_caching_options(False).set_display_name("record outcome")
        pod = self.cluster.pod
        task.set_cpu_request(pod.cpu).set_cpu_limit(pod.cpu_limit)
        task.set_memory_request(pod.memory).set_memory_limit(pod.memory)
        self._surround(task, self.cluster.timeout_s)
        return task

    def environment(self, cpus: str) -> dict[str, str]:
        """Variables of every stage: threads as CPUs, the endpoint of S3, caches on the shared volume."""
        from dcod.config.cluster import MOUNT

        threads = 1 if cpus.endswith("m") else max(1, int(float(cpus)))
        variables = {"OMP_NUM_THREADS": str(threads)}
        if self.cluster.s3_endpoint:
            variables["AWS_ENDPOINT_URL"] = self.cluster.s3_endpoint
        if self.cluster.volume:
            variables |= {"DCOD_CACHE": f"{MOUNT}/cache/dcod", "HF_HOME": f"{MOUNT}/cache/huggingface"}
        return variables

    def _on_gpu(self, task: dsl.PipelineTask) -> None:
        gpu = self.cluster.gpu
        task.set_accelerator_type(gpu.resource).set_accelerator_limit(gpu.count)
        if self.cluster.gpu_image:
            task.set_container_image(self.cluster.gpu_image)
        for key, value in gpu.node_selector.items():
            kubernetes.add_node_selector(task, key, value)
        for each in gpu.tolerations:
            kubernetes.add_toleration(task, each.key, each.operator, each.value or None, each.effect)
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=gpu.shared_memory)  # noqa: S108

    def _surround(self, task: dsl.PipelineTask, timeout_s: int) -> None:
        from dcod.cluster.trainjobs import S3_KEYS

        cluster, secrets = self.cluster, self.cluster.secrets
        kubernetes.set_timeout(task, timeout_s)
        kubernetes.set_security_context(task, run_as_user=10001, run_as_group=10001, run_as_non_root=True)
        kubernetes.empty_dir_mount(task, "tmp", "/tmp")  # noqa: S108 (the only place that is writable)
        kubernetes.add_pod_label(task, RUN_LABEL, "pipeline")
        if cluster.queue:
            kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", cluster.queue)
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
        ]
        for name, keys in named:
            if name:
                kubernetes.use_secret_as_env(task, name, keys)
