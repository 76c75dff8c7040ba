"""Secrets planted in the environment, wherever a user can put one, and the search for them in what a run left."""

from __future__ import annotations

from pathlib import Path

VARIABLES = [  # what of the environment is a secret, or an address that holds one
    "OPENAI_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "HF_TOKEN",
    "KUBEFLOW_TOKEN",
    "DCOD_WEBHOOK_SECRET",
    "DCOD_WEBHOOK_URL",
]
ADDRESSES = ["HTTPS_PROXY", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL"]


def environment() -> dict[str, str]:
    """All of them, each with another secret."""
    words = {
        name: f"https://hooks.example.org/PLANTED-{number}" if name.endswith("URL") else f"PLANTED-{number:08}"
        for number, name in enumerate(VARIABLES)
    }
    return words | {name: f"http://me:PLANTED-{number}@127.0.0.1:9" for number, name in enumerate(ADDRESSES)}


def left(folder: Path) -> list[str]:
    """Files below a folder that hold a planted word."""
    return [path.name for path in folder.rglob("*") if path.is_file() and b"PLANTED" in path.read_bytes()]
