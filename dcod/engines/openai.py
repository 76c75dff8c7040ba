"""An OpenAI-compatible server as an engine: ``POST /v1/completions`` with token ids, so no template is applied twice.

vLLM, SGLang and llama.cpp serve it. The model folder is still needed here, for tokenizer, template and digest; that
the server runs the very same model is the user's word. A server gives text: the token ids of a completion are its text
tokenised anew, except where the sampler's log-probs are asked for. Then they are the sampled ones, which vLLM gives.

``chat()`` asks ``/v1/chat/completions``, which needs no tokenizer: a teacher of which only the text is known.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from dcod.engines import Completion, Sampling, likeliest
from dcod.errors import UserError
from dcod.packing import Example
from dcod.progress import track

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TRIES = 5
_PAUSE_S = 0.5  # doubled from try to try
_TIMEOUT_S = 600.0
_LONGEST_S = 600.0  # a server that wants a longer pause than this is not waited for
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
# Else vLLM's server takes these from the generation_config.json of its model, and they would be a part of the policy;
# further end tokens as well, so the one of the tokenizer is named as a stop token and the rest ignored.
_NOTHING_ELSE = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
_PROBES = 8  # prompts that show what the server's log-probs are
_NOISE = 0.01
_TOKEN = "token_id:"  # how vLLM writes a token when it is asked for ids


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

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling, batch_size: int) -> list[Completion]:
        """One completion per prompt, each asked with a seed of its own; at most ``batch_size`` requests at once.

        Raises:
            UserError: the server refuses, or stays silent.
        """
        further: dict[str, Any] = {}
        if sampling.record:
            further = {"logprobs": sampling.top_k, "return_tokens_as_token_ids": True, **_NOTHING_ELSE}
            further |= {"stop_token_ids": [self.tokenizer.eos_token_id], "ignore_eos": True}
        requests = [{"prompt": prompt, **_drawn(sampling, number), **further} for number, prompt in enumerate(prompts)]
        answers = self._ask_all(self.address, requests, "generate", batch_size)
        return [
            self._completion(answer, len(prompt), sampling) for prompt, answer in zip(prompts, answers, strict=True)
        ]

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
            UserError: the server refuses, or stays silent.
        """
        requests = [
            {"messages": list(messages), **_drawn(sampling, number)} for number, messages in enumerate(conversations)
        ]
        out = []
        for answer in self._ask_all(f"{self.endpoint}/chat/completions", requests, "generate", batch_size):
            choice = _choice(answer)
            message = choice.get("message") or {}
            text, usage = str(message.get("content") or ""), answer.get("usage") or {}
            reasoning = str(message.get("reasoning_content") or message.get("reasoning") or "").strip()
            read, wrote = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
            text = f"<think>\n{reasoning}\n</think>\n\n{text}" if reasoning else text
            out.append(Completion(text, [], choice.get("finish_reason") != "stop", read=read, wrote=wrote))
        return out

    def score(self, examples: Sequence[Example], batch_tokens: int) -> list[tuple[list[float], list[float]]]:  # noqa: ARG002
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
        out = []
        for example, answer in zip(
            examples, self._ask_all(self.address, requests, "score", self.concurrency), strict=True
        ):
            found = (_choice(answer).get("logprobs") or {}).get("token_logprobs") or []
            begin, size = len(example.prompt_tokens), len(example.completion_tokens)
            values = found[begin : begin + size]
            if len(values) != size or any(value is None for value in values):
                raise UserError(f"{self.address}: gives no log-probs of a prompt (echo); score with another engine")
            out.append(([float(value) for value in values], [math.nan] * size))
        return out

    def _completion(self, answer: dict[str, Any], read: int, sampling: Sampling) -> Completion:
        choice = _choice(answer)
        text, truncated = str(choice.get("text", "")), choice.get("finish_reason") == "length"
        if sampling.record:
            record = self._record(choice, truncated, sampling.top_k)
            return Completion(text, truncated=truncated, read=read, wrote=len(record["token_ids"]), **record)
        tokens = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        tokens = tokens if truncated else [*tokens, self.tokenizer.eos_token_id]
        return Completion(text, tokens, truncated, read=read, wrote=len(tokens))

    def _record(self, choice: dict[str, Any], truncated: bool, top_k: int) -> dict[str, Any]:
        """Token ids and log-probs of an answer, as fields of a Completion; what is not certain is refused."""
        found = choice.get("logprobs") or {}
        tokens, logprobs = found.get("tokens") or [], found.get("token_logprobs") or []
        if not tokens or not all(str(token).startswith(_TOKEN) for token in tokens):
            what = "log-probs without token ids" if tokens else "no log-probs"
            raise UserError(
                f"{self.address}: gives {what} (return_tokens_as_token_ids, which vLLM knows); set "
                "teach.logprobs=false to take the text alone"
            )
        ids, end = [int(token.removeprefix(_TOKEN)) for token in tokens], self.tokenizer.eos_token_id
        if len(logprobs) != len(ids) or any(value is None for value in logprobs):
            raise UserError(f"{self.address}: gives {len(logprobs)} log-probs for {len(ids)} tokens")
        if not truncated and ids[-1] != end:
            raise UserError(
                f"{self.address}: a completion ends in token {ids[-1]}, the end token of the tokenizer is {end}; give "
                "the folder of the very model that is served, or set teach.logprobs=false to take the text alone"
            )
        record: dict[str, Any] = {"token_ids": ids, "logprobs": [float(value) for value in logprobs]}
        if top_k:
            tops = found.get("top_logprobs") or []
            kept = [likeliest({int(key.removeprefix(_TOKEN)): v for key, v in top.items()}, top_k) for top in tops]
            record |= {"top_ids": [list(one) for one in kept], "top_logprobs": [list(one.values()) for one in kept]}
        return record

    def _ask_all(
        self, address: str, requests: Sequence[dict[str, Any]], what: str, at_once: int
    ) -> list[dict[str, Any]]:
        with ThreadPoolExecutor(max(1, min(self.concurrency, at_once))) as pool:
            waiting = [pool.submit(self._ask, address, request) for request in requests]
            try:
                return [future.result() for future in track(waiting, what)]
            except BaseException:
                for future in waiting:
                    future.cancel()
                raise

    def _ask(self, address: str, body: dict[str, Any]) -> dict[str, Any]:
        key = os.environ.get("OPENAI_API_KEY", "")
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        data = json.dumps({"model": self.model, **body}).encode()
        reason = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE_S * 2**attempt)
            self.pace.wait()
            request = urllib.request.Request(address, data, headers)  # noqa: S310 (http or https by configuration)
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                    return dict(json.load(answer))
            except urllib.error.HTTPError as error:
                reason = f"{error.code} {error.reason}: {error.read(500).decode('utf-8', 'replace')}"
                pause = _pause(error.headers.get("Retry-After") or "")
                if error.code not in _AGAIN or pause > _LONGEST_S:
                    break
                self.pace.hold(pause)
            except (OSError, ValueError) as error:
                reason = str(getattr(error, "reason", error))
        raise UserError(f"{address}: no answer ({' '.join(reason.split())[:300]}); see the section `engine`")


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
            apart, found = plain[first] - plain[token], told[first] - told[token]
            if apart > _NOISE and abs(found - apart) < abs(found - apart / sampling.temperature):
                return True
        return False
    mass = 0.0
    for token, logprob in plain.items():
        if mass > sampling.top_p + _NOISE and token in told:
            return True
        mass += math.exp(logprob)
    return False


def _drawn(sampling: Sampling, number: int) -> dict[str, Any]:
    return {
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed_of(number) % 2**31,
    }


def _choice(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not choices or not isinstance(choices[0], dict):
        raise UserError(f"the server's answer has no choices: {json.dumps(answer)[:200]}")
    return dict(choices[0])
