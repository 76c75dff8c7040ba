"""Prints the pins of a `pip install --dry-run --report` file: names and versions, no local ones, no paths."""

import json
import sys
from pathlib import Path


def main(report: str) -> None:
    """Prints one pin a line, sorted; the project itself is left out."""
    pins = {}
    for item in json.loads(Path(report).read_text(encoding="utf-8"))["install"]:
        if "dir_info" not in item["download_info"]:
            version = item["metadata"]["version"].partition("+")[0]  # 2.13.0+cpu: `==2.13.0` takes any build
            pins[item["metadata"]["name"].lower().replace("_", "-")] = version
    print("# Written by `make lock`: everything that pyproject.toml with its dev extra asks for, on a CPU.")
    print("\n".join(f"{name}=={version}" for name, version in sorted(pins.items())))


if __name__ == "__main__":
    main(sys.argv[1])
