"""Checks before any GPU is asked for. Each says what it found, and the way out when that is not good.

What cannot be looked at from here (a cluster's own names from a laptop, a private registry) is said to be
unchecked; it is no failure.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dcod_pipelines import cluster_checks
from dcod_pipelines.checks import Check, UncheckedError
from dcod_pipelines.versions import split_image

if TYPE_CHECKING:
    from dcod.config import Config

SAMPLE = 50  # problems of the traces
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)


def checks(config: Config, *, traces: bool = True) -> Iterator[Check]:
    """All checks, one after the other; a failure does not stop the others.

    Args:
        config: the whole configuration, as for `dcod submit`.
        traces: also fetch the student and read some traces.
    """
    from dcod.config.reach import for_cluster

    resolved = config
    try:
        resolved = for_cluster(config)
        yield Check("configuration", "ok", "nothing in it belongs to this machine")
    except ValueError as error:
        yield Check("configuration", "failed", str(error))
    named: list[tuple[str, Callable[[Config], str]]] = [
        ("Kubeflow", cluster_checks.kubeflow),
        ("namespace", cluster_checks.namespace),
        ("rights", cluster_checks.rights),
        ("GPU quota", cluster_checks.quota),
        ("TrainJobs", cluster_checks.trainer),
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
        except UncheckedError as error:
            yield Check(name, "unchecked", str(error))
        except ValueError as error:  # UserError is one
            yield Check(name, "failed", str(error))
        else:
            yield Check(name, "ok", text)
    yield from _pilot(resolved)


def _pilot(config: Config) -> Iterator[Check]:
    """Where a pilot is not like the run that it decides for."""
    if config.train.arms:
        from dcod.objective import arms

        yield from (Check("pilot", "warning", str(remark)) for remark in arms.otherwise(config))


def _tracking(config: Config) -> str:
    from dcod.check import servers

    return servers.tracking(config)


def _bucket(config: Config) -> str:
    from dcod import storage
    from dcod.check import servers

    place = servers.place(config)
    if not storage.is_s3(place):
        raise UncheckedError(f"{place or 'cluster.storage is empty: it'} is no bucket; a volume is seen by pods only")
    return servers.bucket(config)


def _sources(config: Config) -> str:
    from dcod.check import servers

    return servers.traces(config)


def _image(config: Config) -> str:
    """Images have fixed tags, and their registry knows them."""
    from http.client import HTTPException

    from dcod.errors import UserError, one_line

    cluster = config.cluster
    named = [cluster.image, cluster.gpu_image if cluster.gpu.count else "", *(s.image for s in cluster.stages.values())]
    images = {image for image in named if image}
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
        raise UncheckedError("; ".join(unseen))
    return ", ".join(sorted(images))


def _student_and_traces(config: Config) -> str:
    """The student loads, some traces pass, and they hold the log-probs that the correction needs."""
    from dcod.config import Config as Whole
    from dcod.errors import UserError
    from dcod.models import loading
    from dcod.objective import arms, feasibility
    from dcod.stages.execute import RunContext, execute
    from dcod.storage import scratch
    from dcod.traces import holdings, read_traces
    from dcod.traces.prompts import of_student, tokenizer_digest
    from dcod.tracking.registry import Registry

    student = loading.resolve(
        config.student.model, config.student.revision, lambda name: Registry(config.tracking).resolve(name)
    )
    digest = tokenizer_digest(of_student(student, config.student))
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
    text = (
        f"{len(traces)} traces pass; {held.totals} with log-probs, {held.logprobs} of them in the student's own tokens"
    )
    if not config.asks and (why := arms.none_left(config.train, held)):
        raise UserError(f"{why}; {arms.WAY_OUT}")
    return f"{text}; {arms.said(config.train, held)}" if config.train.arms else text
