"""The two steps of `make lock` that pip has no option for.

`lock.py pins REPORT [--hashes]` prints the pins of a `pip install --dry-run --report` file; `lock.py vllm VERSION`
prints what the environment of this vLLM is resolved from.
"""

import json
import re
import sys
import tomllib
from pathlib import Path


def pins(report: str, *options: str) -> str:
    """One pin a line, sorted, without the project itself; with hashes, each that of the very file that pip chose.

    A hash holds for one file, that for Python 3.11 on x86-64 Linux, which is what the images are. A CPU build of torch
    has none: it comes from another index, as another file.
    """
    lines = {}
    for item in json.loads(Path(report).read_text(encoding="utf-8"))["install"]:
        name = item["metadata"]["name"].lower().replace("_", "-")
        if "dir_info" in item["download_info"]:
            continue
        version, local, _ = item["metadata"]["version"].partition("+")
        if options and local:
            continue
        lines[name] = f"{name}=={version}"  # `==2.13.0` takes 2.13.0+cpu as well
        if options:
            lines[name] += f" --hash=sha256:{item['download_info']['archive_info']['hashes']['sha256']}"
    return "\n".join(["# Written by `make lock`.", *(lines[name] for name in sorted(lines))])


def vllm(version: str) -> str:
    """Pins torch and transformers itself, to older ones than ours: hence an environment, and an image, of its own."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = [item for item in project["dependencies"] if re.match(r"[\w-]+", item)[0] not in ("torch", "transformers")]
    return "\n".join([f"vllm=={version}", *own])


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    print({"pins": pins, "vllm": vllm}[verb](*arguments))
