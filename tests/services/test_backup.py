"""The backup of k8s/base/backup.yaml, its own commands against the real servers: dumped, uploaded, restored."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dcod import storage
from dcod.config import TrackingConfig
from dcod.tracking.runs import Tracker
from tests.services.servers import Server, client, postgresql_programs

pytestmark = pytest.mark.service
ROOT = Path(__file__).resolve().parents[2]


def test_a_dump_comes_back(
    tmp_path: Path, mlflow_server: Server, postgresql_server: Server, s3_environment: Server
) -> None:
    Tracker(TrackingConfig(uri=mlflow_server.uri, experiment="kept"))
    client(s3_environment).create_bucket(Bucket="dcod")
    base = ROOT / "k8s" / "base"
    _, document = yaml.safe_load_all((base / "backup.yaml").read_text(encoding="utf-8"))
    pod = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (dump,), (upload,) = pod["initContainers"], pod["containers"]
    services = yaml.safe_load_all((base / "mlflow.yaml").read_text(encoding="utf-8"))
    (settings,) = (item["data"] for item in services if item["kind"] == "ConfigMap")
    folder = tmp_path / "backup"
    folder.mkdir()
    database = postgresql_server.uri.replace("postgresql+psycopg2", "postgresql")
    programs = postgresql_programs()
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "DATABASE": database}
    environment["BACKUP_DESTINATION"] = settings["BACKUP_DESTINATION"]

    def here(command: list[str]) -> list[str]:
        """A command of the pod, with its folder and its `$$` as this machine has them."""
        return [word.replace("/backup", str(folder)).replace("$$", "$") for word in command]

    subprocess.run(here(dump["command"]), check=True, env=environment)
    python, *rest = here(upload["command"])
    assert python == "python"
    subprocess.run([sys.executable, *rest], check=True, env=environment, cwd=ROOT)

    (stored,) = storage.list_objects(settings["BACKUP_DESTINATION"])
    fetched = storage.fetch(stored, tmp_path / "fetched")
    assert fetched.name.startswith("mlflow-20")
    shutil.copyfile(fetched, tmp_path / "again.dump")
    plain = database.rpartition("/")[0]
    psql = [str(programs / "psql"), "-tA", "-d"]
    subprocess.run([*psql, database, "-c", "create database restored"], check=True)
    restore = [str(programs / "pg_restore"), "--clean", "--if-exists", "--dbname", f"{plain}/restored"]
    subprocess.run([*restore, str(tmp_path / "again.dump")], check=True)
    query = [*psql, f"{plain}/restored", "-c", "select count(*) from experiments where name = 'kept'"]
    assert subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip() == "1"
