"""An OpenAI-compatible server as an engine: ``POST /v1/completions`` with token ids, so no template is applied twice.

vLLM, SGLang and llama.cpp serve it. The model folder is still needed here, for tokenizer, template and digest; that
the server runs the very same model is the user's word. A server gives text, not tokens: the token ids of a completion
are its text tokenised anew.
"""

from __future__ import annotations

import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from dcod.engines import Completion, Sampling
from dcod.errors import UserError
from dcod.packing import Example
from dcod.progress import track

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TRIES = 5
_PAUSE_S = 0.5  # doubled from try to try
_TIMEOUT_S = 600.0
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)


class OpenAIEngine:
    """Asks one model of a server. Implements :class:`dcod.engines.Engine`; the key is in OPENAI_API_KEY, if any."""

    def __init__(self, endpoint: str, model: str, tokenizer: PreTrainedTokenizerBase, concurrency: int = 8) -> None:
        self.address = f"{endpoint.rstrip('/')}/completions"
        self.model = model
        self.tokenizer = tokenizer
        self.concurrency = concurrency

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling, batch_size: int) -> list[Completion]:
        """One completion per prompt, each asked with a seed of its own; at most ``batch_size`` requests at once.

        Raises:
            UserError: the server refuses, or stays silent.
        """
        requests = [
            {
                "prompt": prompt,
                "max_tokens": sampling.max_new_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "seed": (sampling.seed * 1_000_003 + number) % 2**31,
            }
            for number, prompt in enumerate(prompts)
        ]
        return [self._completion(answer) for answer in self._ask_all(requests, "generate", batch_size)]

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
        for example, answer in zip(examples, self._ask_all(requests, "score", self.concurrency), strict=True):
            found = (_choice(answer).get("logprobs") or {}).get("token_logprobs") or []
            begin, size = len(example.prompt_tokens), len(example.completion_tokens)
            values = found[begin : begin + size]
            if len(values) != size or any(value is None for value in values):
                raise UserError(f"{self.address}: gives no log-probs of a prompt (echo); score with another engine")
            out.append(([float(value) for value in values], [math.nan] * size))
        return out

    def _completion(self, answer: dict[str, Any]) -> Completion:
        choice = _choice(answer)
        text, truncated = str(choice.get("text", "")), choice.get("finish_reason") == "length"
        tokens = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return Completion(text, tokens if truncated else [*tokens, self.tokenizer.eos_token_id], truncated)

    def _ask_all(self, requests: Sequence[dict[str, Any]], what: str, at_once: int) -> list[dict[str, Any]]:
        with ThreadPoolExecutor(max(1, min(self.concurrency, at_once))) as pool:
            waiting = [pool.submit(self._ask, request) for request in requests]
            try:
                return [future.result() for future in track(waiting, what)]
            except BaseException:
                for future in waiting:
                    future.cancel()
                raise

    def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        key = os.environ.get("OPENAI_API_KEY", "")
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        data = json.dumps({"model": self.model, **body}).encode()
        reason = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE_S * 2**attempt)
            request = urllib.request.Request(self.address, data, headers)  # noqa: S310 (http or https by configuration)
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                    return dict(json.load(answer))
            except urllib.error.HTTPError as error:
                reason = f"{error.code} {error.reason}: {error.read(500).decode('utf-8', 'replace')}"
                if error.code not in _AGAIN:
                    break
            except (OSError, ValueError) as error:
                reason = str(getattr(error, "reason", error))
        raise UserError(f"{self.address}: no answer ({' '.join(reason.split())[:300]}); see evaluate.engine")


def _choice(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not choices or not isinstance(choices[0], dict):
        raise UserError(f"the server's answer has no choices: {json.dumps(answer)[:200]}")
    return dict(choices[0])
