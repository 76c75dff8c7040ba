"""What machine this is, and whether it will do: `python -m bench.gpu.card` refuses in one line, with exit code 2."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

LEAST_GIB = 70  # 16 bytes a weight of the 1.5B shape, and its activations
NO_GPU = "no GPU is here; on a CPU: --device cpu"
PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "triton", "peft", "trl", "liger-kernel",
            "datasets", "numpy", "pyarrow", "pydantic")  # fmt: skip


def refusal(device: str, least_gib: float = LEAST_GIB) -> str:
    """Why this machine will not do; empty: it will."""
    import torch

    if device == "cpu":
        return ""
    if not torch.cuda.is_available():
        if not os.path.exists("/dev/nvidia0") and _smi("name") == "":  # noqa: PTH110
            return NO_GPU
        return (
            f"torch {torch.__version__} (CUDA {torch.version.cuda}) cannot use the GPU with driver "
            f"{_smi('driver_version') or 'unknown'}; a newer driver, or a torch for an older CUDA, would do"
        )
    name, (major, minor) = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    if major < 8:
        return f"{name} (compute capability {major}.{minor}) lacks bfloat16; take one of capability 8.0 or more"
    gib = torch.cuda.get_device_properties(0).total_memory / 2**30
    if gib < least_gib:
        return f"{name} has {gib:.0f} GiB of memory, this needs {least_gib:.0f}; take a larger card"
    return ""


def facts(device: str) -> dict[str, Any]:
    """Machine, card, driver, versions and date."""
    import torch

    found: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": device,
        "cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        found |= {
            "card": card.name,
            "memory_gib": round(card.total_memory / 2**30, 1),
            "multiprocessors": card.multi_processor_count,
            "driver": _smi("driver_version"),
            "cuda": torch.version.cuda,
        }
    return found


def matmul_rate(device: str, size: int, seconds: float = 1.0) -> dict[str, float]:
    """FLOP/s of bfloat16 products of random square matrices, and bytes a second of a copy (read and written)."""
    import torch

    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    big = torch.empty(size * size * 8, device=device, dtype=torch.bfloat16)
    product = torch.empty_like(left)
    return {
        "flops": 2.0 * size**3 / timed(lambda: torch.mm(left, right, out=product), device, seconds),
        "bytes_per_second": 2.0 * big.nbytes / timed(big.clone, device, seconds),
    }


def timed(work: Any, device: str, seconds: float) -> float:
    """Median seconds of a call over a window of some seconds, after three that warm up."""
    import statistics
    import time

    import torch

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        work()
    wait()
    took: list[float] = []
    end = time.perf_counter() + seconds
    while len(took) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        for _ in range(5):
            work()
        wait()
        took.append((time.perf_counter() - began) / 5)
    return statistics.median(took)


def has(package: str) -> bool:
    """Whether a package is installed."""
    return _version(package) != "absent"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _smi(what: str) -> str:
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader"],
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().split("\n")[0] if done.returncode == 0 else ""


def main(device: str) -> int:
    """Exit code."""
    why = refusal(device)
    if why:
        print(f"bench/gpu: {why}", file=sys.stderr)
    return 2 if why else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
