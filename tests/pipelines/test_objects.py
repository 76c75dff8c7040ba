"""The compiled pipeline as objects of Kubernetes, for a repository that is applied to a cluster."""

from __future__ import annotations

from pathlib import Path

import yaml

from dcod.config import parse_config
from dcod_pipelines import versions
from dcod_pipelines.compile import compile_to


def test_pipeline_and_version_are_what_submit_would_upload(tmp_path: Path) -> None:
    config = parse_config("{}", ["cluster.image=registry.example.org/dcod:7", "cluster.namespace=team"])
    plain, objects = tmp_path / "plain.yaml", tmp_path / "objects.yaml"
    compile_to(plain, config)
    compile_to(objects, config, objects=True)
    spec, platform = yaml.safe_load_all(plain.read_text())
    pipeline, version = yaml.safe_load_all(objects.read_text())
    assert [each["kind"] for each in (pipeline, version)] == ["Pipeline", "PipelineVersion"]
    assert {each["metadata"]["namespace"] for each in (pipeline, version)} == {"team"}
    assert pipeline["metadata"]["name"] == version["spec"]["pipelineName"] == versions.pipeline_name(config)
    assert version["spec"]["pipelineSpec"] == spec
    assert version["spec"]["platformSpec"] == platform
    compiled = plain.read_bytes().split(b"\n", 1)[1]  # without the mark
    assert version["spec"]["displayName"] == versions.version_name(config, compiled)
    assert len(version["metadata"]["name"]) <= 253
    again = tmp_path / "again.yaml"
    compile_to(again, config, objects=True)
    assert again.read_bytes() == objects.read_bytes()
