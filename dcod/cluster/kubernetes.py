"""The Kubernetes API: from within a pod by its service account, else by kubeconfig. The only kubernetes import."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from dcod.errors import AwayError, UserError, one_line
from dcod.storage.retries import Tries, is_passing

PATIENCE_S = 300.0
Manifest = dict[str, Any]
T = TypeVar("T")
_log = logging.getLogger(__name__)


class NotThereError(Exception):
    """The API answered 404: the object, or its whole kind, is not there."""


class ForbiddenError(UserError):
    """The API answered 401 or 403: this account may not."""


class ConflictError(Exception):
    """The API answered 409: an object of that name is there already."""


class Kube:
    """The few calls that dcod makes, each tried again while the API is away.

    Attributes:
        namespace: of every call.
    """

    def __init__(self, namespace: str, patience_s: float | None = None) -> None:
        """Connects.

        Args:
            namespace: of every call.
            patience_s: how long an API that does not answer is waited for; else PATIENCE_S.

        Raises:
            UserError: neither a service account nor a kubeconfig is here.
        """
        from kubernetes import client, config

        self.namespace = namespace
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        try:
            try:
                config.load_incluster_config()
            except config.ConfigException:
                config.load_kube_config(os.environ.get("KUBECONFIG"))  # read now; the library reads it when imported
        except (config.ConfigException, OSError) as error:
            raise UserError(
                f"Kubernetes: neither in a pod with a service account nor a usable kubeconfig ({error}); set KUBECONFIG"
            ) from None
        self._custom = client.CustomObjectsApi()
        self._core = client.CoreV1Api()

    def get(self, group: str, version: str, plural: str, name: str) -> Manifest:
        """A custom object.

        Raises:
            NotThereError: it is not there.
        """
        where = group, version, self.namespace, plural, name
        return dict(self._call(f"get {plural} {name}", lambda: self._custom.get_namespaced_custom_object(*where)))

    def create(self, group: str, version: str, plural: str, body: Manifest) -> Manifest:
        """Creates a custom object.

        Raises:
            ConflictError: one of that name is there.
            NotThereError: the cluster does not know the kind.
            UserError: the API refuses it.
        """
        where, what = (group, version, self.namespace, plural), f"create {plural} {body['metadata']['name']}"
        return dict(self._call(what, lambda: self._custom.create_namespaced_custom_object(*where, body)))

    def delete(self, group: str, version: str, plural: str, name: str) -> None:
        """Deletes a custom object and what belongs to it; nothing is there afterwards either way."""
        where, delete = (group, version, self.namespace, plural, name), self._custom.delete_namespaced_custom_object
        with suppress(NotThereError):
            self._call(f"delete {plural} {name}", lambda: delete(*where, propagation_policy="Foreground"))

    def pods(self, selector: str) -> list[Manifest]:
        """Pods by labels."""
        return self._listed(f"list pods {selector}", "pod", label_selector=selector)

    def pod(self, name: str) -> Manifest:
        """A pod by its name."""
        reply = self._call(
            f"get pod {name}", lambda: self._core.read_namespaced_pod(name, self.namespace, _preload_content=False)
        )
        return dict(json.loads(reply.data))

    def log(self, pod: str, container: str, since_s: int) -> str:
        """A container's log of the last ``since_s`` seconds, each line after its time; empty before it started."""
        from kubernetes.client import ApiException

        try:
            reply = self._core.read_namespaced_pod_log(
                pod, self.namespace, container=container, since_seconds=since_s, timestamps=True, _preload_content=False
            )
        except ApiException as error:
            if error.status in (400, 404):  # not started, or gone
                return ""
            raise UserError(f"Kubernetes: log of {pod} in {self.namespace}: {error.status} {_reason(error)}") from None
        return str(reply.data.decode("utf-8", errors="replace"))

    def names(self, kind: str) -> set[str]:
        """Names of the namespace's objects of a kind of the core, such as ``secret`` or ``service_account``."""
        return {item["metadata"]["name"] for item in self._listed(f"list {kind}", kind)}

    def labels(self) -> dict[str, str]:
        """The labels of the namespace itself.

        Raises:
            NotThereError: there is no such namespace.
        """
        read = self._core.read_namespace
        reply = self._call("get the namespace", lambda: read(self.namespace, _preload_content=False))
        return dict(json.loads(reply.data)["metadata"].get("labels") or {})

    def may(self, account: str, verb: str, group: str, resource: str) -> bool:
        """Whether a service account of the namespace may do something in it; ``resource`` may be ``pods/log``."""
        from kubernetes import client

        plural, _, part = resource.partition("/")
        asked = {"namespace": self.namespace, "verb": verb, "group": group, "resource": plural}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "LocalSubjectAccessReview",
            "metadata": {"namespace": self.namespace},
            "spec": {
                "user": f"system:serviceaccount:{self.namespace}:{account}",
                "groups": [
                    "system:serviceaccounts",
                    f"system:serviceaccounts:{self.namespace}",
                    "system:authenticated",
                ],
                "resourceAttributes": asked | ({"subresource": part} if part else {}),
            },
        }
        ask = client.AuthorizationV1Api().create_namespaced_local_subject_access_review
        reply = self._call(
            f"ask whether {account} may {verb} {resource}", lambda: ask(self.namespace, body, _preload_content=False)
        )
        return bool(json.loads(reply.data)["status"]["allowed"])

    def schema(self, group: str, version: str, kind: str) -> Manifest:
        """The OpenAPI schema of a custom kind, as the server's discovery gives it to everybody.

        Raises:
            NotThereError: the cluster does not know the kind.
        """
        call = self._core.api_client.call_api
        path = f"/openapi/v3/apis/{group}/{version}"
        get = lambda: call(path, "GET", auth_settings=["BearerToken"], response_type="object", _preload_content=False)  # noqa: E731
        schemas = json.loads(self._call(f"get {path}", get)[0].data).get("components", {}).get("schemas", {})
        wanted = {"group": group, "version": version, "kind": kind}
        for schema in schemas.values():
            if wanted in schema.get("x-kubernetes-group-version-kind", []):
                return dict(schema)
        raise NotThereError(f"{path}: no {kind}")

    def quotas(self) -> list[Manifest]:
        """The namespace's quotas."""
        return self._listed("list quotas", "resource_quota")

    def _listed(self, what: str, kind: str, **chosen: str) -> list[Manifest]:
        """The namespace's objects of a kind, not as the client's own classes."""
        listing = getattr(self._core, f"list_namespaced_{kind}")
        reply = self._call(what, lambda: listing(self.namespace, _preload_content=False, **chosen))
        return list(json.loads(reply.data)["items"])

    def _call(self, what: str, call: Callable[[], T]) -> T:
        """One call; an API that is away or busy is waited for with back-off."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        problem = ""
        for _ in Tries(within_s=self._patience_s):
            try:
                return call()
            except ApiException as error:
                status, reason = error.status or 0, _reason(error)
                if status == 404:
                    raise NotThereError(f"{what}: {reason}") from None
                if status == 409:
                    raise ConflictError(f"{what}: {reason}") from None
                if status in (401, 403):
                    raise ForbiddenError(
                        f"Kubernetes: {what} in {self.namespace} is not allowed ({reason}); see the role "
                        "dcod-pipeline in k8s/runs/access.yaml"
                    ) from None
                if status >= 400 and not is_passing(status):
                    raise UserError(f"Kubernetes: {what} in {self.namespace} is refused: {reason}") from None
                problem = f"{status} {reason}"
            except (HTTPError, OSError) as error:
                problem = one_line(error)[:200]
            _log.warning("%s: %s", what, problem)
        raise AwayError(f"Kubernetes: {what} in {self.namespace}: no answer for {self._patience_s:.0f} s ({problem})")


def own_pod() -> str:
    """The name of the pod that this process runs in; empty outside a cluster."""
    return os.environ.get("KFP_POD_NAME") or (
        os.environ.get("HOSTNAME", "") if "KUBERNETES_SERVICE_HOST" in os.environ else ""
    )


def _reason(error: Any) -> str:
    """The API's own words."""
    try:
        said = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        said = error.reason
    return one_line(said)[:500]
