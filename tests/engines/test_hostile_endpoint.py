"""An endpoint that means no good: one line within a bounded time, nothing lost that was got, the key to nobody else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dcod.config import parse_config
from dcod.engines import Sampling
from dcod.engines import openai as module
from dcod.engines.openai import OpenAIEngine, PartError
from dcod.errors import UserError
from dcod.stages.execute import RunContext, execute
from dcod.storage import web
from dcod.traces import prompts
from dcod.traces.scored import ScoredTrace
from tests.answering import answering

KEY = "PLANTED-KEY-OF-A-USER"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(module, "_PAUSE_S", 0.001)


@pytest.fixture(scope="module")
def tokenizer(tiny_student: Path) -> Any:
    return prompts.load_tokenizer(tiny_student)


def http(body: object, status: str = "200 OK", *, size: int | None = None, head: str = "") -> bytes:
    """An answer; what is no text becomes JSON."""
    data = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else json.dumps(body).encode()
    length = len(data) if size is None else size
    kind = "Content-Type: application/json\r\n"
    return f"HTTP/1.1 {status}\r\n{kind}{head}Content-Length: {length}\r\n\r\n".encode() + data


def said(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"text": "4", "finish_reason": "stop", **choice}]}


def recorded(**logprobs: Any) -> dict[str, Any]:
    whole = {"tokens": ["token_id:20", "token_id:2"], "token_logprobs": [-1.0, -0.5], "top_logprobs": [{}, {}]}
    return said(logprobs={**whole, **logprobs})


NONSENSE = [
    b"",
    b"HTT",
    b"good day\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
    http('{"choices": [', size=70),
    http("half of it", size=70),
    http("<html>welcome</html>", head="X-Y: z\r\n"),
    http(""),
    http("{"),
    http("[" * 100_000),
    http("1" * 10_000),
    http("null"),
    http([]),
    http({}),
    http({"choices": None}),
    http({"choices": {}}),
    http({"choices": []}),
    http({"choices": [7]}),
    http({"error": {"message": "no"}}),
    http(said(text=7)),
    http(said(text={"a": 1})),
    http("no", "500 Oh"),
    http("no", "503 Oh", head="Retry-After: -5\r\n"),
    http("no", "429 Oh", head="Retry-After: soon\r\n"),
    http("no", "429 Oh", head="Retry-After: ٣\r\n".encode().decode("latin-1")),
]
REFUSED = [
    http("no", "400 Bad"),
    http(f"you sent Bearer {KEY}", "401 Who"),
    http(f"key {KEY} is unknown", "403 No"),
    http("no", "404 Not"),
    http("no", "418 Tea"),
    http("no", "429 Oh", head="Retry-After: 99999999999\r\n"),
    http("no", "503 Oh", head=f"Retry-After: {'9' * 400}\r\n"),
    http("no", "503 Oh", head="Retry-After: Wed, 21 Oct 2099 07:28:00 GMT\r\n"),
    http(b"\x1f\x8b", head="Content-Encoding: gzip\r\n"),
    *(
        http("", f"{code} Moved", head="Location: http://elsewhere.example.org/v1\r\n")
        for code in (301, 302, 303, 307, 308)
    ),
]
UNFIT = [
    recorded(token_logprobs=[-1.0]),
    recorded(token_logprobs=[-1.0, 0.5]),
    recorded(token_logprobs=[-1.0, None]),
    recorded(token_logprobs=[-1.0, "x"]),
    recorded(token_logprobs=[-1.0, float("nan")]),
    recorded(token_logprobs=[-1.0, float("-inf")]),
    recorded(token_logprobs=[-1.0, True]),
    recorded(token_logprobs={"a": 1}),
    recorded(tokens=["token_id:20"]),
    recorded(tokens=["token_id:x", "token_id:2"]),
    recorded(tokens=["token_id:-1", "token_id:2"]),
    recorded(tokens=["token_id:99999999", "token_id:2"]),
    recorded(tokens=[f"token_id:{'9' * 5000}", "token_id:2"]),
    recorded(tokens=["a", "b"]),
    recorded(tokens=7),
    recorded(top_logprobs=[{}]),
    recorded(top_logprobs=[{}, 7]),
    recorded(top_logprobs=[{"token_id:3": 0.5}, {}]),
    recorded(top_logprobs=[{"three": -1.0}, {}]),
    said(logprobs=7),
    said(logprobs=None),
]
USAGE: list[Any] = [
    {"prompt_tokens": -1},
    {"prompt_tokens": "7"},
    {"completion_tokens": 1e400},
    [1],
    7,
    {"prompt_tokens": 2**63},
]


def test_all_of_them_are_here() -> None:
    assert (len(NONSENSE), len(REFUSED), len(UNFIT), len(USAGE)) == (25, 14, 21, 6)


@pytest.mark.parametrize("answer", NONSENSE)
def test_nonsense_is_asked_for_again_and_then_one_line(answer: bytes, tokenizer: Any) -> None:
    heard: list[bytes] = []
    with answering(answer, heard=heard) as url:
        engine = OpenAIEngine(f"{url}/v1", "m", tokenizer)
        with pytest.raises(UserError, match="no answer") as caught:
            engine.generate([[1, 5]], Sampling(2), 1)
    assert len(heard) == 5
    assert len(str(caught.value).splitlines()) == 1
    assert KEY not in str(caught.value)
    assert len(str(caught.value)) < 500
    with answering(answer, http(said())) as url:
        (one,) = OpenAIEngine(f"{url}/v1", "m", tokenizer).generate([[1, 5]], Sampling(2), 1)
    assert one.text == "4"


@pytest.mark.parametrize("answer", REFUSED)
def test_a_refusal_is_one_line_at_once(answer: bytes, tokenizer: Any) -> None:
    heard: list[bytes] = []
    with answering(answer, heard=heard) as url, pytest.raises(UserError, match="no answer") as caught:
        OpenAIEngine(f"{url}/v1", "m", tokenizer).generate([[1, 5]], Sampling(2), 1)
    assert len(heard) == 1
    assert KEY not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("answer", UNFIT)
def test_a_record_that_cannot_be_is_refused(answer: dict[str, Any], tokenizer: Any) -> None:
    sampling = Sampling(8, 1.0, 1.0, record=True, top_k=2)
    with answering(http(answer)) as url, pytest.raises(UserError):
        OpenAIEngine(f"{url}/v1", "m", tokenizer).generate([[1, 5]], sampling, 1)
    with answering(http(recorded())) as url:
        (one,) = OpenAIEngine(f"{url}/v1", "m", tokenizer).generate([[1, 5]], sampling, 1)
    assert one.logprobs == [-1.0, -0.5]


@pytest.mark.parametrize("usage", USAGE)
def test_a_chat_that_counts_what_cannot_be_is_refused(usage: Any) -> None:
    chat = {"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]}
    asked = [[{"role": "user", "content": "2 + 2?"}]]
    with answering(http(chat | {"usage": usage})) as url, pytest.raises(UserError, match="no answer"):
        OpenAIEngine(f"{url}/v1", "m", None).chat(asked, Sampling(2), 1)
    with answering(http(chat)) as url:
        assert OpenAIEngine(f"{url}/v1", "m", None).chat(asked, Sampling(2), 1)[0].text == "4"


@pytest.mark.parametrize("values", [[None, -1.0, 0.5], [None, -1.0, "x"], [None, -1.0], 7, {"a": 1}])
def test_an_echo_that_cannot_be_is_refused(values: Any, tokenizer: Any) -> None:
    answer = said(logprobs={"token_logprobs": values})
    with answering(http(answer)) as url, pytest.raises(UserError):
        OpenAIEngine(f"{url}/v1", "m", tokenizer).score([ScoredTrace("t", "p", [1], [5, 2], [], [])], 64)


def test_only_what_an_answer_needs_is_sent(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> None:
    """Variables that were set for other work neither lead elsewhere nor add a word."""
    for name in ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "AZURE_OPENAI_ENDPOINT"):
        monkeypatch.setenv(name, "http://elsewhere.example.org/PLANTED")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Other: PLANTED\nAuthorization: Bearer PLANTED-OTHER")
    heard: list[bytes] = []
    with answering(http(said()), heard=heard) as url:
        OpenAIEngine(f"{url}/v1", "m", tokenizer).generate([[1, 5]], Sampling(2), 1)
        monkeypatch.delenv("OPENAI_API_KEY")
        OpenAIEngine(f"{url}/v1", "m", tokenizer).generate([[1, 5]], Sampling(2), 1)
    heads = [one.partition(b"\r\n\r\n")[0].decode().split("\r\n") for one in heard]
    names = [{line.partition(":")[0].lower() for line in head[1:]} for head in heads]
    plain = {"accept", "accept-encoding", "connection", "content-length", "content-type", "host"}
    assert names == [plain | {"authorization"}, plain]
    assert f"authorization: bearer {KEY.lower()}" in [line.lower() for line in heads[0]]
    assert all("PLANTED-OTHER" not in "".join(head) and "elsewhere" not in "".join(head) for head in heads)
    assert heads[0][0] == "POST /v1/completions HTTP/1.1"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_the_key_is_not_carried_to_another_place(code: int, tokenizer: Any) -> None:
    elsewhere: list[bytes] = []
    with answering(http(said()), heard=elsewhere) as other:
        moved = http("", f"{code} Moved", head=f"Location: {other}/v1/completions\r\n")
        with answering(moved) as url, pytest.raises(UserError, match=f"answers {code} and points to {other}"):
            OpenAIEngine(f"{url}/v1", "m", tokenizer).generate([[1, 5]], Sampling(2), 1)
    assert elsewhere == []


def test_bodies_and_waits_end(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 10_000)
    with answering(http(" " * 20_000)) as url, pytest.raises(UserError, match="longer than 10000 bytes"):
        OpenAIEngine(f"{url}/v1", "m", tokenizer).generate([[1, 5]], Sampling(2), 1)
    with (
        answering(b"HTTP/1.1 200 OK\r\n\r\n", for_ever="x" * 999) as url,
        pytest.raises(UserError, match="longer than 10000 bytes"),
    ):
        OpenAIEngine(f"{url}/v1", "m", tokenizer).generate([[1, 5]], Sampling(2), 1)
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.4)
    with (
        answering(b"HTTP/1.1 200 OK\r\n\r\n", for_ever=" ", every_s=0.05) as url,
        pytest.raises(UserError, match="did not end within"),
    ):  # a byte now and then
        OpenAIEngine(f"{url}/v1", "m", tokenizer).generate([[1, 5]], Sampling(2), 1)
    heard: list[bytes] = []
    with (
        answering(b"", for_ever=" ", every_s=3.0, heard=heard) as url,
        pytest.raises(UserError, match="no answer"),
    ):  # hangs
        OpenAIEngine(f"{url}/v1", "m", tokenizer).generate([[1, 5]], Sampling(2), 1)
    assert 1 <= len(heard) <= 5


def test_another_model_in_the_midst_of_it_is_refused(tokenizer: Any) -> None:
    first, second = http(said() | {"model": "m-2026-01"}), http(said() | {"model": "cheap"})
    with answering(first, first, second) as url:
        engine = OpenAIEngine(f"{url}/v1", "m", tokenizer, concurrency=1)
        with pytest.raises(PartError, match="answers as cheap, and did as m-2026-01 before") as caught:
            engine.generate([[1, 5]] * 4, Sampling(2), 4)
    assert [one.text if one else None for one in caught.value.got] == ["4", "4", None, None]


def test_what_was_got_is_kept(tmp_path: Path) -> None:
    """The endpoint breaks in the midst of a batch: the next run asks for what is missing alone."""
    chat = {"choices": [{"message": {"content": "It is \\boxed{4}."}, "finish_reason": "stop"}]}
    rows = "".join(f'{{"problem": "{number} + 1?", "gold": "4"}}\n' for number in range(6))
    (tmp_path / "problems.jsonl").write_text(rows)
    heard: list[bytes] = []

    def teach(url: str) -> None:
        engine = {"name": "openai", "endpoint": f"{url}/v1", "model": "m", "concurrency": 1}
        section = {"engine": engine, "prompts": [str(tmp_path / "problems.jsonl")], "work": str(tmp_path / "work")}
        config = parse_config(json.dumps({"teach": {**section, "attempts": 1, "logprobs": False}}))
        execute("teach", config, tmp_path / "out", {}, RunContext(tracked=False))

    with answering(*[http(chat)] * 4, http("no", "402 Pay"), heard=heard) as url, pytest.raises(UserError, match="402"):
        teach(url)
    assert len(heard) >= 5
    heard.clear()
    with answering(http(chat), heard=heard) as url:
        teach(url)
    assert len(heard) == 2
    assert pq.read_table(tmp_path / "out" / "attempts.parquet").num_rows == 6


def test_a_bounded_client_says_why() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx" * 1) as url, web.client(5.0, 100) as client:
        began = time.monotonic()
        with pytest.raises(Exception, match=r".") as caught:
            client.get(url)
        assert web.reason(caught.value)
        assert time.monotonic() - began < 30
