"""An OpenAI-compatible server as an engine: ``POST /v1/completions`` with token ids, so no template is applied twice.

vLLM, SGLang and llama.cpp serve it. The model folder is still needed here, for tokenizer, template and digest; that
the server runs the very same model is the user's word. A server gives text: the token ids of a completion are its text
tokenised anew, except where the sampler's log-probs are asked for. Then they are the sampled ones, which vLLM gives.

``chat()`` asks ``/v1/chat/completions``, which needs no tokenizer: a teacher of which only the text is known.

The server is nobody's friend: what it says is checked, an answer that is none is asked for again, its body and its time
are bounded, and it is not followed to another place. Of the environment only OPENAI_API_KEY counts, and the proxies: an
OPENAI_BASE_URL or OPENAI_CUSTOM_HEADERS that was set for other work changes nothing here.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from dcod.engines._replies import TOKEN, NonsenseError, chat_completion, choice_of, logprobs_of, of_kind, token_id
from dcod.engines.base import Completion, Sampling, likeliest
from dcod.errors import UserError, one_line
from dcod.progress import track
from dcod.storage import retries, web
from dcod.traces import turns
from dcod.traces.scored import ScoredTrace

if TYPE_CHECKING:
    import httpx2
    from transformers import PreTrainedTokenizerBase

_TRIES = 5
_PAUSE_S = 1.0  # after the first
_TIMEOUT_S = 600.0  # to the first byte of an answer, and from there to its last
_MOST_BYTES = 2**26  # of an answer: 32k tokens with 20 alternatives each are 20 MB
_HEADERS = ("accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host")
_LONGEST_S = 600.0  # a server that wants a longer pause than this is not waited for
_CONFLICT = 409  # a server's lock; passes as well
# Else vLLM's server takes these from the generation_config.json of its model, and they would be a part of the policy;
# further end tokens as well, so those of dcod.traces.turns are named as stop tokens and the rest ignored.
_NOTHING_ELSE = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}
_PROBES = 8  # prompts that show what the server's log-probs are
_NOISE = 0.01

T = TypeVar("T")


class PartError(UserError):
    """Some requests of a batch got no answer.

    Attributes:
        got: what the others got, in their order; None for those without.
    """

    def __init__(self, message: object, got: Sequence[Completion | None]) -> None:
        super().__init__(message)
        self.got = list(got)


class OpenAIEngine:
    """Asks one model of a server. Implements :class:`dcod.engines.Engine`; the key is in OPENAI_API_KEY, if any.

    Args:
        endpoint: such as http://127.0.0.1:8000/v1.
        model: its name on the server.
        tokenizer: of that model; None where only :meth:`chat` is used.
        concurrency: requests at once.
        per_minute: requests begun in a minute, evenly spaced; 0 for as many as are answered.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        tokenizer: PreTrainedTokenizerBase | None,
        concurrency: int = 8,
        per_minute: int = 0,
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.address = f"{self.endpoint}/completions"
        self.model = model
        self.tokenizer: Any = tokenizer
        self.concurrency = concurrency
        self.pace = _Pace(60.0 / per_minute if per_minute else 0.0)
        self._client: Any = None
        self._answering = ""  # the model that the server says it is
        self._lock = threading.Lock()

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling, batch_size: int) -> list[Completion]:
        """One completion per prompt, each asked with a seed of its own; at most ``batch_size`` requests at once.

        Raises:
            PartError: the server refuses, stays silent or talks nonsense; with what it said before.
        """
        further: dict[str, Any] = {}
        if sampling.record:
            further = {"logprobs": sampling.top_k, "return_tokens_as_token_ids": True, **_NOTHING_ELSE}
        further |= self._ends(sampling)
        drawn = _drawn(sampling, prompts)
        requests = [{"prompt": prompt, **how, **further} for prompt, how in zip(prompts, drawn, strict=True)]
        takes = [lambda answer, prompt=prompt: self._completion(answer, len(prompt), sampling) for prompt in prompts]
        return self._ask_all(self.address, requests, takes, "generate", batch_size)

    def check_processed(self, prompts: Sequence[list[int]], sampling: Sampling) -> None:
        """Asks a few prompts for one token, as they will be sampled and at temperature 1 and top-p 1.

        Raises:
            UserError: the likeliest tokens show that the server's log-probs are those before temperature and top-p.
        """
        asked = prompts[:_PROBES]
        seen = replace(sampling, max_new_tokens=1, seeds=(), top_k=5)
        pairs = zip(
            self.generate(asked, seen, _PROBES),
            self.generate(asked, replace(seen, temperature=1.0, top_p=1.0), _PROBES),
            strict=True,
        )
        if any(_raw(_tops(told), _tops(plain), sampling) for told, plain in pairs):
            raise UserError(
                f"{self.address}: its log-probs are those before temperature and top-p; start it with --logprobs-mode "
                "processed_logprobs, or sample at temperature 1 and top_p 1"
            )

    def chat(
        self, conversations: Sequence[Sequence[Mapping[str, str]]], sampling: Sampling, batch_size: int
    ) -> list[Completion]:
        """As :meth:`generate`, from messages and through the server's own template; text alone, no token ids.

        Reasoning that a server keeps apart stands in front, in think tags.

        Raises:
            PartError: the server refuses, stays silent or talks nonsense; with what it said before.
        """
        chats = [list(map(dict, messages)) for messages in conversations]
        drawn = _drawn(sampling, chats)
        requests = [{"messages": messages, **how} for messages, how in zip(chats, drawn, strict=True)]
        return self._ask_all(
            f"{self.endpoint}/chat/completions", requests, [chat_completion] * len(requests), "generate", batch_size
        )

    def score(self, examples: Sequence[ScoredTrace], batch_tokens: int) -> list[tuple[list[float], list[float]]]:  # noqa: ARG002
        """Log-probs of the completion tokens, by ``echo``; the entropies are nan, since a server does not tell them.

        Raises:
            UserError: the server refuses, stays silent, or does not echo.
        """
        requests = [
            {
                "prompt": [*example.prompt_tokens, *example.completion_tokens],
                "max_tokens": 1,
                "temperature": 1.0,
                "echo": True,
                "logprobs": 1,
            }
            for example in examples
        ]
        takes = [lambda answer, one=example: self._echoed(answer, one) for example in examples]
        return self._ask_all(self.address, requests, takes, "score", self.concurrency)

    def _echoed(self, answer: dict[str, Any], example: ScoredTrace) -> tuple[list[float], list[float]]:
        echoed = of_kind(choice_of(answer).get("logprobs"), dict).get("token_logprobs") or []
        begin, size = len(example.prompt_tokens), len(example.completion_tokens)
        values = of_kind(echoed, list)[begin : begin + size]
        if len(values) != size or any(value is None for value in values):
            raise UserError(f"{self.address}: gives no log-probs of a prompt (echo); score with another engine")
        return logprobs_of(values, least=-math.inf), [math.nan] * size

    def _ends(self, sampling: Sampling) -> dict[str, Any]:
        """Ends that the server may not know by itself; it knows the tokenizer's, the only one of most models."""
        ends = turns.of(self.tokenizer)
        if not sampling.record and set(ends.stops) == {self.tokenizer.eos_token_id}:
            return {}
        return {"stop_token_ids": list(ends.stops)} | ({"stop": [ends.stop_text]} if ends.stop_text else {})

    def _completion(self, answer: dict[str, Any], read: int, sampling: Sampling) -> Completion:
        choice = choice_of(answer)
        text, truncated = of_kind(choice.get("text", ""), str), choice.get("finish_reason") == "length"
        if sampling.record:
            record = self._record(choice, truncated, sampling.top_k)
            text = turns.text_of(self.tokenizer, record["token_ids"])
            return Completion(text, truncated=truncated, read=read, wrote=len(record["token_ids"]), **record)
        tokens, ends = list(self.tokenizer(text, add_special_tokens=False)["input_ids"]), turns.of(self.tokenizer)
        tokens = tokens if truncated else [*tokens, ends.last]
        return Completion(ends.said_by(text), tokens, truncated, read=read, wrote=len(tokens))

    def _record(self, choice: dict[str, Any], truncated: bool, top_k: int) -> dict[str, Any]:
        """Token ids and log-probs of an answer, as fields of a Completion; what is not certain is refused."""
        reported = of_kind(choice.get("logprobs") or {}, dict)
        tokens, logprobs = (
            of_kind(reported.get("tokens") or [], list),
            of_kind(reported.get("token_logprobs") or [], list),
        )
        if not tokens or not all(str(token).startswith(TOKEN) for token in tokens):
            what = "log-probs without token ids" if tokens else "no log-probs"
            raise UserError(
                f"{self.address}: gives {what} (return_tokens_as_token_ids, which vLLM knows); set "
                "teach.logprobs=false to take the text alone"
            )
        ids, ends = [token_id(token) for token in tokens], turns.of(self.tokenizer)
        if len(logprobs) != len(ids):
            raise NonsenseError(f"gives {len(logprobs)} log-probs for {len(ids)} tokens")
        if not truncated and not turns.ended(self.tokenizer, ids):
            known = " or ".join(f"{token} ({name})" for token, name in ends.names.items())
            raise UserError(
                f"{self.address}: a completion ends in token {ids[-1]}, the end token of the tokenizer is {known}; "
                "give the folder of the very model that is served, or set teach.logprobs=false to take the text alone"
            )
        if max(ids) >= len(self.tokenizer):
            raise NonsenseError(f"names token {max(ids)}, the tokenizer has {len(self.tokenizer)}")
        record: dict[str, Any] = {"token_ids": ids, "logprobs": logprobs_of(logprobs, least=-math.inf)}
        if top_k:
            tops = of_kind(reported.get("top_logprobs") or [], list)
            if len(tops) != len(ids):
                raise NonsenseError(f"gives the likeliest tokens of {len(tops)} positions for {len(ids)} tokens")
            kept = []
            for top in tops:
                told = of_kind(top, dict)
                values = logprobs_of(list(told.values()))
                kept.append(likeliest(dict(zip(map(token_id, told), values, strict=True)), top_k))
            record |= {"top_ids": [list(one) for one in kept], "top_logprobs": [list(one.values()) for one in kept]}
        return record

    def _ask_all(
        self,
        address: str,
        requests: Sequence[dict[str, Any]],
        takes: Sequence[Callable[[dict[str, Any]], T]],
        what: str,
        at_once: int,
    ) -> list[T]:
        """Sends all requests, several at once; where one fails, the error carries the replies to the others."""
        with ThreadPoolExecutor(max(1, min(self.concurrency, at_once))) as pool:
            asked = zip(requests, takes, strict=True)
            waiting = [pool.submit(self._ask, address, request, take) for request, take in asked]
            try:
                return [future.result() for future in track(waiting, what)]
            except BaseException as error:
                for future in waiting:
                    future.cancel()
                if not isinstance(error, UserError):
                    raise
                failed = error
        got = [None if f.cancelled() or f.exception() is not None else f.result() for f in waiting]
        raise PartError(failed, [one if isinstance(one, Completion) else None for one in got]) from None

    def _ask(self, address: str, body: dict[str, Any], take: Callable[[dict[str, Any]], T]) -> T:
        """One answer, as it is taken; asked for again while the server is away, busy, or talks nonsense.

        The SDK's own tries are off: they would not hold the other threads back when one is told to wait, and take no
        pause for an answer above two minutes.
        """
        import openai

        path, reason, late = address.removeprefix(self.endpoint), "", 0
        for _ in retries.Tries(_TRIES, first_s=_PAUSE_S, spread=True, sleep=time.sleep):
            self.pace.wait()
            try:
                reply = self._server().post(path, body={"model": self.model, **body}, cast_to=_response())
                return take(self._read(reply.content))
            except openai.APIStatusError as error:
                reason = f"{error.status_code} {error.response.reason_phrase}: {error.response.text[:500]}"
                pause = _pause(error.response.headers.get("Retry-After") or "")
                passing = retries.is_passing(error.status_code) or error.status_code == _CONFLICT
                if not passing or pause > _LONGEST_S:
                    break
                self.pace.hold(pause)
            except openai.APITimeoutError:
                reason, late = f"nothing for {_TIMEOUT_S:.0f} s", late + 1
                if late > 1:  # it hangs; five times that long would be most of an hour
                    break
            except (openai.OpenAIError, OSError, ValueError, NonsenseError) as error:
                if isinstance(error, UserError):
                    raise
                reason = web.reason(error)
            except web.AnswerError as error:  # too long, packed, or from elsewhere: so it stays
                reason = str(error)
                break
        raise UserError(f"{address}: no answer ({one_line(reason)[:300]}); see the section `engine`")

    def _server(self) -> Any:
        """The client, made once; none of its headers but those that an answer needs is sent."""
        import openai

        def plain(request: httpx2.Request) -> None:
            for name in set(request.headers) - set(_HEADERS):
                del request.headers[name]
            if key:
                request.headers["Authorization"] = f"Bearer {key}"
            elif "Authorization" in request.headers:
                del request.headers["Authorization"]

        key = os.environ.get("OPENAI_API_KEY", "")
        with self._lock:
            if self._client is None:
                http = web.client(_TIMEOUT_S, _MOST_BYTES)
                http.event_hooks = {**http.event_hooks, "request": [plain]}
                self._client = openai.OpenAI(
                    api_key=key or "none", base_url=self.endpoint, max_retries=0, timeout=http.timeout, http_client=http
                )
            return self._client

    def _read(self, content: bytes) -> dict[str, Any]:
        """An answer as JSON, of the model that answered before."""
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            raise NonsenseError(f"its answer is no JSON: {content[:80]!r}") from None
        if not isinstance(answer, dict):
            raise NonsenseError("its answer is no JSON object")
        model = str(answer.get("model") or "")[:200]
        with self._lock:
            self._answering = self._answering or model
            if model and model != self._answering:
                raise UserError(
                    f"{self.endpoint}: answers as {model}, and did as {self._answering} before; a record has one "
                    "sampler: ask for a model that stays the same (engine.model)"
                )
        return answer


