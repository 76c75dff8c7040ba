"""A recording Kubernetes API on the loopback: TrainJobs validated by their own models, pods, logs, names."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import yaml

from dcod.cluster.schemas import unknown_fields

JOBS = r"/apis/trainer\.kubeflow\.org/v1alpha1/namespaces/(?P<ns>[^/]+)/trainjobs(?:/(?P<name>[^/]+))?"
CRDS = Path(__file__).resolve().parent / "data" / "kubeflow"
NAMESPACE = r"/api/v1/namespaces/(?P<ns>[^/]+)"
REVIEW = r"/apis/authorization\.k8s\.io/v1/namespaces/[^/]+/localsubjectaccessreviews"
OPENAPI = "/openapi/v3/apis/trainer.kubeflow.org/v1alpha1"
CORE = r"/api/v1/namespaces/(?P<ns>[^/]+)/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?P<log>/log)?"


class RefusedError(Exception):
    """The API answers with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class FakeKubernetes:
    """What the cluster holds, and what it was asked.

    Attributes:
        statuses: of the TrainJob, one a look; the last one stays.
        log: lines of the first node, each after its time.
        on_create: called with every job that was accepted.
        broken: so many answers are 503 first.
        trainer: the version of Kubeflow Trainer, by its frozen schema; empty where there is none.
        held: other objects by plural: name to manifest.
        labels: of the namespace; None where there is none.
        denied: what the account of the runs may not, as ``create trainjobs``.
    """

    statuses: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    log: list[str] = field(default_factory=list)
    on_create: Callable[[dict[str, Any]], None] = lambda job: None
    broken: int = 0
    trainer: str = "2.3.0"
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    labels: dict[str, str] | None = field(default_factory=lambda: {"app.kubernetes.io/part-of": "kubeflow-profile"})
    denied: set[str] = field(default_factory=set)

    def answer(self, method: str, target: str, body: dict[str, Any]) -> dict[str, Any] | str:
        url = urlparse(target)
        self.requests.append((method, target))
        if self.broken:
            self.broken -= 1
            raise RefusedError(503, "etcd is away")
        if match := re.fullmatch(JOBS, url.path):
            if not self.trainer:
                raise RefusedError(404, "the server could not find the requested resource")
            return self._job(method, match["name"], body)
        if url.path == OPENAPI and self.trainer:
            known = {"group": "trainer.kubeflow.org", "version": "v1alpha1", "kind": "TrainJob"}
            schema = crd(f"trainjobs.v{self.trainer}") | {"x-kubernetes-group-version-kind": [known]}
            return {"components": {"schemas": {"org.kubeflow.trainer.v1alpha1.TrainJob": schema}}}
        if url.path == OPENAPI:
            raise RefusedError(404, "404 page not found")
        if re.fullmatch(REVIEW, url.path):
            return self._review(body)
        if match := re.fullmatch(NAMESPACE, url.path):
            if "namespaces" in self.forbidden:
                raise RefusedError(403, "User cannot get resource namespaces")
            if self.labels is None:
                raise RefusedError(404, "namespace not found")
            return {"metadata": {"name": match["ns"], "labels": self.labels}}
        match = re.fullmatch(CORE, url.path)
        assert match, f"{method} {target}: not expected"
        assert method == "GET"
        if match["kind"] in self.forbidden:
            raise RefusedError(403, f"User cannot list resource {match['kind']}")
        objects = self.held.get(match["kind"], {})
        if match["log"]:
            assert "timestamps" in parse_qs(url.query)
            return "\n".join(self.log)
        if match["name"]:
            if match["name"] not in objects:
                raise RefusedError(404, f"{match['name']} not found")
            return dict(objects[match["name"]])
        return {"items": [{"metadata": {"name": name}, **value} for name, value in objects.items()]}

    def _review(self, body: dict[str, Any]) -> dict[str, Any]:
        if "localsubjectaccessreviews" in self.forbidden:
            raise RefusedError(403, "User cannot create resource localsubjectaccessreviews")
        asked = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource", ""))))
        return body | {"status": {"allowed": f"{asked['verb']} {resource}" not in self.denied}}

    def _job(self, method: str, name: str | None, body: dict[str, Any]) -> dict[str, Any]:
        if method == "POST":
            validate_trainjob(body)
            name = body["metadata"]["name"]
            if name in self.jobs:
                raise RefusedError(409, f"{name} already exists")
            self.jobs[name] = body
            self.on_create(body)
            return body
        if name not in self.jobs:
            raise RefusedError(404, f"{name} not found")
        if method == "DELETE":
            return self.jobs.pop(name)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return self.jobs[name] | {"status": status}


def crd(name: str) -> dict[str, Any]:
    """The schema of a frozen CustomResourceDefinition; see tests/data/kubeflow/README.md."""
    read = json.loads((CRDS / f"{name}.json").read_text(encoding="utf-8"))
    return dict(read["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def validate(body: dict[str, Any], name: str) -> None:
    """Refuses what Kubernetes refuses by a frozen schema, and every field that it would drop."""
    import jsonschema

    schema = crd(name)
    for path in unknown_fields(body, schema):
        raise RefusedError(400, f"strict decoding error: unknown field {path}")
    try:
        jsonschema.validate(body, schema)
    except jsonschema.ValidationError as error:
        raise RefusedError(422, f"{body['kind']} is invalid: {error.json_path}: {error.message}") from None


def validate_trainjob(body: dict[str, Any]) -> None:
    """Refuses what the API and its models refuse, and every field that they do not know."""
    from kubeflow_trainer_api import models

    try:
        read = models.TrainerV1alpha1TrainJob.from_dict(body)
    except ValueError as error:
        raise RefusedError(422, f"TrainJob is invalid: {error}") from None
    known = json.loads(json.dumps(read.to_dict() if read else {}))
    for path in unknown(body, known):
        raise RefusedError(400, f"strict decoding error: unknown field {path}")
    validate(body, "trainjobs.v2.3.0")
    name = body["metadata"]["name"]
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name):
        raise RefusedError(422, f"metadata.name: {name} is not an RFC 1035 label")


def unknown(given: Any, known: Any, path: str = "") -> Iterator[str]:
    """Paths of the fields that reading dropped."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(known, dict) or key not in known:
                yield f"{path}.{key}".lstrip(".")
            else:
                yield from unknown(value, known[key], f"{path}.{key}")
    elif isinstance(given, list):
        for number, value in enumerate(given):
            yield from unknown(value, known[number] if number < len(known) else None, f"{path}[{number}]")
    elif given != known:
        yield path


@contextmanager
def serving(fake: FakeKubernetes, folder: Path) -> Iterator[Path]:
    """Serves a fake; yields a kubeconfig."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            try:
                found: Any = fake.answer(self.command, self.path, body)
                status = 200
            except RefusedError as error:
                found, status = {"kind": "Status", "message": str(error), "code": error.status}, error.status
            text = found if isinstance(found, str) else json.dumps(found)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(found, str) else "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = _do

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "fake", "user": {"token": "x"}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    try:
        yield path
    finally:
        server.shutdown()
        server.server_close()
