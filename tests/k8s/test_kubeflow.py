"""The manifests beside a real Kubeflow: its labels and policies, both kinds of it, and parts that one may leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.test_manifests import Manifest, example, of_kind, rendered_from, validate

pytestmark = pytest.mark.service
ROOT = Path(__file__).resolve().parents[2]
POLICIES = ROOT / "tests" / "data" / "kubeflow" / "kubeflow-network-policies.yaml"
LABEL = "app.kubernetes.io/part-of"
RENDERED = ("overlays/dev", "overlays/prod", "runs", "single-user", "trainer")
# What a pipeline's pods must reach in Kubeflow's namespace: the API, the metadata, the store of artifacts.
REACHED = ("ml-pipeline", "metadata-grpc-server", "minio")


def kubeflow_policies() -> list[Manifest]:
    found = [item for item in yaml.safe_load_all(POLICIES.read_text(encoding="utf-8")) if item]
    assert len(found) == 22
    return found


def admits(policy: Manifest, labels: dict[str, str]) -> bool:
    """Whether a policy lets pods of a namespace with these labels in."""
    for rule in policy["spec"].get("ingress", []):
        for peer in rule.get("from", [{}]):
            selector = peer.get("namespaceSelector")
            if selector is None:
                continue
            expressions = [
                {"key": key, "operator": "In", "values": [value]}
                for key, value in selector.get("matchLabels", {}).items()
            ] + selector.get("matchExpressions", [])
            if all(e["operator"] == "In" and labels.get(e["key"]) in e["values"] for e in expressions):
                return True
    return False


def test_no_manifest_touches_the_label_that_kubeflow_admits_namespaces_by() -> None:
    profile = {"kubernetes.io/metadata.name": "dcod-runs", LABEL: "kubeflow-profile"}
    named = {policy["metadata"]["name"]: policy for policy in kubeflow_policies()}
    wanted = [name for name in named if name.startswith(REACHED)]
    assert len(wanted) >= 3
    for name in wanted:
        if "ui" in name:
            continue
        assert admits(named[name], profile), name
        assert not admits(named[name], profile | {LABEL: "dcod"}), name
    for folder in RENDERED:
        for item in of_kind(rendered_from(ROOT / "k8s" / folder), "Namespace"):
            assert item["metadata"]["name"] == "dcod", folder  # that of the runs is Kubeflow's to make


def test_what_is_added_to_a_profile() -> None:
    documents = rendered_from(ROOT / "k8s" / "runs")
    for item in documents:
        validate(item)
        assert item["metadata"].get("namespace") in ("dcod-runs", None)
        assert LABEL not in item["metadata"].get("labels", {})
    bound = {item["roleRef"]["name"]: item["subjects"] for item in of_kind(documents, "RoleBinding")}
    assert bound.keys() == {"dcod-pipeline", "kubeflow-pipelines-edit"}
    assert {subject["namespace"] for subjects in bound.values() for subject in subjects} == {"dcod-runs"}
    (profile,) = example("profile.yaml")
    assert (profile["kind"], profile["metadata"]["name"]) == ("Profile", "dcod-runs")


def test_what_a_single_user_adds_to_kubeflow_holds_none_of_its_pods() -> None:
    documents = rendered_from(ROOT / "k8s" / "single-user")
    assert {item["kind"] for item in documents} == {"ServiceAccount", "Role", "RoleBinding", "PriorityClass"}
    assert {item["metadata"].get("namespace", "kubeflow") for item in documents} == {"kubeflow"}
    (binding,) = of_kind(documents, "RoleBinding")
    assert [subject["namespace"] for subject in binding["subjects"]] == ["kubeflow"]


def reached(policies: list[Manifest], port: int) -> list[Any]:
    """Whom pods may ask on a port."""
    rules = [rule for policy in policies for rule in policy["spec"].get("egress", [])]
    return [peer for rule in rules for peer in rule["to"] if port in {each["port"] for each in rule.get("ports", [])}]


def test_the_policies_fit_other_networks_and_can_be_left_out(tmp_path: Path) -> None:
    folder = ROOT / "k8s" / "components"
    policies = list(yaml.safe_load_all((folder / "runs-network" / "network-policies.yaml").read_text(encoding="utf-8")))
    for policy in policies:
        validate(policy)
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in reached(policies, 53)
    assert "openshift-dns" in str(reached(policies, 5353))
    proxy = [p for p in policies if p["spec"]["podSelector"] == {"matchLabels": {"app": "ml-pipeline-ui-artifact"}}]
    assert len(proxy) == 1
    (cilium,) = yaml.safe_load_all((folder / "runs-network-cilium" / "cilium.yaml").read_text(encoding="utf-8"))
    assert cilium["spec"]["egress"] == [{"toEntities": ["kube-apiserver"]}]
    for each in ("base", "runs"):
        assert of_kind(rendered_from(ROOT / "k8s" / each), "NetworkPolicy") == []
    both = ROOT / "k8s" / "overlays" / "dev" / "kustomization.yaml"
    named = yaml.safe_load(both.read_text(encoding="utf-8"))["components"]
    assert named == ["../../components/services-network", "../../components/runs-network", "network"]


def test_mlflow_has_room_for_a_shard_of_every_worker() -> None:
    """And does not need it: weights go past it, by addresses that it signs and a run can reach."""
    for overlay in ("dev", "prod"):
        documents = rendered_from(ROOT / "k8s" / "overlays" / overlay)
        (settings,) = (item["data"] for item in of_kind(documents, "ConfigMap") if item["metadata"]["name"] == "mlflow")
        (deployment,) = (d for d in of_kind(documents, "Deployment") if d["metadata"]["name"] == "mlflow")
        volumes = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["volumes"]}
        room = int(volumes["tmp"]["emptyDir"]["sizeLimit"].removesuffix("Gi")) * 2**30
        assert room >= 2 * 10**9 * int(settings["MLFLOW_WORKERS"]), overlay
        for way in ("UPLOAD", "DOWNLOAD"):
            assert settings[f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}"] == "true"
        host = settings["MLFLOW_S3_ENDPOINT_URL"].split("://")[1].split(":")[0]
        assert "." in host, "a name of one part means nothing in another namespace"


def test_a_site_builds_on_prod_from_outside_and_argo_cd_keeps_it() -> None:
    """Nothing that is an example of `prod` is left, and no object is lost or added."""
    site, prod = (rendered_from(ROOT / "k8s" / folder) for folder in ("examples/site", "overlays/prod"))
    assert [(i["kind"], i["metadata"]["name"]) for i in site] == [(i["kind"], i["metadata"]["name"]) for i in prod]
    text = yaml.safe_dump_all(site)
    assert text.count("site.example.org") >= 7
    for left in ("mlflow.example.com", "registry.example.com", "example-dcod", "10.0.0.0/8"):
        assert left not in text, left
    for document in site:
        validate(document)
    (application,) = example("argocd.yaml")
    assert (application["apiVersion"], application["kind"]) == ("argoproj.io/v1alpha1", "Application")
    kinds = {item["kind"] for item in site}
    assert not kinds & {"Secret", "Profile"}, "pruned with the repository"


def test_a_schedule_from_a_repository_is_one_that_dcod_takes() -> None:
    """The job is a valid one, its command is a command, and its configuration is one for a cluster."""
    import shlex

    from dcod.config import parse_config
    from dcod.config.reach import for_cluster
    from dcod_pipelines.cron import parse

    held, job = example("schedule.yaml")
    for document in (held, job):
        validate(document)
    config = for_cluster(parse_config(held["data"]["mine.yaml"], (), origin="schedule.yaml"))
    assert config.pipeline == "retrain"
    assert config.promote.lease == "s3://dcod/work/promotion.lease"
    spec = job["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == "dcod-submit"
    (container,) = spec["containers"]
    words = shlex.split(container["command"][-1].splitlines()[-1])
    assert words[:4] == ["exec", "dcod", "schedule", config.name]
    assert parse(words[words.index("--cron") + 1])
    assert words[-1] == "/config/mine.yaml"
    (source,) = next(volume for volume in spec["volumes"] if volume["name"] == "token")["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"