class _Pace:
    """When the next request may begin: evenly spaced, and after the pause that a server asked for. For threads."""

    def __init__(self, apart_s: float) -> None:
        self.apart_s = apart_s
        self._lock = threading.Lock()
        self._free = 0.0  # on the monotonic clock

    def wait(self) -> None:
        """Takes the next moment, and waits for it."""
        with self._lock:
            at = max(self._free, time.monotonic())
            self._free = at + self.apart_s
        time.sleep(max(0.0, at - time.monotonic()))

    def hold(self, seconds: float) -> None:
        """Lets nobody begin for so long."""
        with self._lock:
            self._free = max(self._free, time.monotonic() + seconds)


def _pause(asked: str) -> float:
    """The seconds that a Retry-After asks for, as a number or as a date; 0 for one that is neither."""
    if asked.isdecimal():
        return float(asked)
    try:
        at = parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    return max(0.0, (at - dt.datetime.now(dt.UTC)).total_seconds())


def _tops(said: Completion) -> dict[int, float]:
    assert said.top_ids is not None
    assert said.top_logprobs is not None
    return dict(zip(said.top_ids[0], said.top_logprobs[0], strict=True))


def _raw(told: dict[int, float], plain: dict[int, float], sampling: Sampling) -> bool:
    """Whether the likeliest tokens lie as far apart as without the temperature, or some should have been cut away."""
    first, *others = plain
    if sampling.temperature != 1:
        for token in set(others) & set(told) if first in told else ():
            apart, moved = plain[first] - plain[token], told[first] - told[token]
            if apart > _NOISE and abs(moved - apart) < abs(moved - apart / sampling.temperature):
                return True
        return False
    mass = 0.0
    for token, logprob in plain.items():
        if mass > sampling.top_p + _NOISE and token in told:
            return True
        mass += math.exp(logprob)
    return False


def _drawn(sampling: Sampling, prompts: Sequence[Any]) -> list[dict[str, Any]]:
    how = {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p}
    return [{**how, "seed": seed} for seed in sampling.seeds_of(prompts)]


def _response() -> Any:
    """What the SDK is asked to give back: the answer as it came, since all of it is checked here."""
    import httpx2

    return httpx2.Response
