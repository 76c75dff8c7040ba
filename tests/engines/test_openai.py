"""The OpenAI-compatible engine against a real HTTP server that runs a tiny model by the transformers engine."""

from __future__ import annotations

import datetime as dt
import json
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dcod.config import Config, EngineConfig, parse_config
from dcod.engines import Sampling, by_name
from dcod.engines import openai as module
from dcod.engines.openai import OpenAIEngine
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.stages.execute import RunContext, execute
from dcod.traces import formats, prompts
from dcod.traces.scored import ScoredTrace
from tests.tiny import TWICE

TEXTS = ["2 + 2?", "What is three plus four?", "x", "Say something long and then stop."]


def example(prompt: list[int], completion: list[int]) -> ScoredTrace:
    return ScoredTrace("t", "p", prompt, completion, [], [])


class Server:
    """``/v1/completions`` as vLLM answers it: prompts of token ids, ``echo`` and ``logprobs``, ``finish_reason``; token
    ids where they are asked for. And ``/v1/chat/completions``, with usage."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.failures: list[int] = []  # status codes of the next answers
        self.pause = ""  # the Retry-After of a failure
        self.ids = True  # whether it knows return_tokens_as_token_ids
        self.raw = False  # whether it tells log-probs before temperature and top-p
        self.end: int | None = None  # another last token than the model's
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
                known = self.path in ("/v1/completions", "/v1/chat/completions")
                self.send_response(status if known else 404)
                if status != 200 and outer.pause:
                    self.send_header("Retry-After", outer.pause)
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
        if "messages" in body:
            asked = "".join(message["content"] for message in body["messages"])
            message = {"content": f"{asked} Done.", "reasoning_content": "Well."}
            usage = {"prompt_tokens": 7, "completion_tokens": 5}
            return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        asked_for = "logprobs" in body
        seeds, top_k = (body["seed"],), body.get("logprobs", 0)
        temperature, top_p = body["temperature"], body["top_p"]
        sampling = Sampling(
            body["max_tokens"], temperature, top_p, body["seed"], seeds if asked_for else (), asked_for, top_k
        )
        (said,) = self.engine.generate([body["prompt"]], sampling, 1)
        if self.raw and asked_for:  # of the drawn tokens, before temperature and top-p
            plain = Sampling(1, 1.0, 1.0, 0, seeds, True, top_k)
            (before,) = self.engine.generate([body["prompt"]], plain, 1)
            ((logprobs, _),) = self.engine.score([example(body["prompt"], said.token_ids)], 4096)
            said = replace(said, logprobs=logprobs, top_ids=before.top_ids, top_logprobs=before.top_logprobs)
        choice: dict[str, Any] = {"text": said.text, "finish_reason": "length" if said.truncated else "stop"}
        if said.logprobs is not None:
            as_ids = self.ids and body["return_tokens_as_token_ids"]
            name = (lambda token: f"token_id:{token}") if as_ids else str
            tokens = said.token_ids if self.end is None else [*said.token_ids[:-1], self.end]
            tops = zip(said.top_ids or [], said.top_logprobs or [], strict=True)
            choice["logprobs"] = {
                "tokens": [name(token) for token in tokens],
                "token_logprobs": said.logprobs,
                "top_logprobs": [{**dict(zip(map(name, a), b, strict=True)), name(9): -9999.0} for a, b in tops],
            }
        return {"choices": [choice]}


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


def test_the_draw_s_own_log_probs_and_token_ids_come_along(server: Server, local: TransformersEngine) -> None:
    engine = OpenAIEngine(server.endpoint, "tiny", local.tokenizer)
    asked = [prompts.encode_prompt(local.tokenizer, [{"role": "user", "content": text}]) for text in TEXTS]
    sampling = Sampling(6, 1.3, 0.5, seeds=(5, 6, 7, 8), record=True, top_k=3)
    ours, theirs = engine.generate(asked, sampling, 8), local.generate(asked, sampling, 1)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.token_ids, one.text, one.read, one.wrote) == (other.token_ids, other.text, other.read, other.wrote)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-6)
        assert one.top_ids == other.top_ids, "what top-p cut away is no likeliest token"
    assert {body["logprobs"] for body in server.requests} == {3}
    assert sorted(body["seed"] for body in server.requests) == [5, 6, 7, 8]
    assert {(body["top_k"], body["min_p"], body["repetition_penalty"]) for body in server.requests} == {(-1, 0.0, 1.0)}
    server.ids = False
    with pytest.raises(UserError, match=r"log-probs without token ids .*set teach\.logprobs=false"):
        engine.generate(asked, sampling, 8)


def test_a_record_that_is_not_of_this_model_is_refused(server: Server, tiny_teacher: Path, local: Any) -> None:
    """The served model's end token is another: its log-prob would be that of another event."""
    server.engine = TransformersEngine(tiny_teacher, local.tokenizer)
    engine = OpenAIEngine(server.endpoint, "tiny", local.tokenizer)
    prompt = prompts.encode_prompt(local.tokenizer, prompts.prompt_for("as_is", "twice 2?"))
    (said,) = engine.generate([prompt], Sampling(40, 0.1, record=True), 1)
    assert said.token_ids[-1] == local.tokenizer.eos_token_id
    server.end = 9
    with pytest.raises(UserError, match="ends in token 9, the end token of the tokenizer is 2"):
        engine.generate([prompt], Sampling(40, 0.1, record=True), 1)


