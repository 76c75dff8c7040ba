"""Uploads to a hub, recorded by a server: students and trace sets with their cards, and what a dry run says instead."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcod import storage
from dcod.cli import app
from dcod.errors import UserError
from dcod.reports import data_card
from dcod.traces import read_traces
from dcod.tracking import export
from tests.stages.test_ingest import Ingest


class Hub(ThreadingHTTPServer):
    """Takes what huggingface_hub sends, as the hub's API does, and keeps it."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.paths: list[str] = []
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        told: dict[str, Any] = {}
        if self.path.endswith("/repos/create"):
            self.server.made.append(json.loads(sent))
            told = {"url": f"{self.address}/me/mine", "name": "me/mine"}
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(sent)["files"]]
            told = {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        elif "/commit/" in self.path:
            for line in map(json.loads, sent.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            told = {"commitUrl": f"{self.address}/me/mine/commit/1", "commitOid": "1", "pullRequestUrl": None}
        self._tell(told)

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self._tell({"id": "me/mine", "sha": "0", "siblings": []})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def _tell(self, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def traces(tmp_path: Path, tiny_student: Path) -> Path:
    """A trace set with its card, and a quarantine that is nobody else's business."""
    rows = [{"problem": f"{n} + 1?", "response": f"#### {n + 1}", "gold": str(n + 1), "licence": "CC-BY-4.0"}
            for n in range(3)]  # fmt: skip
    rows.append(rows[0] | {"response": "#### 7"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Ingest(tmp_path, tiny_student)(sources=[str(tmp_path / "rows.jsonl")]).out


def test_a_trace_set_is_exported_as_a_data_set_and_pushed(traces: Path, hub: Hub, tmp_path: Path) -> None:
    out = tmp_path / "set"
    data_card.export(traces, out)
    assert export.push(out, "me/mine", "dataset").endswith("/commit/1")
    assert hub.made[0]["type"] == "dataset"
    assert hub.made[0]["visibility"] == "private", hub.made
    assert sorted(hub.files) == ["README.md", "data/part-00000000.parquet"]
    _, head, body = hub.files["README.md"].decode().split("---\n", 2)
    told = yaml.safe_load(head)
    assert told["license"] == "cc-by-4.0"
    assert told["configs"] == [{"config_name": "default", "data_files": "data/*.parquet"}]
    assert "3 of 4 traces accepted" in body
    assert "#### 7" not in str(hub.files["data/part-00000000.parquet"])
    again = tmp_path / "again" / "traces.parquet" / "part-00000000.parquet"
    again.parent.mkdir(parents=True)
    again.write_bytes(hub.files["data/part-00000000.parquet"])
    assert [trace.completion for trace in read_traces(tmp_path / "again")] == ["#### 1", "#### 2", "#### 3"]
    with pytest.raises(UserError, match="no trace set"):
        data_card.export(out, tmp_path / "other")


def test_a_student_is_pushed_without_our_mark(tmp_path: Path, hub: Hub) -> None:
    for name in ("model.safetensors", "README.md", storage.MARK):
        (tmp_path / name).write_text(name)
    assert export.push(tmp_path, "me/mine").endswith("/commit/1")
    assert hub.made[0].get("type", "model") == "model"
    assert sorted(hub.files) == ["README.md", "model.safetensors"]
    with pytest.raises(UserError, match="HF_TOKEN"):
        export.push(tmp_path, "no/such/name")


def test_a_dry_run_asks_no_hub(traces: Path, hub: Hub, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    out = tmp_path / "set"
    done = CliRunner().invoke(app, ["export", str(traces), "--out", str(out), "--push", "me/mine", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "dataset me/mine would get 2 files" in done.output
    assert "README.md, data/part-00000000.parquet" in done.output
    assert hub.paths == []
    assert (out / "README.md").is_file()
