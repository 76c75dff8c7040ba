"""Checks of Kubeflow and Kubernetes: versions, who is served, what the namespace holds, who may do what, GPUs."""

from __future__ import annotations

import base64
import json
import os
import re
from typing import TYPE_CHECKING, Any

from dcod_pipelines.checks import UncheckedError, kube

if TYPE_CHECKING:
    from dcod.config import Config

AUDIENCE = "pipelines.kubeflow.org"
OLDEST = (2, 16)  # of Kubeflow Pipelines: what it refuses or drops before is in docs/cluster.md
PROFILE = ("app.kubernetes.io/part-of", "kubeflow-profile")  # the label that Kubeflow's NetworkPolicies admit
_SERVER = "ml-pipeline"  # the service of the API server
_GUIDE = "see docs/cluster.md, steps 2 and 3"


def kubeflow(config: Config) -> str:
    """The address answers, is new enough, the token is good, and the experiment can be used."""
    from dcod.errors import UserError
    from dcod_pipelines.kubeflow import TOKEN, Kubeflow

    audiences = _audiences(os.environ.get(TOKEN, ""))
    if audiences and AUDIENCE not in audiences:
        raise UserError(
            f"${TOKEN} is for {', '.join(audiences)}, Kubeflow takes one for {AUDIENCE}: kubectl -n "
            f"{config.cluster.namespace} create token dcod-submit --audience {AUDIENCE}"
        )
    server = Kubeflow(config)
    version = re.match(r"v?(\d+)\.(\d+)", server.version)
    if version and (int(version[1]), int(version[2])) < OLDEST:
        raise UserError(
            f"Kubeflow Pipelines {server.version}: dcod needs {OLDEST[0]}.{OLDEST[1]} or newer, see docs/cluster.md"
        )
    server.experiment()
    user = f"namespace {server.namespace}" if server.namespace else "a single user"
    told = server.version if version else "of a version that it does not tell"
    return f"{config.cluster.kubeflow} answers, {told}, for {user}; experiment {config.cluster.experiment}"


def _audiences(token: str) -> list[str]:
    """Whom a token is for, by its own word; empty where it is none that says so."""
    try:
        part = token.split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["aud"]
    except (IndexError, ValueError, KeyError, TypeError):
        return []
    return [said] if isinstance(said, str) else [str(each) for each in said]


def namespace(config: Config) -> str:
    """It is one where runs execute, and holds what their pods name."""
    from dcod.errors import AwayError, UserError
    from dcod_pipelines.kubeflow import Kubeflow

    try:
        single = not Kubeflow(config).namespace
    except UserError as error:
        raise UncheckedError(f"Kubeflow does not say where runs execute ({error})") from None
    try:
        unseen = _place(config, single)
        missing, unlisted = _objects(config, single)
    except AwayError as error:
        raise UncheckedError(str(error)) from None
    unseen += unlisted
    name = config.cluster.namespace
    if missing:
        raise UserError(f"namespace {name} lacks {', '.join(missing)}; {_GUIDE}")
    if unseen:
        raise UncheckedError(f"you may not list {', '.join(unseen)} in {name}; ask who may")
    return f"{name} has {', '.join(sorted(set().union(*_wanted(config, single).values())))}"


def _place(config: Config, single: bool) -> list[str]:
    """Whether runs execute in the namespace.

    Returns:
        What could not be seen.

    Raises:
        UserError: they do not, or Kubeflow's policies keep them from it.
    """
    from dcod.cluster.kubernetes import ForbiddenError, NotThereError
    from dcod.errors import UserError

    name, api = config.cluster.namespace, kube(config)
    try:
        there = api.names("service") if single else api.labels()
    except ForbiddenError:
        return ["services" if single else "the namespace itself"]
    except NotThereError:
        raise UserError(f"there is no namespace {name}: make the Profile, k8s/examples/profile.yaml") from None
    if single and _SERVER not in there:
        raise UserError(
            f"Kubeflow serves a single user: runs execute in its own namespace, and {name} has no service {_SERVER}; "
            "set cluster.namespace to Kubeflow's (kubeflow), and kubectl apply -k k8s/single-user"
        )
    if isinstance(there, dict) and there.get(PROFILE[0]) != PROFILE[1]:
        label = "=".join(PROFILE)
        raise UserError(
            f"namespace {name} has no label {label}, so Kubeflow's NetworkPolicies keep its pods out: make it by a "
            f"Profile (k8s/examples/profile.yaml), or kubectl label --overwrite namespace {name} {label}"
        )
    return []


def _wanted(config: Config, single: bool) -> dict[str, set[str]]:
    cluster, names = config.cluster, config.cluster.secrets
    secrets = {
        name for name in (names.s3, names.tracking, names.hub, names.webhook, names.endpoint, *names.image_pull) if name
    }
    return {
        "service_account": {cluster.service_account},
        "secret": secrets if single else {*secrets, "mlpipeline-minio-artifact"},  # the profile controller makes it
        "persistent_volume_claim": {cluster.volume} if cluster.volume else set(),
    }


def _objects(config: Config, single: bool) -> tuple[list[str], list[str]]:
    """Objects that the pods name and the namespace lacks, and kinds that could not be listed."""
    from dcod.cluster.kubernetes import ForbiddenError

    api = kube(config)
    missing, unseen = [], []
    for kind, named in _wanted(config, single).items():
        said = kind.replace("_", " ")
        try:
            missing += [f"{said} {name}" for name in sorted(named - api.names(kind))] if named else []
        except ForbiddenError:  # listing is not allowed to everyone
            unseen.append(said)
    return missing, unseen