@pytest.mark.parametrize(("temperature", "top_p"), [(0.6, 1.0), (1.5, 0.9), (1.0, 0.5)])
def test_a_server_that_tells_raw_log_probs_is_found_out(
    server: Server, local: Any, tiny_teacher: Path, temperature: float, top_p: float
) -> None:
    server.engine = TransformersEngine(tiny_teacher, local.tokenizer)
    engine = OpenAIEngine(server.endpoint, "tiny", local.tokenizer)
    asked = [prompts.encode_prompt(local.tokenizer, prompts.prompt_for("as_is", text)) for text in TWICE]
    sampling = Sampling(10, temperature, top_p, record=True)
    engine.check_processed(asked, sampling)
    server.raw = True
    with pytest.raises(UserError, match="those before temperature and top-p; start it with"):
        engine.check_processed(asked, sampling)


def test_a_chat_gives_text_and_what_it_costs(server: Server) -> None:
    engine = OpenAIEngine(server.endpoint, "tiny", None)
    asked = [[{"role": "user", "content": text}] for text in TEXTS]
    said = engine.chat(asked, Sampling(12, 0.7, 0.9), 8)
    assert [one.text for one in said] == [f"<think>\nWell.\n</think>\n\n{text} Done." for text in TEXTS]
    assert {(one.read, one.wrote, one.truncated, one.logprobs) for one in said} == {(7, 5, False, None)}
    assert {body["temperature"] for body in server.requests} == {0.7}


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def test_requests_begin_no_oftener_than_allowed(server: Server, local: TransformersEngine, clock: Clock) -> None:
    config = EngineConfig(name="openai", endpoint=server.endpoint, model="tiny", requests_per_minute=30, concurrency=1)
    engine = by_name.load(config, Path(), local.tokenizer, "float32")
    engine.generate([[1, 5]] * 4, Sampling(1), 4)
    assert clock.now == pytest.approx(6.0)  # at 0, 2, 4 and 6 seconds


def test_the_pause_that_a_server_asks_for_is_kept(server: Server, local: TransformersEngine, clock: Clock) -> None:
    engine = OpenAIEngine(server.endpoint, "tiny", local.tokenizer, concurrency=1)
    server.failures, server.pause = [429, 503], "40"
    assert len(engine.generate([[1, 5]] * 3, Sampling(1), 4)) == 3
    assert clock.now == pytest.approx(80.0, abs=1.0)
    assert len(server.requests) == 5
    server.failures, server.pause = [429], "86400"
    with pytest.raises(UserError, match="429"):
        engine.generate([[1, 5]], Sampling(1), 1)


