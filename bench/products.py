"""`python -m bench.products`: float32 matrix products of a training step by torch's own and by oneDNN, side by side.

One thread, processor time; for each shape the forward product and the two of its gradient, and their relative errors
against float64.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import typer
from torch import Tensor

from dcod import storage
from dcod.models import matmul

RESULTS = Path(__file__).parent / "results" / "products.json"
# rows, in, out: of SmolLM2-135M at 1,024 tokens, a chunk of its head, and decoding of 64 answers and of one
SHAPES = ((1024, 576, 1536), (1024, 1536, 576), (1024, 576, 576), (336, 576, 49_152), (64, 576, 576), (1, 576, 576))
Product = Callable[[Tensor, Tensor], Tensor]
WAYS: dict[str, Product] = {"torch": lambda rows, weight: rows @ weight.T, "oneDNN": matmul.product}


def rate(multiply: Product, rows: Tensor, weight: Tensor, seconds: float) -> float:
    """GFLOP a processor second."""
    multiply(rows, weight)
    began, runs = time.process_time(), 0
    while (spent := time.process_time() - began) < seconds:
        multiply(rows, weight)
        runs += 1
    return 2.0 * rows.shape[0] * rows.shape[1] * weight.shape[0] * runs / spent / 1e9


def error(multiply: Product, rows: Tensor, weight: Tensor) -> float:
    exact = rows.double() @ weight.double().T
    return float((multiply(rows, weight) - exact).norm() / exact.norm())


def main(seconds: float = 0.5, rounds: int = 3, results: Path = RESULTS) -> None:
    """Measures and writes the rates, the best of some rounds in which both take turns."""
    torch.set_num_threads(1)
    table: list[dict[str, Any]] = []
    for n, i, o in SHAPES:
        rows, weight, grad = torch.randn(n, i), torch.randn(o, i), torch.randn(n, o)
        kinds = {"forward": (rows, weight), "to the input": (grad, weight.T), "to the weight": (grad.T, rows.T)}
        for kind, pair in kinds.items():
            measured = [{name: rate(way, *pair, seconds) for name, way in WAYS.items()} for _ in range(rounds)]
            gflops = {name: round(max(row[name] for row in measured)) for name in WAYS}
            errors = {name: float(f"{error(way, *pair):.1e}") for name, way in WAYS.items()}
            table.append({"shape": [n, i, o], "product": kind, "gflops": gflops, "relative_error": errors})
            print(table[-1], flush=True)
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, 1 thread",
        "used": matmul.faster(),
        "products": table,
    }
    storage.write_json(results, found)


if __name__ == "__main__":
    typer.run(main)
