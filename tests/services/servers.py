"""Real servers for tests, on free ports of the loopback: SeaweedFS's S3, PostgreSQL, MLflow."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
INSTALL = "`make test-services` installs it"
ACCESS, SECRET = "test-access", "test-secret-of-forty-characters-or-so-long"
ADMIN, USER, PASSWORD = "admin", "dcod", "a-password-for-tests"


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        uri: its address.
        env: the environment that a client needs.
    """

    uri: str
    env: dict[str, str] = field(default_factory=dict)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def running(
    command: list[str], log: Path, ready: Callable[[], bool], wait_s: float = 90, grace_s: float = 10, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, from the moment it is ready; the whole group ends with the block."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
    try:
        deadline = time.monotonic() + wait_s
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                end = log.read_text(encoding="utf-8", errors="replace")[-3000:]
                raise RuntimeError(f"{command[0]} did not become ready (exit status {process.returncode}):\n{end}")
            time.sleep(0.2)
        yield process
    finally:
        stop(process, grace_s)


def stop(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ends a process and its children: interrupted (PostgreSQL's quick way to stop), then killed."""
    for way, wait_s in ((signal.SIGINT, grace_s), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, way)
            process.wait(wait_s)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def answers(url: str) -> bool:
    """Whether a server answers 200 there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def client(server: Server, access: str = "", secret: str = "") -> Any:
    """A boto3 client that reads nothing from the environment; without keys it comes with the server's own."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=server.uri,
        region_name="us-east-1",
        aws_access_key_id=access or server.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=secret or server.env["AWS_SECRET_ACCESS_KEY"],
    )


def forget_keys(monkeypatch: Any) -> None:
    """Makes boto3 read the environment again: its default session keeps the first keys that it found."""
    import boto3

    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


@contextmanager
def s3(folder: Path, others: Sequence[dict[str, Any]] = ()) -> Iterator[Server]:
    """SeaweedFS's S3 with an identity that may do all, and others; buckets are made by the tests."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if weed is None:
        raise RuntimeError(f"the S3 server `weed` is not here; {INSTALL}")
    credentials = [{"accessKey": ACCESS, "secretKey": SECRET}]
    identity = {"name": "test", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (folder / "data").mkdir(parents=True)
    (folder / "s3.json").write_text(json.dumps({"identities": [identity, *others]}), encoding="utf-8")
    names = ["master.port", "volume.port", "filer.port", "s3.port"]
    ports = dict(zip([*names, *(f"{name}.grpc" for name in names)], free_ports(8), strict=True))
    command = [weed, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    command += [f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=1000"]  # a bucket takes seven
    server = Server(
        f"http://127.0.0.1:{ports['s3.port']}",
        {
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}",
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}",
        },
    )

    def ready() -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client(server).create_bucket(Bucket="ready")
            client(server).put_object(Bucket="ready", Key="probe", Body=b"x")
        except (BotoCoreError, ClientError):
            return False
        return True

    with running(command, folder / "weed.log", ready, grace_s=1, cwd=folder):
        yield server


def postgresql_programs() -> Path:
    """The folder of PostgreSQL's programs."""
    found = shutil.which("initdb") or max(
        (str(p) for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=""
    )
    if not found:
        raise RuntimeError(f"PostgreSQL's initdb is not here; {INSTALL}")
    return Path(found).resolve().parent


@contextmanager
def postgresql(folder: Path) -> Iterator[Server]:
    """An empty PostgreSQL; it refuses to run as root, so root runs it as the user postgres.

    Args:
        folder: that the user postgres can reach.
    """
    programs = postgresql_programs()
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        who = {"user": "postgres", "group": "postgres", "extra_groups": []}
    data, (port,) = folder / "data", free_ports(1)
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "dcod", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    subprocess.run(initdb, check=True, cwd=folder, stdout=subprocess.DEVNULL, **who)
    command = [str(programs / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder)]

    def ready() -> bool:
        probe = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "dcod"]
        return subprocess.run(probe, check=False).returncode == 0

    with running([*command, "-c", "fsync=off"], folder / "postgres.log", ready, cwd=folder, **who):
        yield Server(f"postgresql+psycopg2://dcod@127.0.0.1:{port}/postgres")


@contextmanager
def mlflow(folder: Path, database: Server, store: Server) -> Iterator[Server]:
    """An MLflow server that wants a password, keeps runs in the database and hands out artifacts of the store."""
    server, start = mlflow_command(folder, database, store)
    with start():
        add_user(server.uri)
        yield server


def add_user(uri: str) -> None:
    """Makes the user that runs come as, who is no administrator; the same call as in docs/cluster.md."""
    access = base64.b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()
    body = json.dumps({"username": USER, "password": PASSWORD}).encode()
    headers = {"Authorization": f"Basic {access}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{uri}/api/2.0/mlflow/users/create", body, headers)
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as error:
        if "RESOURCE_ALREADY_EXISTS" not in error.read().decode():
            raise


def mlflow_command(
    folder: Path, database: Server, store: Server, other: Mapping[str, str] | None = None
) -> tuple[Server, Callable[[], AbstractContextManager[subprocess.Popen[bytes]]]]:
    """An MLflow server and how to start it, again and again on the same port; as k8s/base/mlflow.yaml starts it."""
    if not other:
        with suppress(client(store).exceptions.BucketAlreadyOwnedByYou, client(store).exceptions.BucketAlreadyExists):
            client(store).create_bucket(Bucket="mlflow")
    (port,) = free_ports(1)
    uri = f"http://127.0.0.1:{port}"
    auth = folder / "basic_auth.ini"
    auth.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {database.uri}\nadmin_username = {ADMIN}\n"
        f"admin_password = {PASSWORD}\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n",
        encoding="utf-8",
    )
    # The container's own command and settings; only what this machine must have otherwise differs.
    documents = list(yaml.safe_load_all((ROOT / "k8s" / "base" / "mlflow.yaml").read_text(encoding="utf-8")))
    (settings,) = (item["data"] for item in documents if item["kind"] == "ConfigMap")
    (deployment,) = (item for item in documents if item["kind"] == "Deployment")
    program, *arguments = deployment["spec"]["template"]["spec"]["containers"][0]["command"]
    here = {"--host": "127.0.0.1", "--port": str(port)}
    command = [sys.executable, "-m", program]
    for argument in arguments:
        name, _, _ = argument.partition("=")
        command.append(f"{name}={here.pop(name)}" if name in here else argument)
    assert not here
    settings |= {
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://mlflow/artifacts",
        "MLFLOW_BACKEND_STORE_URI": database.uri,
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{port}",
        "MLFLOW_WORKERS": "1",
        "MLFLOW_AUTH_CONFIG_PATH": str(auth),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only for tests",
    }
    environment = os.environ | settings | store.env | dict(other or {})

    def start() -> AbstractContextManager[subprocess.Popen[bytes]]:
        ready = lambda: answers(f"{uri}/health")  # noqa: E731
        return running(command, folder / "mlflow.log", ready, 120, cwd=folder, env=environment)

    access = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    return Server(uri, {"MLFLOW_TRACKING_URI": uri, **access}), start
