"""All steps, the most important first, each in a process of its own with a time limit; see `bench/gpu/run.sh`.

`results.json` and `RESULTS.md` are written after every step, so a run that is cut off keeps what it had.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.gpu import card, report

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Part:
    """One step: what runs, and the most seconds it may take."""

    name: str
    seconds: int
    arguments: tuple[str, ...]


EIGHT_MINUTES = 480
PARTS = (  # of the limits together, the last ones get what is left
    Part("tests", 130, ("pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider", "--durations=8", "tests/gpu")),
    Part("training 1.5B", 180, ("bench.gpu.training", "qwen2.5-1.5b")),
    Part("scoring 1.5B", 50, ("bench.gpu.scoring", "qwen2.5-1.5b", "usual")),
    Part("training 0.5B", 60, ("bench.gpu.training", "qwen2.5-0.5b")),
    Part("curves", 45, ("bench.gpu.curves",)),
    Part("noise", 60, ("bench.gpu.noise",)),
    Part("static 1.5B", 90, ("bench.gpu.scoring", "qwen2.5-1.5b", "static")),
    Part("study", 60, ("bench.gpu.study",)),
)


def environment(device: str, quick: bool, out: Path) -> dict[str, str]:
    """Of a step."""
    own = {"GPU_BENCH_DEVICE": device, "GPU_BENCH_QUICK": "1" if quick else "0", "GPU_BENCH_OUT": str(out)}
    if device == "cpu":
        own["CUDA_VISIBLE_DEVICES"] = ""
    return {**os.environ, **own}


def run(part: Part, device: str, quick: bool, out: Path, limit: float) -> dict[str, Any]:
    """What a step found, how it ended, and how long it took; its last lines where it did not end well."""
    place, log = out / f"{part.name.replace(' ', '-')}.json", out / "log.txt"
    arguments = list(part.arguments)
    if part.name == "tests":
        arguments += [f"--junit-xml={place.with_suffix('.xml')}"]
        arguments += ["-n", "4"] if device == "cuda" and card.has("pytest-xdist") else []
    began = time.perf_counter()
    with log.open("ab") as file:
        file.write(f"\n===== {part.name} =====\n".encode())
        file.flush()
        start = file.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=ROOT, env=environment(device, quick, place),
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status: int | str = child.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            status = f"cut off after {limit:.0f} s"
            os.killpg(child.pid, signal.SIGKILL)  # its own workers, too
            child.wait()
    said = log.read_bytes()[start:].decode(errors="replace")
    row: dict[str, Any] = {"ended": status, "seconds": round(time.perf_counter() - began, 1)}
    row["found"] = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    place.unlink(missing_ok=True)
    if part.name == "tests":
        xml = place.with_suffix(".xml")
        row["found"] = report.counts(xml.read_text(encoding="utf-8")) if xml.exists() else {}
        xml.unlink(missing_ok=True)
    if status != 0:
        row["tail"] = said[-3000:]
    return row


def chosen(names: Sequence[str]) -> list[Part]:
    """The asked steps in their order; all by default.

    Raises:
        typer.BadParameter: one is not known.
    """
    known = {part.name: part for part in PARTS}
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"--only={name}: no such step; there are {', '.join(known)}")
    return [part for part in PARTS if not names or part.name in names]


def main(
    out: Annotated[Path, typer.Option(help="Folder of results.json, RESULTS.md, curves.png and log.txt.")] = Path(
        "build/gpu-results"
    ),
    device: Annotated[str, typer.Option(help="cuda or cpu, which has sixteen times as long.")] = "cuda",
    quick: Annotated[bool, typer.Option(help="Tiny shapes and few steps: a rehearsal.")] = False,
    seconds: Annotated[int, typer.Option(help="For all steps; each one's own limit goes with it.")] = EIGHT_MINUTES,
    only: Annotated[list[str], typer.Option(help="Steps; all by default.")] = [],  # noqa: B006 (typer copies)
) -> None:
    """Runs the steps."""
    began = time.perf_counter()
    if device not in ("cuda", "cpu"):
        raise typer.BadParameter(f"--device={device}: cuda or cpu")
    parts = chosen(only)
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    why = card.refusal(device)
    if why:
        print(f"bench/gpu: {why}", file=sys.stderr)
        raise typer.Exit(2)
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "log.txt").unlink(missing_ok=True)
    results: dict[str, Any] = {"facts": card.facts(device), "quick": quick, "steps": {}}
    results["rates"] = card.matmul_rate(device, 256 if quick else 8192)
    report.write(out, results)
    whole = seconds * (16 if device == "cpu" else 1)
    for part in parts:
        left = whole - (time.perf_counter() - began)
        if left < 15:
            results["steps"][part.name] = {"ended": "no time was left", "seconds": 0.0, "found": {}}
            continue
        results["steps"][part.name] = run(part, device, quick, out, min(part.seconds * whole / EIGHT_MINUTES, left))
        results["seconds"] = round(time.perf_counter() - began, 1)
        report.write(out, results)
        print(f"{part.name}: {results['steps'][part.name]['ended']}", file=sys.stderr, flush=True)
    report.write(out, results)
    print((out / "RESULTS.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
