"""A recording Kubeflow Pipelines API on the loopback: it validates every spec and refuses every unknown field."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import yaml

from tests.fake_kubernetes import RefusedError

BASE = "/apis/v2beta1"
NOW = "2026-01-02T03:04:05Z"


@dataclass
class FakeKubeflow:
    """What the server holds, and what it was asked.

    Attributes:
        multi_user: whether namespaces are wanted, or refused.
        tag: the version that the server tells, as the real one does in the answer about its health.
        token: which clients must bring; empty: none.
        states: of a run, one a look; the last one stays.
        tasks: states of its stages by name, the same way.
        broken: so many answers are 503 first.
    """

    multi_user: bool = True
    tag: str = "2.17.0"
    token: str = ""
    states: list[str] = field(default_factory=lambda: ["PENDING"])
    tasks: list[dict[str, str]] = field(default_factory=lambda: [{}])
    broken: int = 0
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)
    terminated: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, method: str, target: str, body: Any, authorization: str) -> dict[str, Any]:
        url = urlparse(target)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.requests.append((method, url.path))
        if self.broken:
            self.broken -= 1
            raise RefusedError(503, "upstream connect error")
        if self.token and authorization != f"Bearer {self.token}":
            raise RefusedError(401, "Request not authenticated")
        path = url.path.removeprefix(BASE)
        if (method, path) == ("GET", "/healthz"):
            return {
                "commit_sha": "x",
                "tag_name": self.tag,
                "multi_user": self.multi_user,
                "pipeline_store": "database",
            }
        if path == "/experiments":
            return self._experiments(method, query, body)
        if path.startswith("/pipelines"):
            return self._pipelines(method, path, query, body)
        if path == "/runs":
            if method == "POST":
                return self._create("run_id", self.runs, body, "V2beta1Run")
            if query.get("experiment_id") not in self.experiments:
                raise RefusedError(400, "list runs of an experiment")
            return {"runs": [self._stands(run) for run in self.runs.values()]}
        if match := re.fullmatch(r"/runs/([^/:]+)(:terminate)?", path):
            if match[1] not in self.runs:
                raise RefusedError(404, f"run {match[1]} not found")
            if match[2]:
                self.terminated.append(match[1])
                return {}
            return self._stands(self.runs[match[1]])
        if path == "/recurringruns":
            if method == "POST":
                return self._create("recurring_run_id", self.recurring, body, "V2beta1RecurringRun")
            size, token = int(query["page_size"]), int(query.get("page_token") or 0)
            rows = list(self.recurring.values())[token : token + min(size, 2)]  # small pages: clients must turn them
            more = token + len(rows) < len(self.recurring)
            rows = [{**row, "status": f"{row['mode']}D"} for row in rows]
            return {"recurringRuns": rows, "next_page_token": str(token + len(rows)) if more else ""}
        if match := re.fullmatch(r"/recurringruns/([^/:]+)(:disable)?", path):
            if (method, match[2]) == ("DELETE", None):
                del self.recurring[match[1]]
                return {}
            if (method, match[2]) == ("POST", ":disable"):
                self.recurring[match[1]]["mode"] = "DISABLE"
                return {}
        raise AssertionError(f"{method} {target}: not expected")

    def _experiments(self, method: str, query: dict[str, str], body: Any) -> dict[str, Any]:
        if method == "GET":
            self._namespaced(query.get("namespace"))
            wanted = json.loads(query["filter"])["predicates"][0]["stringValue"] if "filter" in query else None
            return {"experiments": [e for e in self.experiments.values() if e["display_name"] == wanted]}
        strict(body, "V2beta1Experiment")
        self._namespaced(body.get("namespace"))
        made = body | {"experiment_id": f"experiment-{len(self.experiments) + 1}"}
        self.experiments[made["experiment_id"]] = made
        return made

    def _pipelines(self, method: str, path: str, query: dict[str, str], body: Any) -> dict[str, Any]:
        wanted = json.loads(query["filter"])["predicates"][0]["stringValue"] if "filter" in query else None
        if (method, path) == ("GET", "/pipelines"):
            self._namespaced(query.get("namespace"))
            return {"pipelines": [each for each in self.pipelines.values() if each["display_name"] == wanted]}
        if (method, path) == ("POST", "/pipelines"):
            strict(body, "V2beta1Pipeline")
            self._namespaced(body.get("namespace"))
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", body["name"]):
                raise RefusedError(400, "pipeline's name must contain only lowercase alphanumeric characters or '-'")
            made = body | {"pipeline_id": f"pipeline-{len(self.pipelines) + 1}"}
            self.pipelines[made["pipeline_id"]] = made
            return made
        if (method, path) == ("POST", "/pipelines/upload_version"):
            return self._upload(query, body)
        if (method, match := re.fullmatch(r"/pipelines/([^/]+)/versions", path)) and match:
            rows = [each for each in self.versions.values() if each["pipeline_id"] == match[1]]
            rows = [each for each in reversed(rows) if wanted in (None, each["display_name"])]
            if query.get("sort_by") != "created_at desc":
                rows.reverse()
            plain = [{key: value for key, value in each.items() if key != "pipeline_spec"} for each in rows]
            return {"pipeline_versions": plain[: int(query["page_size"])]}
        raise AssertionError(f"{method} {path}: not expected")

    def _upload(self, query: dict[str, str], body: bytes) -> dict[str, Any]:
        """A version of a pipeline, which is parsed as it comes; its name is taken once (backend, `AlreadyExists`)."""
        name, pipeline = query["name"], query["pipelineid"]
        if pipeline not in self.pipelines or len(name) > 127:
            raise RefusedError(400, "Failed to create a pipeline version")
        if any((each["pipeline_id"], each["display_name"]) == (pipeline, name) for each in self.versions.values()):
            raise RefusedError(409, "Failed to create a pipeline version")
        text = body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
        spec, platform = yaml.load_all(text, Loader=yaml.CSafeLoader)
        both = {"pipeline_spec": spec, "platform_spec": platform}
        validate_spec(both, {})
        made = {"pipeline_id": pipeline, "display_name": name, "name": name, "pipeline_spec": both, "created_at": NOW}
        made |= {
            "pipeline_version_id": f"version-{len(self.versions) + 1}",
            "description": query.get("description", ""),
        }
        self.versions[made["pipeline_version_id"]] = made
        return {key: value for key, value in made.items() if key != "pipeline_spec"}

    def _spec(self, reference: dict[str, str]) -> dict[str, Any]:
        """The pipeline of a reference: without a version the newest (backend, `GetLatestPipelineVersion`)."""
        own = {key: each for key, each in self.versions.items() if each["pipeline_id"] == reference["pipeline_id"]}
        version = reference.get("pipeline_version_id") or next(reversed(own), "")
        if version not in own:
            raise RefusedError(400, f"version {version} of {reference['pipeline_id']} not found")
        return dict(own[version]["pipeline_spec"])

    def _namespaced(self, namespace: str | None) -> None:
        if self.multi_user and not namespace:
            raise RefusedError(400, "Invalid input error: Namespace is empty in multi-user mode")
        if not self.multi_user and namespace:
            raise RefusedError(400, "Invalid input error: In single-user mode, namespace must be empty")

    def _create(self, key: str, held: dict[str, dict[str, Any]], body: Any, kind: str) -> dict[str, Any]:
        strict(body, kind)
        if body["experiment_id"] not in self.experiments:
            raise RefusedError(400, f"experiment {body['experiment_id']} not found")
        spec = self._spec(body["pipeline_version_reference"])
        validate_spec(spec, body["runtime_config"].get("parameters", {}))
        if kind == "V2beta1RecurringRun":
            cron = body["trigger"]["cron_schedule"]["cron"]
            if len(cron.split()) != 6 or "7" in cron.split()[5]:
                raise RefusedError(400, f"cron {cron!r}: expected 6 fields, weekdays 0 to 6")
        made = body | {key: f"{key.removesuffix('_id')}-{len(self.requests)}", "created_at": NOW}
        held[made[key]] = made
        return made

    def _stands(self, run: dict[str, Any]) -> dict[str, Any]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        tasks = self.tasks.pop(0) if len(self.tasks) > 1 else self.tasks[0]
        details = [
            {"display_name": name, "state": each, "start_time": f"2026-01-02T03:04:{number:02d}Z"}
            for number, (name, each) in enumerate(tasks.items())
        ]
        plain = {key: value for key, value in run.items() if key != "pipeline_spec"}
        return plain | {"state": state, "run_details": {"task_details": details}}


def strict(value: Any, kind: str, path: str = "") -> None:
    """Refuses every field that the API's model of that kind does not know, and values of other types."""
    import kfp_server_api

    model = getattr(kfp_server_api, kind, None)
    if model is None or not hasattr(model, "attribute_map"):
        return
    types = {model.attribute_map[name]: each for name, each in model.openapi_types.items()}
    for key, inner in value.items():
        if key not in types:
            raise RefusedError(400, f"unknown field {path}{key}")
        wanted = types[key]
        plain = {"str": (str, int), "int": int, "bool": bool, "float": (int, float)}.get(wanted)
        # Numbers of 64 bits are text in these models; the server reads both.
        if plain and (not isinstance(inner, plain) or (wanted != "bool" and isinstance(inner, bool))):
            raise RefusedError(400, f"{path}{key}: expected {wanted}")
        if isinstance(inner, dict):
            strict(inner, wanted, f"{path}{key}.")


