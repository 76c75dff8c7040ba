"""A student's config.json and tokenizer, without its weights, and how large it is."""

from __future__ import annotations

from pathlib import Path

from dcod import storage
from dcod.config import StudentConfig
from dcod.errors import UserError
from dcod.models import loading

SMALL_FILES = ["*.json", "*.jinja", "tokenizer.model", "*.txt"]


class UncheckedError(Exception):
    """It cannot be looked at from here."""


def small_files(student: StudentConfig) -> Path:
    """A folder with a student's configuration and tokenizer.

    Raises:
        UserError: there is no such student.
        UncheckedError: they cannot be had without fetching its weights, or without a network.
    """
    uri = student.model
    folder = Path(uri.removeprefix("file://"))
    if folder.is_dir():
        loading.check_folder(folder)
        return folder
    if uri.startswith("models:/") or storage.is_s3(uri):
        raise UncheckedError(f"{uri} would be fetched with its weights; give a local copy to look at it")
    loading.check_hub_name(uri)
    return loading.packaged_folder(uri) if uri in packaged() else _from_hub(uri, student.revision)


def on_this_machine(student: StudentConfig) -> Path | None:
    """As :func:`small_files` of a student that lies here; None where somebody else would have to be asked."""
    here = student.model in packaged() or Path(student.model.removeprefix("file://")).is_dir()
    return small_files(student) if here else None


def packaged() -> list[str]:
    """The students that a package brought, and that are in the cache: they need no hub."""
    return [name for name in loading.PACKAGED if loading.packaged_folder(name).is_dir()]


def parameters(folder: Path) -> int:
    """How many numbers the student has, by its config.json; no weight is read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return sum(parameter.numel() for parameter in model.parameters())


def _from_hub(repo: str, revision: str) -> Path:
    try:
        return loading.snapshot(repo, revision, SMALL_FILES)
    except UserError:
        raise
    except Exception as error:  # whatever a network does
        raise UncheckedError(f"the hub was not reached ({type(error).__name__})") from None
