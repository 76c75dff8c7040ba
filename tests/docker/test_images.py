"""The images: linted, locked by hash, without rights; and everything that the Dockerfile copies reaches the build."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
IMAGES = ("cpu", "gpu", "vllm")


def stages() -> dict[str, tuple[str, list[str]]]:
    """Name of each stage, what it is made from, and its instructions."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text(encoding="utf-8"))
    found: dict[str, tuple[str, list[str]]] = {}
    for line in filter(None, text.splitlines()):
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            found[match[2]] = (match[1], [])
        elif found and not line.startswith("#"):
            found[list(found)[-1]][1].append(line)
    return found


def pins(file: str) -> dict[str, str]:
    lines = (ROOT / "docker" / file).read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ")[0].split("==") for line in lines if not line.startswith("#"))


@pytest.mark.service
def test_the_dockerfile_is_clean() -> None:
    tool = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert tool, "`make test-services` installs hadolint"
    done = subprocess.run([tool, str(DOCKERFILE)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_no_rights_and_says_what_it_is(image: str) -> None:
    base, steps = stages()[image]
    assert base.startswith("runtime"), "an image must not be made from a stage that builds"
    assert steps[-1] == "USER 10001:10001"
    labels = next(step for step in steps if step.startswith("LABEL"))
    for key in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{key}=" in labels
    assert f"COPY --from=build-{image} /opt/dcod /opt/dcod" in steps


def test_only_images_with_a_gpu_carry_a_compiler() -> None:
    found = stages()
    carrying = {name for name, (_, steps) in found.items() if any("gcc" in step for step in steps)}
    assert carrying == {"build", "runtime-gpu"}
    assert {name for name in IMAGES if found[name][0] == "runtime-gpu"} == {"gpu", "vllm"}


@pytest.mark.parametrize(("image", "least"), [("cpu", 140), ("gpu", 160), ("vllm", 250)])
def test_every_package_is_locked_by_hash(image: str, least: int) -> None:
    lines = (ROOT / "docker" / f"{image}.hashes").read_text(encoding="utf-8").splitlines()[1:]
    assert len(lines) >= least
    for line in lines:
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+( --hash=sha256:[0-9a-f]{64})+", line), line
    installs = [step for step in stages()[f"build-{image}"][1] if step.startswith("RUN")]
    assert any(f"--require-hashes --requirement {image}.hashes" in step for step in installs)
    assert all("--no-deps" in command for step in installs for command in step.split("&&"))


@pytest.mark.parametrize("image", IMAGES)
def test_the_hashes_are_those_of_all_files(image: str) -> None:
    """So that another processor, or a newer Python, installs from the same lock."""
    lines = (ROOT / "docker" / f"{image}.hashes").read_text(encoding="utf-8").splitlines()[1:]
    counts = {line.split("==")[0]: line.count(" --hash=") for line in lines}
    assert all(counts[name] >= 20 for name in ("numpy", "pyyaml", "markupsafe"))  # a file a platform and Python
    assert len([name for name, count in counts.items() if count > 1]) > 0.8 * len(counts)


def test_images_and_environment_hold_the_same_versions() -> None:
    lock = pins("cpu.lock")
    for file in ("cpu.hashes", "gpu.hashes"):
        shared = {name: version for name, version in pins(file).items() if name in lock}
        assert len(shared) >= 140
        assert shared == {name: lock[name] for name in shared}
    assert {"flask-wtf", "psycopg2-binary"} <= pins("cpu.hashes").keys()  # the MLflow server's
    assert not {"pytest", "moto", "mypy"} & (pins("cpu.hashes").keys() | pins("gpu.hashes").keys())


def test_gpu_images_have_the_cuda_build_and_the_cpu_image_has_not() -> None:
    assert "torch" not in pins("cpu.hashes")  # its one package without a hash
    assert not [name for name in pins("cpu.hashes") if name.startswith("nvidia-")]
    for file in ("gpu.hashes", "vllm.hashes"):
        assert "torch" in pins(file)
        assert [name for name in pins(file) if name.startswith("nvidia-")]


def test_what_is_copied_is_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    copied: set[str] = set()
    for _, steps in stages().values():
        for step in steps:
            if step.startswith("COPY ") and "--from" not in step:
                copied.update(step.split()[1:-1])
    assert len(copied) >= 8
    for name in copied:
        assert (ROOT / name).exists(), name
        assert any(fnmatch.fnmatch(name, pattern) or name.startswith(f"{pattern}/") for pattern in kept), name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {"dcod", "components", "pipelines"}  # whose sources a wheel holds: tests/test_packaging.py
    assert folders | {"pyproject.toml", "setup.py", project["project"]["readme"], "LICENSE"} <= copied
