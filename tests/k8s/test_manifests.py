"""Both overlays: rendered, valid against the Kubernetes schemas, and as locked down as they claim."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.service
ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = {"dev": 30, "prod": 25}  # and at least how many objects each has
Manifest = dict[str, Any]


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(request.param)


def render(overlay: str) -> list[Manifest]:
    documents = rendered_from(ROOT / "k8s" / "overlays" / overlay)
    assert len(documents) >= OVERLAYS[overlay]
    return documents


def rendered_from(folder: Path) -> list[Manifest]:
    tool = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    assert tool, "`make test-services` installs kubectl"
    command = [tool, "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def of_kind(documents: list[Manifest], *kinds: str) -> list[Manifest]:
    return [item for item in documents if item["kind"] in kinds]


def pods(documents: list[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Name, pod metadata and pod spec of everything that makes pods."""
    for item in of_kind(documents, "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"):
        spec = item["spec"]["jobTemplate"]["spec"] if item["kind"] == "CronJob" else item["spec"]
        yield f"{item['kind']}/{item['metadata']['name']}", spec["template"]["metadata"], spec["template"]["spec"]


def containers(spec: Manifest) -> list[Manifest]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def secret_names(node: Any) -> Iterator[str]:
    """Every secret that a manifest names."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("secretKeyRef", "secretRef"):
                yield value["name"]
            elif key == "secretName":
                yield value
            else:
                yield from secret_names(value)
    elif isinstance(node, list):
        for value in node:
            yield from secret_names(value)


def validate(document: Manifest) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_every_object_is_valid(rendered: list[Manifest]) -> None:
    for document in rendered:
        validate(document)


def test_a_wrong_object_is_caught(rendered: list[Manifest]) -> None:
    import kubernetes_validate

    deployment = of_kind(rendered, "Deployment")[0]
    wrong_type, unknown, incomplete = (copy.deepcopy(deployment) for _ in range(3))
    wrong_type["spec"]["replicas"] = "three"
    unknown["spec"]["replica"] = 3
    del incomplete["spec"]["selector"]
    for broken in (wrong_type, unknown, incomplete):
        with pytest.raises(kubernetes_validate.ValidationError):
            validate(broken)


def test_pods_are_restricted(rendered: list[Manifest]) -> None:
    found = list(pods(rendered))
    assert len(found) >= 2
    for name, _, spec in found:
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert not any("hostPath" in volume for volume in spec.get("volumes", [])), name
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
            assert "memory" in container["resources"]["limits"], name


def test_images_are_pinned(rendered: list[Manifest]) -> None:
    images = [container["image"] for _, _, spec in pods(rendered) for container in containers(spec)]
    assert len(images) >= 3
    for image in images:
        assert re.search(r":[\w.-]*\d[\w.-]*$|@sha256:", image), image


def test_long_running_pods_are_probed(rendered: list[Manifest]) -> None:
    served = [spec for name, _, spec in pods(rendered) if name.startswith(("Deployment", "StatefulSet"))]
    assert served
    for spec in served:
        for container in spec["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_secrets_are_named_documented_and_not_contained(rendered: list[Manifest]) -> None:
    assert of_kind(rendered, "Secret") == []
    names = {name for item in rendered for name in secret_names(item)}
    assert {"mlflow-database", "mlflow-auth", "mlflow-s3", "mlflow-backup-s3"} <= names
    assert "dcod-s3" not in names, "the keys of runs, whose namespace is another"
    guide = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    for name in names:
        assert name in guide, f"docs/cluster.md does not say how to make the secret {name}"
    assert not re.search(r"://[^\s/$]+:[^\s/$@]+@", yaml.safe_dump(rendered)), "an address with a password"


def test_every_namespace_denies_by_default_and_declares_its_standard(rendered: list[Manifest]) -> None:
    namespaces = of_kind(rendered, "Namespace")
    assert {item["metadata"]["name"]: enforced(item) for item in namespaces} == {"dcod": "restricted"}
    policies = of_kind(rendered, "NetworkPolicy")
    for name in ("dcod", "dcod-runs"):
        closed = [
            policy
            for policy in policies
            if policy["metadata"]["namespace"] == name
            and policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        ]
        assert len(closed) == 1


def enforced(namespace: Manifest) -> str:
    return str(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"])


def test_selectors_select_something(rendered: list[Manifest]) -> None:
    names = {metadata["labels"]["app.kubernetes.io/name"] for _, metadata, _ in pods(rendered)}
    label = "app.kubernetes.io/name"
    wanted: set[str] = set()
    for item in of_kind(rendered, "Service"):
        wanted.add(item["spec"]["selector"][label])
    for item in of_kind(rendered, "PodDisruptionBudget", "Deployment", "StatefulSet"):
        wanted.add(item["spec"]["selector"]["matchLabels"][label])
    for item in of_kind(rendered, "NetworkPolicy"):
        wanted |= set(labelled(item, label))
    assert len(wanted) >= 2
    assert wanted <= names


def labelled(node: Any, label: str) -> Iterator[str]:
    if isinstance(node, dict):
        if label in node.get("matchLabels", {}):
            yield node["matchLabels"][label]
        if node.get("key") == label:
            yield from node["values"]
        for value in node.values():
            yield from labelled(value, label)
    elif isinstance(node, list):
        for value in node:
            yield from labelled(value, label)


def test_service_ports_reach_a_container_port(rendered: list[Manifest]) -> None:
    ports = {
        (metadata["labels"]["app.kubernetes.io/name"], port["name"])
        for _, metadata, spec in pods(rendered)
        for container in containers(spec)
        for port in container.get("ports", [])
    }
    services = of_kind(rendered, "Service")
    assert services
    for item in services:
        for port in item["spec"]["ports"]:
            assert (item["spec"]["selector"]["app.kubernetes.io/name"], port["name"]) in ports


def test_rights_are_few_and_named(rendered: list[Manifest]) -> None:
    assert of_kind(rendered, "ClusterRole", "ClusterRoleBinding") == []
    rules = [rule for role in of_kind(rendered, "Role") for rule in role["rules"]]
    assert rules
    for rule in rules:
        assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
        if "secrets" in rule["resources"]:
            assert rule["resourceNames"]
            assert rule["verbs"] == ["get"]


def test_production_survives_a_node() -> None:
    prod = render("prod")
    (mlflow,) = of_kind(prod, "Deployment")
    assert mlflow["spec"]["replicas"] >= 2
    assert of_kind(prod, "PodDisruptionBudget")
    assert of_kind(prod, "CronJob")
    (ingress,) = of_kind(prod, "Ingress")
    config = next(item for item in of_kind(prod, "ConfigMap") if item["metadata"]["name"] == "mlflow")
    hosts = config["data"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    for rule in ingress["spec"]["rules"]:
        assert rule["host"] in hosts
    assert of_kind(prod, "StatefulSet") == []


def example(name: str) -> list[Manifest]:
    return list(yaml.safe_load_all((ROOT / "k8s" / "examples" / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ["read-only-root.yaml", "fs-group.yaml"])
def test_the_rules_for_pods_are_valid_and_fit_the_pipeline(name: str) -> None:
    from dcod_pipelines.pods import RUN_LABEL

    documents = example(name)
    assert [item["kind"] for item in documents] == ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"]
    for document in documents:
        validate(document)
    policy, binding = documents
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert policy["spec"]["matchConstraints"]["objectSelector"]["matchLabels"] == {RUN_LABEL: "pipeline"}


def test_the_secrets_of_a_store_are_all_that_runs_and_services_name() -> None:
    """Every secret of `prod` but the certificate, and those that the compiled pipeline names."""
    from dcod.config.cluster import SecretsConfig

    made = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in example("external-secrets.yaml")}
    wanted = {("dcod", name) for item in render("prod") for name in secret_names(item)} - {("dcod", "mlflow-tls")}
    named = SecretsConfig()
    assert made == wanted | {("dcod-runs", named.s3), ("dcod-runs", named.tracking)}


def test_the_alerts_ask_for_figures_that_are_exported(tmp_path: Path) -> None:
    """The job is a valid one with a command that exists; every expression names figures that dcod makes."""
    import re

    from dcod.cluster.prometheus import _HELP, PREFIX
    from dcod.retrain import monitors
    from dcod_pipelines.presets import names

    job, rules = example("retrain-alerts.yaml")
    validate(job)
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"][:2] == ["dcod", "metrics"]
    made = job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]
    assert made["labels"]["sidecar.istio.io/inject"] == "false", "a sidecar would never end"
    assert "retrain" in names()
    made = {*_HELP, *monitors.evaluator({}, {}), "left_out_traces"}
    *alerts, stale = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    assert len(alerts) == 5
    assert set(re.findall(r'cronjob="([^"]+)"', stale["expr"])) == {job["metadata"]["name"]}
    for rule in alerts:
        asked = re.findall(rf"{PREFIX}_(\w+)", rule["expr"])
        assert asked
        assert set(asked) <= made, rule["alert"]
