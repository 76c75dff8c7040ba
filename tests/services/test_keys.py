"""Who may do what in the bucket, and keys that are renewed as docs/runbook.md says, on the real servers."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dcod import storage
from dcod.config import Config, TrackingConfig
from dcod.errors import UserError
from dcod.tracking.runs import Tracker
from tests.services import servers
from tests.services.servers import Server

pytestmark = pytest.mark.service
ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-secret-of-tests-"


@pytest.fixture(scope="module")
def identities() -> dict[str, dict[str, Any]]:
    """Those of `dev`, by name, with secrets and, for a renewal, two pairs for MLflow."""
    read = json.loads((ROOT / "k8s" / "overlays" / "dev" / "identities.json").read_text(encoding="utf-8"))
    found = {each["name"]: each for each in read["identities"]}
    for each in found.values():
        (pair,) = each["credentials"]
        pair["secretKey"] = SECRET + pair["accessKey"]
    found["mlflow"]["credentials"].append({"accessKey": "mlflow-2", "secretKey": f"{SECRET}mlflow-2"})
    return found


@pytest.fixture(scope="module")
def locked(identities: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An S3 with these identities and the bucket, and an object of each kind in it."""
    with servers.s3(tmp_path_factory.mktemp("locked"), list(identities.values())) as server:
        servers.client(server).create_bucket(Bucket="dcod")
        for name in ("mlflow/x", "backups/x", "traces/x", "work/x"):
            servers.client(server).put_object(Bucket="dcod", Key=name, Body=b"x")
        yield server


def rights(server: Server, access: str) -> dict[str, str]:
    """What a pair of keys may do, by prefix: of read, write, list and delete the first letters."""
    client = servers.client(server, access, SECRET + access)
    out = {}
    for prefix in ("mlflow", "backups", "traces", "work"):
        where: dict[str, str] = {"Bucket": "dcod", "Key": f"{prefix}/of-{access}"}
        tries: dict[str, Callable[[], Any]] = {
            "w": lambda where=where: client.put_object(**where, Body=b"x"),  # type: ignore[misc]
            "r": lambda prefix=prefix: client.get_object(Bucket="dcod", Key=f"{prefix}/x"),  # type: ignore[misc]
            "l": lambda prefix=prefix: client.list_objects_v2(Bucket="dcod", Prefix=f"{prefix}/"),  # type: ignore[misc]
            "d": lambda where=where: client.delete_object(**where),  # type: ignore[misc]
        }
        out[prefix] = "".join(letter for letter, call in tries.items() if _allowed(call))
    return out


def _allowed(call: Callable[[], Any]) -> bool:
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        return False
    return True


def test_three_identities_may_do_what_they_must_and_no_more(locked: Server) -> None:
    assert rights(locked, "mlflow") == {"mlflow": "wrld", "backups": "", "traces": "", "work": ""}
    assert rights(locked, "backup") == {"mlflow": "", "backups": "wd", "traces": "", "work": ""}
    assert rights(locked, "runs") == {"mlflow": "", "backups": "", "traces": "rl", "work": "wrld"}


def test_a_run_does_its_work_with_its_own_keys(
    locked: Server, s3_environment: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", locked.uri)
    _come_as(monkeypatch, "runs")
    assert storage.fetch("s3://dcod/traces/x", tmp_path / "traces").read_bytes() == b"x"
    storage.probe("s3://dcod/work")
    with storage.lease("s3://dcod/work/promotion.lease", wait_s=1):
        storage.upload(tmp_path / "traces", "s3://dcod/work/checkpoints/1")
    storage.remove("s3://dcod/work/checkpoints/1")
    with pytest.raises(UserError, match="backups"):
        storage.list_objects("s3://dcod/backups/")
    _come_as(monkeypatch, "backup")
    storage.upload(tmp_path / "traces", "s3://dcod/backups")  # as k8s/base/backup.yaml does
    with pytest.raises(UserError, match="mlflow"):
        storage.upload(tmp_path / "traces", "s3://dcod/mlflow")


def _come_as(monkeypatch: pytest.MonkeyPatch, access: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET + access)
    servers.forget_keys(monkeypatch)


def test_keys_and_a_password_are_renewed_without_losing_anything(
    locked: Server,
    identities: dict[str, dict[str, Any]],
    postgresql_server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The two rehearsed ways of docs/runbook.md: a second pair of keys and a restart; a new password of runs."""

    def with_keys(access: str) -> Server:
        keys = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": SECRET + access}
        return replace(locked, env=locked.env | keys)

    settings = {"MLFLOW_ARTIFACTS_DESTINATION": "s3://dcod/mlflow"}
    server, first = servers.mlflow_command(tmp_path, postgresql_server, with_keys("mlflow"), settings)
    with first():
        servers.add_user(server.uri)
        tracker = Tracker(TrackingConfig(uri=server.uri, experiment="keys"))
        kept = tmp_path / "kept"
        kept.mkdir()
        (kept / "rows.txt").write_text("1\n", encoding="utf-8")
        with tracker.stage("score", tracker.parent("p", "keys", Config()), digest="keys") as log:
            log.output(kept)
    again, second = servers.mlflow_command(tmp_path, postgresql_server, with_keys("mlflow-2"), settings)
    with second():
        tracker = Tracker(TrackingConfig(uri=again.uri, experiment="keys"))
        found = tracker.outputs.find("score", "keys")
        assert found
        tracker.outputs.fetch(found, tmp_path / "again")
        assert (tmp_path / "again" / "rows.txt").read_text(encoding="utf-8") == "1\n"

        _renew(again.uri, "another-password")
        try:
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "another-password")
            assert Tracker(TrackingConfig(uri=again.uri, experiment="keys")).outputs.find("score", "keys")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a-third")
            with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD"):
                Tracker(TrackingConfig(uri=again.uri, experiment="keys"))
        finally:
            _renew(again.uri, servers.PASSWORD)


def _renew(uri: str, password: str) -> None:
    access = base64.b64encode(f"{servers.ADMIN}:{servers.PASSWORD}".encode()).decode()
    body = json.dumps({"username": servers.USER, "password": password}).encode()
    headers = {"Authorization": f"Basic {access}", "Content-Type": "application/json"}
    call = urllib.request.Request(f"{uri}/api/2.0/mlflow/users/update-password", body, headers, method="PATCH")
    urllib.request.urlopen(call, timeout=30).close()