def rights(config: Config) -> str:
    """The account of the runs may do what its pods do."""
    from dcod.cluster.kubernetes import ForbiddenError
    from dcod.cluster.trainjobs import GROUP, PLURAL
    from dcod.errors import AwayError, UserError

    cluster, account = config.cluster, config.cluster.service_account
    wanted = [("create", "argoproj.io", "workflowtaskresults"), ("get", "", "pods")]
    if cluster.train.num_nodes > 1:
        wanted += [(verb, GROUP, PLURAL) for verb in ("create", "get", "delete")] + [("get", "", "pods/log")]
    try:
        api = kube(config)
        missing = [f"{verb} {kind}" for verb, group, kind in wanted if not api.may(account, verb, group, kind)]
    except AwayError as error:
        raise UncheckedError(str(error)) from None
    except ForbiddenError:  # asking for others is a right of few
        raise UncheckedError(f"you may not ask what {account} may do in {cluster.namespace}; ask who may") from None
    if missing:
        raise UserError(f"{account} in {cluster.namespace} may not {', '.join(missing)}: kubectl apply -k k8s/runs")
    return f"{account} may do what its pods do"


def quota(config: Config) -> str:
    """The GPUs of the busiest moment fit into the quota."""
    from dcod.cluster.placing import placement
    from dcod.errors import AwayError, UserError

    cluster = config.cluster
    if not cluster.gpu.count:
        return "no GPU is asked for"
    most, least = gpus_at_once(config), placement(cluster, "train", gpu=True).gpus * cluster.train.num_nodes
    key = f"requests.{cluster.gpu.resource}"
    try:
        quotas = kube(config).quotas()
    except AwayError as error:
        raise UncheckedError(str(error)) from None
    free = []
    for quota in quotas:
        status = quota.get("status", {})
        hard = (status.get("hard") or quota.get("spec", {}).get("hard") or {}).get(key)
        if hard is not None:
            used = int(status.get("used", {}).get(key, 0))
            if least > int(hard):
                raise UserError(
                    f"a training needs {least} GPUs, quota {quota['metadata']['name']} allows {hard}: lower "
                    "cluster.gpu.count or cluster.train.num_nodes, or have the quota raised"
                )
            free.append(f"{int(hard) - used} of {hard} free")
    if not free:
        return f"up to {most} GPUs at once; no quota limits them"
    return f"up to {most} GPUs at once; {', '.join(free)} now (pods wait for the others)"


def gpus_at_once(config: Config) -> int:
    """GPUs that are asked for in the busiest moment of a run, each stage where `cluster.stages` puts it.

    Argo lets pods above a quota wait. Of stages that compute nothing on a GPU, one that is put there is not counted.
    """
    from dcod.cluster.placing import placement

    cluster, train = config.cluster, config.train

    def on(task: str, pods: int = 1) -> int:
        return pods * placement(cluster, task, gpu=True).gpus

    evaluating = on("evaluate", min(cluster.shards, max(1, len(config.evaluate.benchmarks))))
    student = max(on("train", cluster.train.num_nodes), evaluating)  # it is evaluated while others still train
    twin, further = (student, on("again", 2 * (train.seeds - 1))) if train.twin else (0, 0)
    pilots = max(on("pilot", len(train.compared)), on("choose")) if train.compared else 0
    again = config.pipeline == "retrain"
    waits = len(train.sft_rates) > 1 or (again and config.retrain.rounds > 1)  # the twin, for the pilots
    # Three evaluations need no trained student, so they may run beside the scoring or the training.
    beside = max(on("score", cluster.shards), pilots + (0 if waits else twin), student + further + twin)
    teaching = on("teach") if config.asks and config.asking.name != "openai" else 0
    return max(3 * evaluating + beside, teaching, on("decide") if again else 0, on("gate"), on("promote"))


def trainer(config: Config) -> str:
    """Kubeflow Trainer is installed where it is needed, and knows every field of the job that dcod makes."""
    from dcod.cluster.kubernetes import NotThereError
    from dcod.cluster.schemas import unknown_fields
    from dcod.cluster.trainjobs import GROUP, KIND, VERSION, build
    from dcod.errors import AwayError, UserError
    from dcod.stages import train_node

    cluster = config.cluster
    nodes = cluster.train.num_nodes
    if nodes == 1:
        return "not needed: training runs in one pod"
    try:
        schema = kube(config).schema(GROUP, VERSION, KIND)
    except NotThereError:
        raise UserError(f"{nodes} nodes need Kubeflow Trainer v2, which is not installed; docs/cluster.md") from None
    except AwayError as error:
        raise UncheckedError(str(error)) from None
    job: dict[str, Any] = build(cluster, "dcod-preflight", "preflight", cluster.storage, train_node.__name__)
    if unknown := list(unknown_fields(job, schema)):
        raise UserError(
            f"this cluster's Kubeflow Trainer does not know {', '.join(unknown)} of a TrainJob and would drop it: "
            "update it to 2.2 or newer"
        )
    return f"Kubeflow Trainer knows the job; runtime {cluster.train.runtime} is looked up when the job is made"
