"""TrainJobs of Kubeflow Trainer v2: built from the API's own models, found again by name, followed to their end."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dcod.cluster import placing
from dcod.cluster.kubernetes import ConflictError, Kube, Manifest, NotThereError
from dcod.config.cluster import MOUNT, ClusterConfig
from dcod.errors import UserError

GROUP, VERSION, PLURAL, KIND = "trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob"
CONTAINER = "node"
SHARED = {"name": "shared"}  # volume of `cluster.volume`
PIPELINE_LABEL = "dcod.dev/pipeline"
S3_KEYS = {
    "access-key": "AWS_ACCESS_KEY_ID",
    "secret-key": "AWS_SECRET_ACCESS_KEY",
}  # of the secret, and their variables


class TrainJobError(Exception):
    """A TrainJob did not end well; the message says in which state, why, and where to look."""


def job_name(pipeline: str) -> str:
    """The same for every attempt of a training: a component that starts again finds its job.

    Args:
        pipeline: id of the pipeline run; of a second training in it followed by that one's label.
    """
    return f"dcod-train-{hashlib.sha256(pipeline.encode()).hexdigest()[:12]}"


def delete(cluster: ClusterConfig, pipeline: str) -> None:
    """Deletes the job of a pipeline run, if it has one."""
    Kube(cluster.namespace, patience_s=60).delete(GROUP, VERSION, PLURAL, job_name(pipeline))


def build(cluster: ClusterConfig, name: str, pipeline: str, work: str, module: str) -> Manifest:
    """The TrainJob: torchrun on every node, one process a GPU.

    Args:
        cluster: images, nodes, resources.
        name: of the job.
        pipeline: id of the pipeline run, a label.
        work: where inputs lie and the student goes; all nodes reach it.
        module: what every process runs, told ``work``.
    """
    from kubeflow_trainer_api import models as m

    placed, secrets = placing.placement(cluster, "train", gpu=True), cluster.secrets
    pod, gpus = placed.size, {cluster.gpu.resource: str(placed.gpus)} if placed.gpus else {}
    env = [m.IoK8sApiCoreV1EnvVar(name=key, value=value) for key, value in _variables(cluster).items()]
    for key, variable in S3_KEYS.items() if secrets.s3 else ():
        reference = m.IoK8sApiCoreV1SecretKeySelector(name=secrets.s3, key=key)
        source = m.IoK8sApiCoreV1EnvVarSource(secret_key_ref=reference)
        env.append(m.IoK8sApiCoreV1EnvVar(name=variable, value_from=source))

    def quantities(cpu: str) -> dict[str, Any]:
        amounts = {"cpu": cpu, "memory": pod.memory} | gpus
        return {key: m.IoK8sApimachineryPkgApiResourceQuantity(value) for key, value in amounts.items()}

    trainer = m.TrainerV1alpha1Trainer(
        image=placed.image or None,
        command=["torchrun"],
        args=["--module", module, work],
        env=env,
        num_nodes=cluster.train.num_nodes,
        num_proc_per_node=max(1, placed.gpus),
        resources_per_node=m.IoK8sApiCoreV1ResourceRequirements(
            requests=quantities(pod.cpu), limits=quantities(pod.cpu_limit)
        ),
    )
    labels = {"app.kubernetes.io/part-of": "dcod", PIPELINE_LABEL: _label(pipeline)}
    if cluster.queue:
        labels[placing.QUEUE_LABEL] = cluster.queue
    job = m.TrainerV1alpha1TrainJob(
        api_version=f"{GROUP}/{VERSION}",
        kind=KIND,
        metadata=m.IoK8sApimachineryPkgApisMetaV1ObjectMeta(name=name, labels=labels),
        spec=m.TrainerV1alpha1TrainJobSpec(
            runtime_ref=m.TrainerV1alpha1RuntimeRef(name=cluster.train.runtime),
            active_deadline_seconds=cluster.train.timeout_s,
            trainer=trainer,
            runtime_patches=[_patch(m, cluster, placed)],
        ),
    )
    built: Manifest = job.to_dict()
    return built


def _variables(cluster: ClusterConfig) -> dict[str, str]:
    variables = {"OMP_NUM_THREADS": "1"}
    if cluster.s3_endpoint:
        variables["AWS_ENDPOINT_URL"] = cluster.s3_endpoint
    return variables


def _patch(m: Any, cluster: ClusterConfig, placed: placing.Placement) -> Any:
    """What the runtime leaves to the job: nodes, tolerations, pull secrets, the shared volume and shared memory."""
    told = cluster.gpu.in_trainjob() if placed.gpus else {}
    mounts = told.pop("volumeMounts", [])
    if cluster.volume:
        told["volumes"] = [SHARED | {"persistentVolumeClaim": {"claimName": cluster.volume}}, *told.get("volumes", [])]
        mounts = [SHARED | {"mountPath": MOUNT}, *mounts]
    if mounts:  # the API server merges volumes by name and mounts by path, so that the runtime's /dev/shm gets its size
        told["containers"] = [{"name": CONTAINER, "volumeMounts": mounts}]
    told["imagePullSecrets"] = [{"name": name} for name in cluster.secrets.image_pull]
    told = {key: value for key, value in told.items() if value}
    spec = m.TrainerV1alpha1PodSpecPatch.from_dict(told)
    assert spec.to_dict().keys() == told.keys(), "a TrainJob's patch has no such field, and would drop it"
    template = m.TrainerV1alpha1JobTemplatePatch(
        spec=m.TrainerV1alpha1JobSpecPatch(template=m.TrainerV1alpha1PodTemplatePatch(spec=spec))
    )
    jobs = [m.TrainerV1alpha1ReplicatedJobPatch(name=CONTAINER, template=template)]
    patch = m.TrainerV1alpha1TrainingRuntimeSpecPatch(
        template=m.TrainerV1alpha1JobSetTemplatePatch(spec=m.TrainerV1alpha1JobSetSpecPatch(replicated_jobs=jobs))
    )
    return m.TrainerV1alpha1RuntimePatch(manager="dcod.dev/pipeline", training_runtime_spec=patch)


def _label(value: str) -> str:
    """A pipeline id as a label's value."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", value)[:63].strip("-_.")


