"""`make gpu-pack`: the checkout, and the wheels that a host with torch and transformers lacks, in one folder.

    build/gpu-pack/dcod/    what git tracks here, as it is in the working tree
    build/gpu-pack/wheels/  for the host's Python, installed by dcod/bench/gpu/run.sh into a folder of their own
    build/gpu-pack/WHEELS   which, in what version, and why

On the host: `dcod/bench/gpu/run.sh --out results`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[2]
MOST_MIB = 40
# What the host has, with whatever that needs.
HOST = (
    *(
        "torch",
        "transformers",
        "accelerate",
        "peft",
        "safetensors",
        "tokenizers",
        "pyarrow",
        "numpy",
        "scipy",
        "pandas",
    ),
    *("matplotlib", "jinja2", "pytest", "typer"),
)
# What training, scoring and evaluation import and the host lacks; a test blocks all that stands in neither list.
WHEELS = {
    "pydantic": "dcod's configuration",
    "pydantic-core": "pydantic, compiled for the host's Python",
    "annotated-types": "pydantic",
    "typing-inspection": "pydantic",
    "typing-extensions": "pydantic wants a newer one than torch does",
    "math-verify": "grading of formulas",
    "latex2sympy2-extended": "math-verify",
    "antlr4-python3-runtime": "latex2sympy2-extended",
    "joblib": "grading in several processes",
    "cloudpickle": "joblib",
    "zstandard": "scored traces from compressed files",
    "datasketch": "near duplicates, which scoring's stage imports",
    "trl": "the comparison",
    "liger-kernel": "the comparison",
    "datasets": "trl",
    "xxhash": "datasets",
    "dill": "datasets",
    "multiprocess": "datasets",
}
NOT_LOCKED = {"trl": "1.16.0", "liger-kernel": "0.8.5"}
GLIBC = ("2_28", "2_27", "2_17")


def versions() -> dict[str, str]:
    """Those of the lock, so that the rehearsal runs what the host will run."""
    lines = (ROOT / "docker" / "cpu.lock").read_text(encoding="utf-8").splitlines()
    locked = dict(line.split("==") for line in lines if "==" in line)
    named = {name.lower().replace("_", "-"): version for name, version in locked.items()}
    return {name: NOT_LOCKED.get(name) or named[name] for name in WHEELS}


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def download(folder: Path, python: str) -> None:
    """The wheels for a Python, without what they need: that is listed, or is on the host."""
    asked = [f"{name}=={version}" for name, version in versions().items()]
    platforms = [word for glibc in GLIBC for word in ("--platform", f"manylinux_{glibc}_x86_64")]
    platforms += ["--platform", "manylinux2014_x86_64", "--platform", "manylinux1_x86_64"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
    done = subprocess.run([*command, "--dest", str(folder), *asked], check=False)
    if done.returncode:
        raise SystemExit(f"gpu-pack: pip download for Python {python} failed; its last line names the wheel")


def main(
    python: Annotated[str, typer.Option(help="Of the host.")] = "3.12",
    out: Annotated[Path, typer.Option(help="The folder.")] = ROOT / "build" / "gpu-pack",
) -> None:
    """Gathers and says its size."""
    shutil.rmtree(out, ignore_errors=True)
    wheels, code = out / "wheels", out / "dcod"
    wheels.mkdir(parents=True)
    download(wheels, python)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0")[:-1]:
        if (ROOT / name).is_symlink() or (ROOT / name).is_file():  # two packages are links to their folders
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, code / name, follow_symlinks=False)
    found = versions()
    lines = [f"{name:24}{found[name]:12}{why}" for name, why in WHEELS.items()]
    (out / "WHEELS").write_text(f"for Python {python}, manylinux, x86_64\n" + "\n".join(lines) + "\n", encoding="utf-8")
    parts = {name: size(out / name) / 2**20 for name in ("wheels", "dcod")}
    whole = sum(parts.values())
    print(f"{out}: {whole:.1f} MiB ({', '.join(f'{name} {mib:.1f}' for name, mib in parts.items())})")
    if whole > MOST_MIB:
        raise SystemExit(f"gpu-pack: {whole:.1f} MiB are more than {MOST_MIB}")


if __name__ == "__main__":
    typer.run(main)
