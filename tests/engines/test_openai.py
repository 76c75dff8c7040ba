"""The OpenAI-compatible engine against a real HTTP server that runs a tiny model by the transformers engine."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dcod import engines, prompts
from dcod.config import Config, EngineConfig, parse_config
from dcod.engines import Sampling
from dcod.engines import openai as module
from dcod.engines.openai import OpenAIEngine
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.packing import Example
from dcod.stages import Where, execute

TEXTS = ["2 + 2?", "What is three plus four?", "x", "Say something long and then stop."]


def example(prompt: list[int], completion: list[int]) -> Example:
    return Example("t", "p", prompt, completion, [], [])


class Server:
    """``/v1/completions`` as vLLM answers it: prompts of token ids, ``echo`` and ``logprobs``, ``finish_reason``."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.failures: list[int] = []  # status codes of the next answers
        self.lock = threading.Lock()
        self.echoes = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests.append(body)
                    outer.keys.append(self.headers.get("Authorization"))
                    status = outer.failures.pop(0) if outer.failures else 200
                    answer = outer.answer(body) if status == 200 else {"error": {"message": f"no: {status}"}}
                data = json.dumps(answer).encode()
                self.send_response(status if self.path == "/v1/completions" else 404)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("echo"):
            tokens = body["prompt"]
            ((logprobs, _),) = self.engine.score([example(tokens[:1], tokens[1:])], 4096)
            values: list[float | None] = [None, *logprobs, -1.0] if self.echoes else []
            return {"choices": [{"text": "", "finish_reason": "length", "logprobs": {"token_logprobs": values}}]}
        sampling = Sampling(body["max_tokens"], body["temperature"], body["top_p"], body["seed"])
        (said,) = self.engine.generate([body["prompt"]], sampling, 1)
        return {"choices": [{"text": said.text, "finish_reason": "length" if said.truncated else "stop"}]}


@pytest.fixture(scope="module")
def local(tiny_student: Path) -> TransformersEngine:
    return TransformersEngine(tiny_student, prompts.load_tokenizer(tiny_student))


@pytest.fixture
def server(local: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)
    found = Server(local)
    yield found
    found.http.shutdown()
    found.http.server_close()


def test_it_says_what_the_server_says(server: Server, local: TransformersEngine) -> None:
    engine = OpenAIEngine(server.endpoint, "tiny", local.tokenizer, concurrency=3)
    asked = [prompts.encode_prompt(local.tokenizer, [{"role": "user", "content": text}]) for text in TEXTS]
    ours = engine.generate(asked, Sampling(12), 8)
    theirs = [local.generate([prompt], Sampling(12), 1)[0] for prompt in asked]
    assert [(one.text, one.truncated) for one in ours] == [(one.text, one.truncated) for one in theirs]
    assert {body["model"] for body in server.requests} == {"tiny"}
    assert all(body["temperature"] == 0.0 and body["max_tokens"] == 12 for body in server.requests)
    sampled = Sampling(6, temperature=1.0, top_p=0.9, seed=7)
    server.requests.clear()
    assert engine.generate(asked, sampled, 8) == engine.generate(asked, sampled, 8)
    assert len({body["seed"] for body in server.requests}) == len(TEXTS)
    assert {body["top_p"] for body in server.requests} == {0.9}


def test_log_probs_are_those_of_the_model_and_entropies_are_not_made_up(
    server: Server, local: TransformersEngine
) -> None:
    engine = OpenAIEngine(server.endpoint, "tiny", local.tokenizer)
    examples = [example([1, 5, 9], [20, 21, 22, 2]), example([1, 7], [30, 2])]
    for (ours, entropies), (theirs, _) in zip(engine.score(examples, 64), local.score(examples, 64), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
        assert all(math.isnan(value) for value in entropies)
    server.echoes = False
    with pytest.raises(UserError, match="gives no log-probs of a prompt"):
        engine.score(examples, 64)


def test_busy_servers_are_asked_again_and_refusals_are_told(
    server: Server, local: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OpenAIEngine(server.endpoint, "tiny", local.tokenizer)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server.failures = [503, 429]
    assert len(engine.generate([[1, 5]], Sampling(2), 1)) == 1
    assert server.keys == ["Bearer secret"] * 3
    server.failures = [401]
    with pytest.raises(UserError, match=r"401 .*no: 401") as caught:
        engine.generate([[1, 5]], Sampling(2), 1)
    assert "secret" not in str(caught.value)
    server.failures = [500] * 5
    with pytest.raises(UserError, match="500"):
        engine.generate([[1, 5]], Sampling(2), 1)
    with pytest.raises(UserError, match="404"):
        OpenAIEngine(server.endpoint + "/v2", "tiny", local.tokenizer).generate([[1]], Sampling(2), 1)
    with pytest.raises(UserError, match="no answer"):
        OpenAIEngine("http://127.0.0.1:9/v1", "tiny", local.tokenizer).generate([[1]], Sampling(2), 1)


def test_it_is_chosen_by_configuration(server: Server, tiny_student: Path, tmp_path: Path) -> None:
    source = "reasoning-gym://chain_sum?problems=6&seed=5&min_terms=2&max_terms=2"
    text = {
        "student": {"max_length": 256},
        "evaluate": {
            "engine": {"name": "openai", "endpoint": server.endpoint, "model": "tiny", "concurrency": 2},
            "benchmarks": [{"name": "reasoning_gym", "source": source, "max_new_tokens": 4}],
        },
    }
    config: Config = parse_config(json.dumps(text))
    execute("evaluate", config, tmp_path / "out", {"student": tiny_student}, Where(tracked=False))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["evaluator"]["engine"] == ["openai", server.endpoint, "tiny"]
    assert len(server.requests) == 6
    assert not (tmp_path / "out" / "recorded.json").exists()


def test_engines_are_loaded_by_name(tiny_student: Path, local: TransformersEngine) -> None:
    found = engines.load(EngineConfig(), tiny_student, local.tokenizer, "float32")
    assert isinstance(found, TransformersEngine)
    assert engines.identity(EngineConfig())[0] == "transformers"
    for wrong in ({"name": "openai"}, {"name": "openai", "endpoint": "127.0.0.1", "model": "x"}, {"model": "x"}):
        with pytest.raises(ValueError, match="engine"):
            EngineConfig(**wrong)
