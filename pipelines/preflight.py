"""Checks before any GPU is asked for. Each says what it found, and the way out when that is not good.

What cannot be looked at from here (a cluster's own names from a laptop, a private registry) is said to be
unchecked; it is no failure.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dcod.cluster.kubernetes import Kube
    from dcod.config import Config

SAMPLE = 50  # problems of the traces
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)


@dataclass(frozen=True)
class Check:
    """One check: ``ok``, ``failed`` or ``unchecked``, and a sentence that has the way out in it."""

    name: str
    state: Literal["ok", "failed", "unchecked"]
    text: str


class _UncheckedError(Exception):
    """It cannot be looked at from here."""


def checks(config: Config, *, traces: bool = True) -> Iterator[Check]:
    """All checks, one after the other; a failure does not stop the others.

    Args:
        config: the whole configuration, as for `dcod submit`.
        traces: also fetch the student and read some traces.
    """
    from dcod_pipelines.cluster_config import for_cluster

    resolved = config
    try:
        resolved = for_cluster(config)
        yield Check("configuration", "ok", "nothing in it belongs to this machine")
    except ValueError as error:
        yield Check("configuration", "failed", str(error))
    named: list[tuple[str, Callable[[Config], str]]] = [
        ("Kubeflow", _kubeflow),
        ("namespace", _namespace),
        ("GPU quota", _quota),
        ("TrainJobs", _trainer),
        ("tracking and registry", _tracking),
        ("bucket", _bucket),
        ("traces are there", _sources),
        ("image", _image),
    ]
    if traces:
        named.append(("student and traces", _student_and_traces))
    for name, check in named:
        try:
            text = check(resolved)
        except _UncheckedError as error:
            yield Check(name, "unchecked", str(error))
        except ValueError as error:  # UserError is one
            yield Check(name, "failed", str(error))
        else:
            yield Check(name, "ok", text)


def _kubeflow(config: Config) -> str:
    """The address answers, the token is good, and the experiment can be used."""
    from dcod_pipelines.kubeflow import Kubeflow

    kubeflow = Kubeflow(config)
    kubeflow.experiment()
    user = f"namespace {kubeflow.namespace}" if kubeflow.namespace else "a single user"
    return f"{config.cluster.kubeflow} answers, for {user}; experiment {config.cluster.experiment}"


def _kube(config: Config) -> Kube:
    from dcod.cluster.kubernetes import Kube
    from dcod.errors import UserError

    try:
        return Kube(config.cluster.namespace, patience_s=5)
    except UserError as error:
        raise _UncheckedError(str(error)) from None


def _namespace(config: Config) -> str:
    """Service account, secrets and claim that the pods name are there."""
    from dcod.errors import AwayError, UserError

    kube, cluster = _kube(config), config.cluster
    names = cluster.secrets
    secrets = [names.s3, names.tracking, names.hub, names.webhook, *names.image_pull]
    wanted = {
        "service_account": {cluster.service_account},
        "secret": {name for name in secrets if name},
        "persistent_volume_claim": {cluster.volume} if cluster.volume else set(),
    }
    missing, unseen = [], []
    for kind, named in wanted.items():
        try:
            missing += (
                [f"{kind.replace('_', ' ')} {name}" for name in sorted(named - kube.names(kind))] if named else []
            )
        except AwayError as error:
            raise _UncheckedError(str(error)) from None
        except UserError:  # listing is not allowed to everyone
            unseen.append(kind.replace("_", " "))
    if missing:
        raise UserError(f"namespace {cluster.namespace} lacks {', '.join(missing)}; see docs/cluster.md, steps 2 and 3")
    if unseen:
        raise _UncheckedError(f"you may not list {', '.join(unseen)} in {cluster.namespace}; ask who may")
    return f"{cluster.namespace} has {', '.join(sorted(set().union(*wanted.values())))}"


def _quota(config: Config) -> str:
    """The GPUs of the busiest moment fit into the quota."""
    from dcod.errors import AwayError, UserError

    cluster = config.cluster
    needed = gpus_at_once(config)
    if not needed:
        return "no GPU is asked for"
    key = f"requests.{cluster.gpu.resource}"
    try:
        quotas = _kube(config).quotas()
    except AwayError as error:
        raise _UncheckedError(str(error)) from None
    free = []
    for quota in quotas:
        status = quota.get("status", {})
        hard = (status.get("hard") or quota.get("spec", {}).get("hard") or {}).get(key)
        if hard is not None:
            used = int(status.get("used", {}).get(key, 0))
            if needed > int(hard):
                raise UserError(
                    f"{needed} GPUs are needed at once, quota {quota['metadata']['name']} allows {hard}: lower "
                    "cluster.gpu.count, cluster.shards or cluster.train.num_nodes, or have the quota raised"
                )
            free.append(f"{int(hard) - used} of {hard} free")
    if not free:
        return f"{needed} GPUs at once; no quota limits them"
    return f"{needed} GPUs at once; {', '.join(free)} now (pods wait for the others)"


def gpus_at_once(config: Config) -> int:
    """GPUs that are asked for in the busiest moment of a run."""
    cluster = config.cluster
    # Three evaluations need no trained student, so they may run beside the scoring or the training.
    evaluations = 3 * min(cluster.shards, max(1, len(config.evaluate.benchmarks)))
    return cluster.gpu.count * (max(cluster.shards, cluster.train.num_nodes) + evaluations)


def _trainer(config: Config) -> str:
    """Kubeflow Trainer is installed, where it is needed."""
    from dcod.cluster.kubernetes import NotThereError
    from dcod.cluster.trainjobs import GROUP, PLURAL, VERSION
    from dcod.errors import AwayError, UserError

    nodes = config.cluster.train.num_nodes
    if nodes == 1:
        return "not needed: training runs in one pod"
    try:
        _kube(config).get(GROUP, VERSION, PLURAL, "dcod-preflight")
    except NotThereError as error:
        if "could not find the requested resource" in str(error):
            raise UserError(
                f"{nodes} nodes need Kubeflow Trainer v2, which is not installed; docs/cluster.md"
            ) from None
    except AwayError as error:
        raise _UncheckedError(str(error)) from None
    return f"Kubeflow Trainer is there; runtime {config.cluster.train.runtime} is looked up when the job is made"


def _tracking(config: Config) -> str:
    """MLflow answers, the experiment can be used, the registry be read."""
    from dcod.errors import UserError
    from dcod.tracking.registry import Registry

    if not config.tracking.uri.startswith("http"):
        raise UserError("cluster.tracking: set the address of the MLflow server")
    champion = Registry(config.tracking).champion(config.promote.registered_model)
    standing = f"champion is version {champion.version}" if champion else "no champion yet: the start becomes it"
    return f"{config.tracking.uri}; {config.promote.registered_model}: {standing}"


def _bucket(config: Config) -> str:
    """An object can be written, read and deleted, and conditions of writes are heeded."""
    from dcod import storage

    place = config.cluster.storage or config.promote.lease.rpartition("/")[0]
    if not storage.is_s3(place):
        raise _UncheckedError(f"{place or 'cluster.storage is empty: it'} is no bucket; a volume is seen by pods only")
    storage.probe(place)
    return f"{place}: written, read, deleted; conditions heeded"


def _sources(config: Config) -> str:
    """Each s3:// source holds something."""
    from dcod import storage
    from dcod.errors import UserError

    if not config.ingest.sources:
        raise UserError("ingest.sources is empty: name the traces")
    buckets = [source for source in config.ingest.sources if storage.is_s3(source)]
    empty = [source for source in buckets if not storage.list_objects(source)]
    if empty:
        raise UserError(f"nothing at {', '.join(empty)}; upload the traces, or mend ingest.sources")
    return f"{len(buckets)} of {len(config.ingest.sources)} sources are in buckets, all with objects"


