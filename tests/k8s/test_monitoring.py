"""What Prometheus is given: added to an overlay from outside, valid by its operator's schemas, about what is there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from tests.fake_kubernetes import RefusedError
from tests.fake_kubernetes import validate as validate_custom
from tests.k8s.test_manifests import Manifest, containers, of_kind, rendered_from, validate

pytestmark = pytest.mark.service
ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = {"ServiceMonitor": "servicemonitors.v0.93.0", "PrometheusRule": "prometheusrules.v0.93.0"}
# Of kube-state-metrics, docs/metrics/workload (112ec60209); all of them stable.
STATE = {
    "kube_deployment_status_replicas_available": {"namespace", "deployment"},
    "kube_cronjob_status_last_successful_time": {"namespace", "cronjob"},
    "kube_cronjob_created": {"namespace", "cronjob"},
}


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """A site's overlay on another's, with the components, and an image by another name."""
    folder = tmp_path_factory.mktemp("site")
    place = {name: os.path.relpath(ROOT / "k8s" / name, folder.resolve()) for name in ("examples/site", "components")}
    overlay = {
        "resources": [place["examples/site"]],
        "components": [f"{place['components']}/monitoring", f"{place['components']}/monitoring-network"],
        "images": [{"name": "registry.site.example.org/team/dcod-mlflow", "newTag": "0.1.0-site.2"}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    return rendered_from(folder)


def test_every_object_is_valid_and_a_wrong_one_is_caught(monitored: list[Manifest]) -> None:
    for item in monitored:
        if item["kind"] in SCHEMAS:
            validate_custom(item, SCHEMAS[item["kind"]])
        else:
            validate(item)
    (monitor,) = of_kind(monitored, "ServiceMonitor")
    monitor = monitor | {"spec": monitor["spec"] | {"endpoint": []}}
    with pytest.raises(RefusedError, match=r"unknown field .*endpoint"):
        validate_custom(monitor, SCHEMAS["ServiceMonitor"])


def test_the_figures_are_shown_on_a_port_that_prometheus_finds_and_may_reach(monitored: list[Manifest]) -> None:
    (monitor,) = of_kind(monitored, "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    (service,) = (s for s in of_kind(monitored, "Service") if s["metadata"]["name"] == "mlflow")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["namespace"] == service["metadata"]["namespace"]
    ports = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}
    assert ports == {"http": "http", "metrics": "metrics"}
    (deployment,) = (d for d in of_kind(monitored, "Deployment") if d["metadata"]["name"] == "mlflow")
    server, exporter = containers(deployment["spec"]["template"]["spec"])
    (port,) = exporter["ports"]
    assert port["name"] == ports[endpoint["port"]]
    assert exporter["command"][-1] == str(port["containerPort"])
    (policy,) = (p for p in of_kind(monitored, "NetworkPolicy") if p["metadata"]["name"] == "mlflow-from-prometheus")
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= deployment["spec"]["selector"]["matchLabels"].items()
    assert policy["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
    assert exporter["image"] == server["image"] == "registry.site.example.org/team/dcod-mlflow:0.1.0-site.2"


def test_the_exporter_only_reads_and_its_end_takes_no_mlflow_away(monitored: list[Manifest]) -> None:
    (deployment,) = (d for d in of_kind(monitored, "Deployment") if d["metadata"]["name"] == "mlflow")
    server, exporter = containers(deployment["spec"]["template"]["spec"])
    written = {each["name"]: each["value"] for each in server["env"] if "value" in each}["MLFLOW_EXPOSE_PROMETHEUS"]
    assert exporter["command"][-2] == written
    shared = {each["mountPath"]: each for each in exporter["volumeMounts"]}
    assert shared.keys() == {written}
    assert shared[written]["readOnly"] is True
    assert {"name": shared[written]["name"], "mountPath": written} in server["volumeMounts"]
    assert exporter["securityContext"] == server["securityContext"]
    assert "readinessProbe" not in exporter
    assert "env" not in exporter
    assert "envFrom" not in exporter, "it needs no secret"


def test_alerts_ask_for_what_is_there(monitored: list[Manifest]) -> None:
    """Figures of kube-state-metrics, by their own labels, about objects of ours; for MLflow's see tests/services."""
    ours = {(item["kind"].lower(), item["metadata"].get("namespace"), item["metadata"]["name"]) for item in monitored}
    (rules,) = of_kind(monitored, "PrometheusRule")
    found = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    asked = [match for rule in found for match in re.findall(r"\b(kube_\w+)\{([^}]*)\}", rule["expr"])]
    assert len(found) == 4
    assert {name for name, _ in asked} == STATE.keys()
    for name, selector in asked:
        labels = dict(re.findall(r'(\w+)="([^"]*)"', selector))
        assert labels.keys() == STATE[name]
        (kind,) = labels.keys() - {"namespace"}
        assert (kind, labels["namespace"], labels[kind]) in ours


def test_no_overlay_needs_the_operator() -> None:
    for overlay in ("dev", "prod"):
        assert of_kind(rendered_from(ROOT / "k8s" / "overlays" / overlay), *SCHEMAS) == []