def validate_spec(spec: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Both documents of a pipeline against their schemas; parameters against the pipeline's inputs."""
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        pipeline = json_format.ParseDict(spec["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(spec["platform_spec"], pipeline_spec_pb2.PlatformSpec())
        pods = spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for pod in pods.values():
            json_format.ParseDict(pod, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    except json_format.ParseError as error:
        raise RefusedError(400, f"Failed to parse the pipeline: {error}") from None
    if extra := spec.keys() - {"pipeline_spec", "platform_spec"}:
        raise RefusedError(400, f"unknown field pipeline_spec.{extra}")
    known = set(pipeline.root.input_definitions.parameters)
    needed = {name for name, each in pipeline.root.input_definitions.parameters.items() if not each.is_optional}
    if not needed <= parameters.keys() <= known:
        raise RefusedError(400, f"parameters {sorted(parameters)}; the pipeline has {sorted(known)}")


@contextmanager
def serving(fake: FakeKubeflow) -> Iterator[str]:
    """Serves a fake; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(size) or b"null"
            form = (self.headers.get("Content-Type") or "").startswith("multipart/")
            body = raw if form else json.loads(raw)
            try:
                found, code = fake.answer(self.command, self.path, body, self.headers.get("Authorization", "")), 200
            except (RefusedError, AssertionError, KeyError) as error:
                error = error if isinstance(error, RefusedError) else RefusedError(418, f"the fake does not: {error!r}")
                found, code = {"error": str(error), "code": error.status}, error.status
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        do_GET = do_POST = do_DELETE = _do

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
