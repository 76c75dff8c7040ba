"""The OpenAI-compatible engine against vLLM's own server, one that tells log-probs before temperature and top-p and one
that tells them after; in the environment of vLLM. A request that fails is not tried again here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from dcod.config import parse_config
from dcod.engines import Sampling
from dcod.engines import openai as module
from dcod.engines.openai import OpenAIEngine
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.models import loading
from dcod.stages.execute import RunContext, execute
from dcod.traces import prompts
from dcod.traces.scored import ScoredTrace
from tests.engines.test_vllm import NATS, TEXTS, assert_of_the_sampler, hostile_teacher
from tests.tiny import TWICE

pytestmark = pytest.mark.vllm

START_S = 600.0


@dataclass(frozen=True)
class Served:
    """A running server of the teacher's folder."""

    endpoint: str
    folder: Path
    local: TransformersEngine

    def engine(self) -> OpenAIEngine:
        return OpenAIEngine(self.endpoint, "taught", self.local.tokenizer)

    def asked(self) -> list[list[int]]:
        return [prompts.encode_prompt(self.local.tokenizer, prompts.prompt_for("as_is", text)) for text in TEXTS]

    def teach(self, out: Path, **given: Any) -> list[dict[str, Any]]:
        """`dcod teach` asking the server; the rows."""
        (out.parent / "problems.jsonl").write_text("".join(json.dumps({"problem": text}) + "\n" for text in TWICE))
        fixed = {
            "engine": {"name": "openai", "endpoint": self.endpoint, "model": "taught"},
            "prompts": [str(out.parent / "problems.jsonl")],
            "asks": "as_is",
            "work": str(out.parent / "work"),
            "attempts": 2,
            "max_new_tokens": 24,
        }
        known = {} if given.get("logprobs") is False else {"model": str(self.folder)}
        config = parse_config(json.dumps({"teach": {**fixed, **known, **given}}))
        inputs = {"teacher": self.folder} if known else {}
        execute("teach", config, out, inputs, RunContext(tracked=False))
        rows: list[dict[str, Any]] = pq.read_table(out / "attempts.parquet").to_pylist()
        assert len(rows) == 2 * len(TWICE)
        return rows

    def assert_taught(self, rows: list[dict[str, Any]], temperature: float, top_p: float) -> None:
        """The rows' log-probs are the sampler's."""
        exact: torch.nn.Module = loading.load(self.folder, "float64").eval()
        encoded = [prompts.encode_prompt(self.local.tokenizer, row["prompt"]) for row in rows]
        records = [(ids, row["token_ids"], row["behavior_logprobs"]) for ids, row in zip(encoded, rows, strict=True)]
        assert_of_the_sampler(exact, records, temperature, top_p)
        assert [row["read"] for row in rows] == list(map(len, encoded))
        assert [row["wrote"] for row in rows] == [len(row["token_ids"]) for row in rows]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_teacher(tmp_path_factory.mktemp("tiny") / "teacher")


def serve(folder: Path, mode: str, log: Path) -> Iterator[Served]:
    """A server until the test is over."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", "taught"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "512"]
    command += ["--enforce-eager", "--max-num-seqs", "16", "--logprobs-mode", mode]
    settings = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("wb") as written:
        server = subprocess.Popen(
            [sys.executable, *command], stdout=written, stderr=written, env={**os.environ, **settings},
            start_new_session=True,
        )  # fmt: skip
        try:
            give_up = time.monotonic() + START_S
            while not answers(f"http://127.0.0.1:{port}/health"):
                assert server.poll() is None, log.read_text(errors="replace")[-3000:]
                assert time.monotonic() < give_up, log.read_text(errors="replace")[-3000:]
                time.sleep(1.0)
            local = TransformersEngine(folder, prompts.load_tokenizer(folder))
            yield Served(f"http://127.0.0.1:{port}/v1", folder, local)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def raw(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve(teacher, "raw_logprobs", tmp_path_factory.mktemp("raw") / "log")


@pytest.fixture(scope="module")
def processed(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve(teacher, "processed_logprobs", tmp_path_factory.mktemp("processed") / "log")


@pytest.fixture(autouse=True)
def _once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TRIES", 1)


def test_it_says_what_transformers_says(raw: Served) -> None:
    """In a record, which leaves the folder's generation settings out."""
    ours = raw.engine().generate(raw.asked(), Sampling(32, record=True), 8)
    theirs = raw.local.generate(raw.asked(), Sampling(32), 4)
    assert [(one.token_ids, one.text, one.truncated) for one in ours] == [
        (one.token_ids, one.text, one.truncated) for one in theirs
    ]
    examples = [ScoredTrace("t", "p", p, c.token_ids, [], []) for p, c in zip(raw.asked(), theirs, strict=True)]
    for (a, _), (b, _) in zip(raw.engine().score(examples, 64), raw.local.score(examples, 64), strict=True):
        assert a == pytest.approx(b, abs=NATS)


def test_a_teacher_at_temperature_one(raw: Served, tmp_path: Path) -> None:
    """Before or after temperature and top-p is then the same."""
    raw.assert_taught(raw.teach(tmp_path / "taught", top_k=2), 1.0, 1.0)


@pytest.mark.parametrize(("temperature", "top_p"), [(0.6, 1.0), (1.5, 0.9), (1.0, 0.5)])
def test_raw_log_probs_are_found_out(raw: Served, tmp_path: Path, temperature: float, top_p: float) -> None:
    wrong = {"temperature": temperature, "top_p": top_p, "endpoint_logprobs": "processed"}
    with pytest.raises(UserError, match="those before temperature and top-p; start it with"):
        raw.teach(tmp_path / "taught", **wrong)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.4, 0.9), (0.7, 1.0)])
def test_a_teacher_of_processed_log_probs(processed: Served, tmp_path: Path, temperature: float, top_p: float) -> None:
    told = {"temperature": temperature, "top_p": top_p, "endpoint_logprobs": "processed", "top_k": 3}
    processed.assert_taught(processed.teach(tmp_path / "taught", **told), temperature, top_p)


def test_a_chat_tells_what_it_costs(processed: Served, tmp_path: Path) -> None:
    rows = processed.teach(tmp_path / "taught", logprobs=False, temperature=0.7, top_p=0.9)
    for row in rows:
        read = processed.local.tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
        assert row["read"] == len(read)
        assert 1 <= row["wrote"] <= 24
    usage = json.loads((tmp_path / "taught" / "usage.json").read_text())
    assert usage["input_tokens"] == sum(row["read"] for row in rows)
    assert usage["output_tokens"] == sum(row["wrote"] for row in rows)
