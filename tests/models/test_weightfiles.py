"""Model folders that name what they should not: one line, and nothing is loaded; by hub and package alike."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dcod.errors import UserError
from dcod.models import loading, weightfiles
from dcod.traces import prompts

INDEX = "model.safetensors.index.json"


def name(folder: Path, *names: object) -> None:
    """An index instead of the one file: each name holds a tensor."""
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    write(folder, json.dumps({"weight_map": {f"t{number}": value for number, value in enumerate(names)}}))


def write(folder: Path, text: str) -> None:
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / "part.safetensors").touch()
    (folder / INDEX).write_text(text)


def configure(folder: Path, file: str = "config.json", **values: object) -> None:
    read = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(read | values))


def link(folder: Path, target: Path) -> None:
    target.write_bytes(b"")
    (folder / "out.safetensors").symlink_to(target)
    name(folder, "part.safetensors", "out.safetensors")


def pickled(folder: Path, file: str) -> None:
    class Boom:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {folder.parent / 'EXECUTED'}",)

    (folder / file).write_bytes(pickle.dumps(Boom()))


def both(folder: Path) -> None:
    """transformers passes the index over; it is one that no folder should have all the same."""
    (folder / INDEX).write_text(json.dumps({"weight_map": {"t": "../x.bin"}}))


TRIALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pickle": (lambda f: (pickled(f, "pytorch_model.bin"), name(f, "pytorch_model.bin")), "only .*safetensors"),
    "a pickle with no ending": (lambda f: (pickled(f, "weights"), name(f, "weights")), "only .*safetensors"),
    "an absolute path": (lambda f: name(f, "/etc/x.safetensors"), "no plain name"),
    "above": (lambda f: name(f, "../x.safetensors"), "no plain name"),
    "below": (lambda f: name(f, "deep/x.safetensors"), "no plain name"),
    "backslashes": (lambda f: name(f, "..\\x.safetensors"), "no plain name"),
    "no name": (lambda f: name(f, ""), "no plain name"),
    "a null character": (lambda f: name(f, "x\0.safetensors"), "no plain name"),
    "a number": (lambda f: name(f, 7), "no plain name"),
    "a list": (lambda f: name(f, ["part.safetensors"]), "no plain name"),
    "a link out": (lambda f: link(f, f.parent / "outside.safetensors"), "link out of the folder"),
    "a link to a device": (
        lambda f: ((f / "d.safetensors").symlink_to("/dev/zero"), name(f, "d.safetensors")),
        "not there|link out",
    ),
    "a link to itself": (
        lambda f: ((f / "l.safetensors").symlink_to(f / "l.safetensors"), name(f, "l.safetensors")),
        "not there",
    ),
    "a missing file": (lambda f: name(f, "part.safetensors", "gone.safetensors"), "not there; the folder is not whole"),
    "a long name": (lambda f: name(f, "x" * 5000 + ".safetensors"), "not there"),
    "no JSON": (lambda f: write(f, "{"), "cannot be read as JSON"),
    "deep JSON": (lambda f: write(f, "[" * 100_000), "cannot be read as JSON"),
    "no UTF-8": (lambda f: (write(f, ""), (f / INDEX).write_bytes(b"\xff\xfe{}")), "cannot be read as JSON"),
    "a list of tensors": (lambda f: write(f, "[]"), "no JSON object"),
    "no map": (lambda f: write(f, "{}"), "no weight_map"),
    "an empty map": (lambda f: write(f, '{"weight_map": {}}'), "no weight_map"),
    "a folder": (lambda f: (write(f, ""), (f / INDEX).unlink(), (f / INDEX).mkdir()), "cannot be read as JSON"),
    "huge": (lambda f: (write(f, ""), os.truncate(f / INDEX, 2**40)), "larger than 64 MiB"),
    "beside whole weights": (both, "no plain name"),
    "another index": (lambda f: (f / f"x.{INDEX}").write_text('{"weight_map": {"t": "x.bin"}}'), "only .*safetensors"),
    "named by the configuration": (lambda f: configure(f, transformers_weights="../x.safetensors"), "no plain name"),
    "a pickle by the configuration": (lambda f: configure(f, transformers_weights="x.bin"), "only .*safetensors"),
    "an adapter": (
        lambda f: configure(f, "adapter_config.json", base_model_name_or_path="../other", peft_type="LORA"),
        "holds an adapter",
    ),
}


@pytest.fixture
def folder(tmp_path: Path, tiny_student: Path) -> Path:
    return Path(shutil.copytree(tiny_student, tmp_path / "model"))


def test_the_trials_are_all_here() -> None:
    assert len(TRIALS) == 28


@pytest.mark.parametrize("trial", TRIALS)
def test_refused_in_one_line(trial: str, folder: Path) -> None:
    make, text = TRIALS[trial]
    make(folder)
    with pytest.raises(UserError, match=text) as caught:
        loading.resolve(str(folder))
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600
    assert not (folder.parent / "EXECUTED").exists()


def test_in_parts_it_loads(folder: Path) -> None:
    """A sound index: names of tensors and a file of the folder, a link inside of it, and pickles passed over."""
    model = loading.load(loading.resolve(str(folder)))
    expected = model.get_input_embeddings().weight.clone()
    (folder / "model.safetensors").rename(folder / "stored.safetensors")
    (folder / "part.safetensors").symlink_to("stored.safetensors")
    names = [key for key in model.state_dict() if key != "lm_head.weight"]
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, "part.safetensors")}))
    for file in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl"):
        pickled(folder, file)
    again = loading.load(loading.resolve(str(folder)))
    assert (again.get_input_embeddings().weight == expected).all()
    assert not (folder.parent / "EXECUTED").exists()


def test_the_hub_s_links_to_its_blobs_are_its_own(tmp_path: Path, tiny_student: Path) -> None:
    repo = tmp_path / "models--owner--name"
    snapshot = repo / "snapshots" / "0123"
    shutil.copytree(tiny_student, snapshot)
    (repo / "blobs").mkdir()
    (snapshot / "model.safetensors").rename(repo / "blobs" / "abcd")
    (snapshot / "part.safetensors").symlink_to("../../blobs/abcd")
    (snapshot / INDEX).write_text('{"weight_map": {"t": "part.safetensors"}}')
    assert loading.resolve(str(snapshot)) == snapshot
    (snapshot / "part.safetensors").unlink()
    (tmp_path / "outside").write_bytes(b"")
    (snapshot / "part.safetensors").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="link out of the folder"):
        loading.resolve(str(snapshot))


@pytest.mark.parametrize("way", ["hub", "package", "registry"])
def test_whatever_way_it_comes(way: str, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name(folder, "../x.bin")
    monkeypatch.setenv("DCOD_CACHE", str(tmp_path / "cache"))
    uri = {"hub": "owner/name", "package": next(iter(loading.PACKAGED)), "registry": "models:/name@champion"}[way]
    if way == "package":
        shutil.copytree(folder, tmp_path / "cache" / "models" / uri.replace("/", "--"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    with pytest.raises(UserError, match="no plain name"):
        loading.resolve(uri, registry=lambda _: folder)


def test_a_tokenizer_with_code_of_its_own_is_one_line(folder: Path) -> None:
    (folder / "own.py").write_text(f"open({str(folder.parent / 'EXECUTED')!r}, 'w')\nclass Own: ...\n")
    configure(
        folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}, tokenizer_class="OwnTokenizer"
    )
    with pytest.raises(UserError, match="its tokenizer cannot be loaded") as caught:
        prompts.load_tokenizer(loading.resolve(str(folder)))
    assert len(str(caught.value).splitlines()) == 1
    assert not (folder.parent / "EXECUTED").exists()


def test_the_configuration_is_bounded_as_well(folder: Path) -> None:
    os.truncate(folder / "config.json", 2**40)
    with pytest.raises(UserError, match=r"config\.json is larger than 64 MiB"):
        weightfiles.check(folder)
