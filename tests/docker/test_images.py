"""The images: linted, locked by hash, without rights; and everything that the Dockerfile copies reaches the build."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
IMAGES = ("cpu", "gpu", "vllm", "mlflow")


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
    assert not any(step.startswith("HEALTHCHECK") for step in steps), "it is a batch, or Kubernetes probes it"
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


@pytest.mark.parametrize(("image", "least"), [("cpu", 140), ("gpu", 160), ("vllm", 250), ("mlflow", 90)])
def test_every_package_is_locked_by_hash(image: str, least: int) -> None:
    lines = (ROOT / "docker" / f"{image}.hashes").read_text(encoding="utf-8").splitlines()[1:]
    assert len(lines) >= least
    for line in lines:
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+( --hash=sha256:[0-9a-f]{64})+", line), line
    installs = [step for step in stages()[f"build-{image}"][1] if step.startswith("RUN")]
    assert any(f"--require-hashes --requirement {image}.hashes" in step for step in installs)
    commands = [command for step in installs for command in step.split("&&") if "pip install" in command]
    assert commands
    assert all("--no-deps" in command for command in commands)


@pytest.mark.parametrize("image", IMAGES)
def test_the_hashes_are_those_of_all_files(image: str) -> None:
    """So that another processor, or a newer Python, installs from the same lock."""
    lines = (ROOT / "docker" / f"{image}.hashes").read_text(encoding="utf-8").splitlines()[1:]
    counts = {line.split("==")[0]: line.count(" --hash=") for line in lines}
    assert all(counts[name] >= 20 for name in ("numpy", "pyyaml", "markupsafe"))  # a file a platform and Python
    assert len([name for name, count in counts.items() if count > 1]) > 0.8 * len(counts)


def test_images_and_environment_hold_the_same_versions() -> None:
    lock = pins("cpu.lock")
    for file, least in (("cpu.hashes", 140), ("gpu.hashes", 140), ("mlflow.hashes", 90)):
        shared = {name: version for name, version in pins(file).items() if name in lock}
        assert len(shared) >= least
        assert shared == {name: lock[name] for name in shared}
    assert not {"pytest", "moto", "mypy"} & (pins("cpu.hashes").keys() | pins("gpu.hashes").keys())


def test_gpu_images_have_the_cuda_build_and_the_cpu_image_has_not() -> None:
    assert "torch" not in pins("cpu.hashes")  # its one package without a hash
    assert not [name for name in pins("cpu.hashes") if name.startswith("nvidia-")]
    for file in ("gpu.hashes", "vllm.hashes"):
        assert "torch" in pins(file)
        assert [name for name in pins(file) if name.startswith("nvidia-")]


def test_the_server_has_an_image_without_torch_and_kubeflow() -> None:
    held = pins("mlflow.hashes").keys()
    assert {"mlflow", "flask-wtf", "psycopg2-binary", "boto3", "prometheus-flask-exporter"} <= held
    assert not {"torch", "transformers", "kfp", "kubernetes"} & held
    assert "psycopg2-binary" not in pins("cpu.hashes")


def test_each_environment_is_made_from_its_own_lock_alone() -> None:
    """So that one lock that moves builds one environment anew."""
    for name, (_, steps) in stages().items():
        locks = {word for step in steps if step.startswith("COPY docker/") for word in step.split() if "hashes" in word}
        own = "docker/setuptools.hashes" if name == "build" else f"docker/{name.removeprefix('build-')}.hashes"
        assert locks == ({own} if name.startswith("build") else set()), name
    assert (ROOT / "docker" / "setuptools.hashes").read_text(encoding="utf-8").splitlines()[1] in (
        ROOT / "docker" / "cpu.hashes"
    ).read_text(encoding="utf-8").splitlines()


DIGEST = f"sha256:{'4' * 64}"


def beside(folder: Path, docker: str) -> tuple[Path, dict[str, str]]:
    """A copy of what the scripts read and write, and an environment with a `docker` that does as a script says."""
    copy = folder / "copy"
    for name in ("docker", "k8s"):
        shutil.copytree(ROOT / name, copy / name)
    (copy / "dcod").mkdir()
    shutil.copy(ROOT / "dcod" / "__init__.py", copy / "dcod")
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    commit = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--allow-empty", "-m", "t"]
    subprocess.run(commit, cwd=copy, check=True)
    programs = folder / "bin"
    programs.mkdir()
    (programs / "docker").write_text(f"#!/bin/sh\n{docker}\n", encoding="utf-8")
    (programs / "docker").chmod(0o755)
    return copy, {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "LOG": str(folder / "log")}


def test_bases_are_pinned_to_digests_and_anew(tmp_path: Path) -> None:
    copy, environment = beside(tmp_path, f'echo "$*" >>"$LOG"; echo {DIGEST}')
    for _ in range(2):
        subprocess.run([copy / "docker" / "pin.sh"], env=environment, check=True, capture_output=True)
    asked = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert len(asked) == 8
    assert asked[:4] == asked[4:], "the second time asks for the same tags"
    assert [line.rpartition(" ")[2] for line in asked[:4]] == [
        "docker.io/library/python:3.11-slim-bookworm",
        "docker.io/library/postgres:17.6-alpine",
        "docker.io/chrislusf/seaweedfs:4.48",
        "docker.io/library/postgres:17.6-alpine",
    ]
    dockerfile = (copy / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert f"ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm@{DIGEST}\n" in dockerfile
    for overlay, count in (("dev", 2), ("prod", 1)):
        made = yaml.safe_load((copy / "k8s" / "overlays" / overlay / "kustomization.yaml").read_text(encoding="utf-8"))
        pinned = [each for each in made["images"] if each.get("digest") == DIGEST]
        assert len(pinned) == count
        assert all("newTag" not in each for each in pinned)
        assert [each["newTag"] for each in made["images"] if each not in pinned] == ["0.1.0"]


def test_a_registry_that_does_not_answer_pins_nothing(tmp_path: Path) -> None:
    copy, environment = beside(tmp_path, "echo unauthorized")
    done = subprocess.run([copy / "docker" / "pin.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no digest, but: unauthorized" in done.stderr
    assert (copy / "docker" / "Dockerfile").read_bytes() == DOCKERFILE.read_bytes()


def test_every_image_is_built_under_its_name(tmp_path: Path) -> None:
    copy, environment = beside(tmp_path, 'echo "$*" >>"$LOG"')
    script = [copy / "docker" / "build.sh", "registry.example.com/", "--push"]
    subprocess.run(script, env=environment | {"PLATFORMS": "linux/arm64"}, check=True)
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    found = {line.split("--target ")[1].split()[0]: line for line in lines}
    assert set(found) == set(IMAGES)
    for image, name in (("cpu", "dcod:0"), ("gpu", "dcod:0"), ("vllm", "dcod:0"), ("mlflow", "dcod-mlflow:0")):
        assert f"--tag registry.example.com/{name}" in found[image]
        assert found[image].endswith("--push .")
        platform = "linux/arm64" if image in ("cpu", "mlflow") else "linux/amd64"
        assert f"--platform {platform} " in found[image]
    assert "-gpu " in found["gpu"]


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