@pytest.mark.parametrize(("ahead_s", "least", "most"), [(400, 300, 400), (-400, 0, 1), (0, 0, 1)])
def test_the_pause_may_be_a_date(
    server: Server, local: TransformersEngine, clock: Clock, ahead_s: int, least: float, most: float
) -> None:
    """One that is over, or no date, asks for nothing beyond the usual pause."""
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=ahead_s)
    engine = OpenAIEngine(server.endpoint, "tiny", local.tokenizer, concurrency=1)
    server.failures, server.pause = [429], format_datetime(at, usegmt=True) if ahead_s else "soon"
    assert len(engine.generate([[1, 5]], Sampling(1), 1)) == 1
    assert least <= clock.now <= most
    server.failures, server.pause = [429], format_datetime(at + dt.timedelta(days=1), usegmt=True)
    with pytest.raises(UserError, match="429"):
        engine.generate([[1, 5]], Sampling(1), 1)


def test_a_teacher_behind_an_endpoint(server: Server, local: Any, tiny_teacher: Path, tmp_path: Path) -> None:
    """With the model's folder its log-probs, by chat the text; both into rows that ingest takes."""
    server.engine = TransformersEngine(tiny_teacher, local.tokenizer)
    (tmp_path / "problems.jsonl").write_text('{"problem": "twice 2?", "gold": "4"}\n{"problem": "twice 4?"}\n')
    common = {
        "engine": {"name": "openai", "endpoint": server.endpoint, "model": "tiny", "requests_per_minute": 100000},
        "prompts": [str(tmp_path / "problems.jsonl")],
        "asks": "as_is",
        "work": str(tmp_path / "work"),
        "attempts": 2,
        "max_new_tokens": 30,
    }
    known = parse_config(json.dumps({"teach": {**common, "model": str(tiny_teacher), "top_k": 2}}))
    execute("teach", known, tmp_path / "known", {"teacher": tiny_teacher}, RunContext(tracked=False))
    rows = pq.read_table(tmp_path / "known" / "attempts.parquet").to_pylist()
    assert len(rows) == 4
    assert all(len(row["behavior_logprobs"]) == len(row["token_ids"]) == len(row["top_ids"]) for row in rows)
    assert {row["teacher"] for row in rows} == {"tiny"}
    chat = parse_config(json.dumps({"teach": {**common, "logprobs": False, "output_price": 2.0}}))
    metrics = execute("teach", chat, tmp_path / "chat", {}, RunContext(tracked=False))
    assert metrics["cost"] == pytest.approx(4 * 5 * 2.0 / 1e6)
    assert metrics["input_tokens"] == 28
    rows = pq.read_table(tmp_path / "chat" / "attempts.parquet").to_pylist()
    assert {(row["token_ids"], row["tokenizer_digest"]) for row in rows} == {(None, None)}
    assert all(formats.get(formats.detect(row)).to_trace(row).completion == row["completion"] for row in rows)


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
    execute("evaluate", config, tmp_path / "out", {"student": tiny_student}, RunContext(tracked=False))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["evaluator"]["engine"] == ["openai", server.endpoint, "tiny"]
    assert len(server.requests) == 6
    assert not (tmp_path / "out" / "recorded.json").exists()


def test_engines_are_loaded_by_name(tiny_student: Path, local: TransformersEngine) -> None:
    found = by_name.load(EngineConfig(), tiny_student, local.tokenizer, "float32")
    assert isinstance(found, TransformersEngine)
    assert by_name.identity(EngineConfig())[0] == "transformers"
    for wrong in ({"name": "openai"}, {"name": "openai", "endpoint": "127.0.0.1", "model": "x"}, {"model": "x"}):
        with pytest.raises(ValueError, match="engine"):
            EngineConfig(**wrong)
