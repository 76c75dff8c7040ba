"""The pipeline as the YAML that a cluster takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcod.config import Config


def build(config: Config, parallelism: int = 0) -> Any:
    """The pipeline object that a configuration names; it runs here and on a cluster alike.

    Args:
        config: as settled.
        parallelism: so many trainings at once; 0: as many as there is room for.
    """
    from dcod_pipelines import distill, retrain

    return {"distill": distill, "retrain": retrain}[config.pipeline].build(config, parallelism)


def compile_to(out: Path, config: Config, objects: bool = False) -> None:
    """Compiles a configuration's pipeline for its cluster; two compiles of the same code are byte-identical.

    Args:
        out: the YAML file: the pipeline, and what Kubernetes is told about its pods.
        config: says which pipeline, and what the cluster is like.
        objects: as a Pipeline and a PipelineVersion of Kubernetes, for a Kubeflow that keeps its pipelines so (2.14
            and newer) and a repository that is applied to it; named as `dcod submit` names them.

    Raises:
        UserError: the file cannot be written, is there and not dcod's, or its name does not end in .yaml.
    """
    from dcod import storage
    from dcod.errors import UserError
    from dcod.storage import marks, outputs
    from dcod_pipelines import versions

    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {out}: must end in .yaml")
    outputs.check_file(out)
    from kfp import compiler

    with storage.scratch() as scratch:
        file = scratch / "pipeline.yaml"
        compiler.Compiler().compile(build(config), str(file))
        text = file.read_text(encoding="utf-8")
        if objects:
            from kfp.compiler.compiler_utils import KubernetesManifestOptions

            name, version = versions.pipeline_name(config), versions.version_name(config, file.read_bytes())
            named = KubernetesManifestOptions(
                pipeline_name=name,
                pipeline_version_name=f"{name}-{version}"[:253],
                pipeline_version_display_name=version,
                namespace=config.cluster.namespace,
                include_pipeline_manifest=True,
            )
            compiler.Compiler().compile(
                build(config), str(file), kubernetes_manifest_format=True, kubernetes_manifest_options=named
            )
            text = file.read_text(encoding="utf-8")
    outputs.write_file(out, f"# {marks.FILE_MARK}\n{text}")