def _image(config: Config) -> str:
    """Images have fixed tags, and their registry knows them."""
    from http.client import HTTPException

    from dcod.errors import UserError, one_line

    cluster = config.cluster
    images = {image for image in (cluster.image, cluster.gpu_image if cluster.gpu.count else "") if image}
    if not cluster.image:
        raise UserError("cluster.image is empty: name the image that the cluster pulls")
    unseen = []
    for image in sorted(images):
        name, reference = split_image(image)
        if reference in ("", "latest"):
            raise UserError(f"image {image}: no fixed tag; give each build its own, a cluster caches by name")
        host, _, path = name.partition("/")
        if "." not in host and ":" not in host:
            unseen.append(f"{image} names no registry")
            continue
        scheme = "http" if re.match(r"(localhost|127\.0\.0\.1)(:|$)", host) else "https"
        url = f"{scheme}://{host}/v2/{path}/manifests/{reference}"
        request = urllib.request.Request(url, method="HEAD", headers={"Accept": _MANIFESTS})  # noqa: S310
        try:
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 (http and https only)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise UserError(
                    f"image {image}: its registry does not have it; push it, or mend cluster.image"
                ) from None
            unseen.append(f"{image}: its registry answers {error.code} without credentials")
        except (OSError, HTTPException, ValueError) as error:  # half an answer, or an address that is none
            unseen.append(f"{image}: its registry cannot be reached from here ({one_line(error)[:200]})")
    if unseen:
        raise _UncheckedError("; ".join(unseen))
    return ", ".join(sorted(images))


def split_image(image: str) -> tuple[str, str]:
    """Name and tag (or digest) of an image; a colon in the registry's address is no tag."""
    if "@" in image:
        name, _, digest = image.partition("@")
        return name, digest
    head, slash, last = image.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{head}{slash}{name}", tag


def _student_and_traces(config: Config) -> str:
    """The student loads, some traces pass, and they hold the log-probs that the correction needs."""
    from dcod.config import Config as Whole
    from dcod.errors import UserError
    from dcod.models import loading
    from dcod.objective import feasibility
    from dcod.stages.execute import RunContext, execute
    from dcod.storage import scratch
    from dcod.traces import holdings, read_traces
    from dcod.traces.prompts import load_tokenizer, tokenizer_digest
    from dcod.tracking.registry import Registry

    student = loading.resolve(
        config.student.model, config.student.revision, lambda name: Registry(config.tracking).resolve(name)
    )
    digest = tokenizer_digest(load_tokenizer(student, config.student.chat_template))
    few: Whole = config.model_copy(update={"ingest": config.ingest.model_copy(update={"limit": SAMPLE})})
    with scratch() as folder:
        out = folder / "traces"
        execute("ingest", few, out, {"student": student}, RunContext(tracked=False))
        traces = list(read_traces(out))
    if not traces:
        raise UserError(f"none of the first {SAMPLE} problems gave a trace; see the quarantine of `dcod ingest`")
    held = holdings.of(traces, digest, sampled=True)
    told = [remark for remark in feasibility.remarks(config, held) if remark.level == "impossible"]
    if told:
        raise UserError(str(told[0]))
    return (
        f"{len(traces)} traces pass; {held.totals} with log-probs, {held.logprobs} of them in the student's own tokens"
    )
