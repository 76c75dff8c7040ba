"""How pipelines and their versions are called on a cluster: by code, image and what was compiled."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcod.config import Config

DIGITS = 8  # of a digest in a name


def pipeline_name(config: Config) -> str:
    """The name of a configuration's pipeline: of its experiment and kind."""
    return _plain(f"{config.cluster.experiment}-{config.pipeline}")[:100]


def version_name(config: Config, compiled: bytes) -> str:
    """The name of a version; the same code, image and configuration have the same one, anywhere.

    Args:
        config: the configuration.
        compiled: the pipeline as YAML, which holds pods and the form's first values.
    """
    from dcod.stages.catalogue import STAGES
    from dcod.stages.digests import code_digest

    code, whole = code_digest(*STAGES)[:DIGITS], hashlib.sha256(compiled).hexdigest()[:DIGITS]
    return f"code-{code}-image-{_plain(_image(config))[:40]}-pipeline-{whole}"  # Kubeflow takes 127 characters


def description(config: Config) -> str:
    """What a version is, for Kubeflow's page."""
    import dcod

    images = [config.cluster.image, config.cluster.gpu_image if config.cluster.gpu.count else ""]
    return f"dcod {dcod.__version__}; {config.name}; {', '.join(image for image in images if image)}"


def split_image(image: str) -> tuple[str, str]:
    """Name and tag (or digest) of an image; a colon in the registry's address is no tag."""
    if "@" in image:
        name, _, digest = image.partition("@")
        return name, digest
    head, slash, last = image.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{head}{slash}{name}", tag


def _image(config: Config) -> str:
    """The digest of the image where it is named by one, else its tag."""
    import dcod

    _, reference = split_image(config.cluster.image)
    return reference.removeprefix("sha256:")[:DIGITS] if "sha256:" in reference else reference or dcod.__version__


def _plain(text: str) -> str:
    """Small letters, digits and dashes, as Kubernetes wants names."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "dcod"
