"""Fixtures that several folders share: the data folder, a tiny student, a bucket, golden files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--data-dir", default=str(ROOT.parent / "shared" / "data"), help="folder of the data sets")
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden instead of comparing")


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> Path:
    folder = Path(request.config.getoption("--data-dir"))
    if not folder.is_dir():
        pytest.skip(f"data sets absent: {folder} (give --data-dir)")
    return folder


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised Llama of 60k parameters with a byte-level tokenizer, saved as a model folder."""
    from tests.tiny import save_tiny_student

    folder = tmp_path_factory.mktemp("tiny") / "student"
    save_tiny_student(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that often knows what twice a number is; see :data:`tests.tiny.TWICE`."""
    from tests.tiny import TWICE, save_tiny_teacher

    return save_tiny_teacher(tmp_path_factory.mktemp("tiny") / "teacher", TWICE)


@pytest.fixture(params=["folder", "bucket"])
def work_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a work keeps its parts: a folder, and below a prefix of the fake bucket."""
    if request.param == "folder":
        return str(tmp_path / "work")
    request.getfixturevalue("bucket")
    return "s3://traces/work"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A bucket `traces` in an in-process fake; it takes any keys, so those are tested with a real server."""
    boto3 = pytest.importorskip("boto3", reason="no boto3 here: a host that reads from folders alone")
    from moto import mock_aws

    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "MLFLOW_S3_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("DCOD_CACHE", str(tmp_path / "cache"))
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="traces")
        yield client
