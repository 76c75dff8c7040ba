"""MLflow's figures for Prometheus by the commands of k8s/components/monitoring: counted, shown without a password."""

from __future__ import annotations

import base64
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.services import servers

pytestmark = pytest.mark.service
COMPONENT = servers.ROOT / "k8s" / "components" / "monitoring"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((COMPONENT / name).read_text(encoding="utf-8")))


def asked(url: str, user: str = "") -> tuple[int, str]:
    """Status and body; the password is that of the tests."""
    access = base64.b64encode(f"{user}:{servers.PASSWORD}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {access}"} if user else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_workers_count_and_another_process_shows_it(tmp_path: Path) -> None:
    server, exporter = documents("exporter.yaml")[0]["spec"]["template"]["spec"]["containers"]
    (setting,) = server["env"]
    figures, (port,) = tmp_path / "figures", servers.free_ports(1)
    figures.mkdir()
    program, *arguments, _, _ = exporter["command"]
    assert program == "python"
    other = {setting["name"]: str(figures), "MLFLOW_WORKERS": "2"}
    database = servers.Server(f"sqlite:///{tmp_path}/mlflow.db")
    made, start = servers.mlflow_command(tmp_path, database, servers.Server("", {}), other)
    shown = f"http://127.0.0.1:{port}/metrics"
    command = [sys.executable, *arguments, str(figures), str(port)]
    with start(), servers.running(command, tmp_path / "exporter.log", lambda: servers.answers(shown)) as process:
        servers.add_user(made.uri)
        runs = f"{made.uri}/api/2.0/mlflow/experiments/search?max_results=1"
        assert [asked(runs, servers.USER)[0] for _ in range(4)] == [200] * 4
        assert asked(runs)[0] == 401
        # Why it needs another process: the server's own page is for administrators.
        assert [asked(f"{made.uri}/metrics", user)[0] for user in ("", servers.USER, servers.ADMIN)] == [401, 403, 200]
        status, text = asked(shown)
        assert status == 200
        assert 'mlflow_http_request_total{method="GET",status="200"} 4.0' in text
        assert re.search(r'mlflow_http_request_total\{method="GET",status="401"\} \d', text)
        rules = documents("monitors.yaml")[1]["spec"]["groups"][0]["rules"]
        names = {name for rule in rules for name in re.findall(r"\b(mlflow_\w+)\{", rule["expr"])}
        assert len(names) == 2
        for name in names:
            assert f"\n{name}{{" in text, name
        process.terminate()
        process.wait(5)