@dataclass
class Follower:
    """One TrainJob, from submission to its end.

    Attributes:
        kube: the API.
        name: of the job.
        show: called with every line of the first node's log, once.
        poll_s: seconds between looks.
    """

    kube: Kube
    name: str
    show: Callable[[str], None]
    poll_s: float = 15.0
    _seen: str = field(default="", init=False)  # time of the last line shown
    _looked: float = field(default=0.0, init=False)
    _said: str = field(default="", init=False)

    def start(self, body: Manifest) -> bool:
        """Creates the job, or finds the one that an earlier attempt left; a failed one is replaced.

        Returns:
            Whether it was found.

        Raises:
            UserError: the cluster has no Trainer, or refuses the job.
        """
        while True:
            job = self._find()
            if job is not None and ended(job)[0] != "Failed" and "deletionTimestamp" not in job["metadata"]:
                return True
            if job is not None:
                self.delete()
                self._await_gone()
            try:
                self.kube.create(GROUP, VERSION, PLURAL, body)
            except ConflictError:  # another attempt was quicker
                continue
            except NotThereError:
                raise UserError(
                    f"the cluster does not know {PLURAL}.{GROUP}: install Kubeflow Trainer v2, or set "
                    "cluster.train.num_nodes=1"
                ) from None
            return False

    def follow(self) -> None:
        """Waits for the end and shows the log.

        Raises:
            TrainJobError: the job failed, or was deleted by someone else.
        """
        while True:
            job = self._find()
            if job is None:
                raise TrainJobError(f"{self._where()} was deleted while it ran, not by this pipeline; run it again")
            self._show_log()
            state, why = ended(job)
            if state == "Complete":
                return
            if state == "Failed":
                raise TrainJobError(f"{self._where()} failed: {why}; its nodes: {_nodes(job)}. {self._look()}")
            self._say(state, why, job)
            time.sleep(self.poll_s)

    def delete(self) -> None:
        """Deletes the job and its pods."""
        self.kube.delete(GROUP, VERSION, PLURAL, self.name)

    def _find(self) -> Manifest | None:
        try:
            return self.kube.get(GROUP, VERSION, PLURAL, self.name)
        except NotThereError:
            return None

    def _await_gone(self, patience_s: float = 300.0) -> None:
        deadline = time.monotonic() + patience_s
        while self._find() is not None:
            if time.monotonic() > deadline:
                raise TrainJobError(f"{self._where()} of an earlier attempt does not go away. {self._look()}")
            time.sleep(min(self.poll_s, 5.0))

    def _show_log(self) -> None:
        selector = f"jobset.sigs.k8s.io/jobset-name={self.name},batch.kubernetes.io/job-completion-index=0"
        pods = self.kube.pods(f"{selector},jobset.sigs.k8s.io/replicatedjob-name={CONTAINER}")
        if not pods:
            return
        now = time.monotonic()
        since = int(now - self._looked) + 10 if self._looked else 10**6
        newest = max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
        for line in self.kube.log(newest["metadata"]["name"], CONTAINER, since).splitlines():
            at, _, text = line.partition(" ")
            if at > self._seen:
                self._seen = at
                self.show(text)
        self._looked = now

    def _say(self, state: str, why: str, job: Manifest) -> None:
        """Says a state once, so that a job that waits in a queue does not fill the log."""
        line = f"{state}{f' ({why})' if why else ''}; its nodes: {_nodes(job)}"
        if line != self._said:
            self._said = line
            self.show(f"{self._where()}: {line}")

    def _where(self) -> str:
        return f"TrainJob {self.name} in {self.kube.namespace}"

    def _look(self) -> str:
        return (
            f"Look: kubectl -n {self.kube.namespace} describe trainjob {self.name}; "
            f"kubectl -n {self.kube.namespace} logs -l jobset.sigs.k8s.io/jobset-name={self.name} --prefix"
        )


def ended(job: Manifest) -> tuple[str, str]:
    """The state of a job: Complete, Failed, Suspended, Running or Created; and the reason with its message."""
    conditions = {c["type"]: c for c in job.get("status", {}).get("conditions") or []}
    for state in ("Complete", "Failed", "Suspended"):
        condition = conditions.get(state)
        if condition and condition["status"] == "True":
            return state, ": ".join(filter(None, (condition.get("reason", ""), condition.get("message", ""))))
    active = any(row.get("active") or row.get("ready") for row in job.get("status", {}).get("jobsStatus") or [])
    return ("Running" if active else "Created"), ""


def _nodes(job: Manifest) -> str:
    rows = job.get("status", {}).get("jobsStatus") or []
    wanted = ("ready", "active", "succeeded", "failed", "suspended")
    return (
        "; ".join(
            f"{row['name']} " + ", ".join(f"{row[key]} {key}" for key in wanted if row.get(key)) for row in rows
        ).strip()
        or "none yet"
    )
