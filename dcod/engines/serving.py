"""A registered student behind MLflow's pyfunc: a chat request is answered as the evaluation asked.

Its chat template, its ends of a turn, its precision, and the limits of the evaluation where a request says none. MLflow
loads this module by its name in ``MLmodel``, so a process that serves has dcod, as its images do; the model folder
holds no code. Transformers alone: ``mlflow.transformers.load_model`` reads the same model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod.engines.base import Completion, Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.models import references
from dcod.traces import prompts

if TYPE_CHECKING:
    from dcod.traces.schema import Message

DEFAULTS: dict[str, Any] = {
    "max_tokens": 512, "temperature": 0.0, "top_p": 1.0, "seed": 0, "dtype": "float32",
    "chat_template": "model", "system_prompt": prompts.OF_TEMPLATE,
}  # fmt: skip
_ASKED = ("max_tokens", "temperature", "top_p", "n", "stop")


class Student:
    """One model folder that answers chat requests.

    Args:
        folder: of the checkpoint.
        settings: in place of DEFAULTS.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.settings = DEFAULTS | dict(settings)
        self.tokenizer = prompts.load_tokenizer(folder, self.settings["chat_template"], self.settings["system_prompt"])
        self.engine = TransformersEngine(folder, self.tokenizer, self.settings["dtype"])
        self.name = folder.parent.name

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Answers, one chat completion a request.

        Args:
            model_input: requests with ``messages`` and perhaps max_tokens, temperature, top_p, n, stop: a mapping, a
                list of them, or a table with one in each row.
            params: the same for all of them, unless one says otherwise.

        Raises:
            UserError: a request has no messages, or what it asks for cannot be.
        """
        given = {key: value for key, value in (params or {}).items() if _said(value)}
        return [self._answer(given | request) for request in _requests(model_input)]

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        asked = self.settings | {name: request[name] for name in _ASKED if name in request}
        prompt = prompts.encode_prompt(self.tokenizer, _messages(request))
        choices, count = [], 0
        for sample in range(int(asked.get("n", 1))):
            sampling = Sampling(
                int(asked["max_tokens"]), float(asked["temperature"]), float(asked["top_p"]), int(asked["seed"]),
                sample=sample,
            )  # fmt: skip
            (completion,) = self.engine.generate([prompt], sampling, 1)
            count += len(completion.token_ids)
            choices.append(_choice(sample, completion, list(asked.get("stop", []))))
        used = {"prompt_tokens": len(prompt), "completion_tokens": count, "total_tokens": len(prompt) + count}
        return {
            "id": "", "object": "chat.completion", "created": int(time.time()), "model": self.name,
            "choices": choices, "usage": used,
        }  # fmt: skip


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Student:
    """What MLflow calls; ``path`` is the folder of ``MLmodel``, or the data folder in it."""
    root = Path(path)
    folder = root / "model" if (root / "model").is_dir() else root
    return Student(references.complete(folder), model_config or {})


def _requests(model_input: Any) -> list[dict[str, Any]]:
    if hasattr(model_input, "to_dict"):  # a table
        model_input = model_input.to_dict(orient="records")
    rows = [model_input] if isinstance(model_input, Mapping) else list(model_input)
    return [{key: value for key, value in row.items() if _said(value)} for row in rows]


def _said(value: Any) -> bool:
    """Whether a request says something there; a table has NaN where it does not."""
    return value is not None and value == value


def _messages(request: Mapping[str, Any]) -> list[Message]:
    messages: list[Message] = [
        {"role": str(message["role"]), "content": str(message.get("content") or "")}
        for message in request.get("messages", [])
    ]
    if not messages:
        raise UserError('a chat request needs messages, such as {"messages": [{"role": "user", "content": "2+2?"}]}')
    return messages


def _choice(index: int, completion: Completion, stops: list[str]) -> dict[str, Any]:
    text, reason = completion.text, "length" if completion.truncated else "stop"
    for stop in stops:
        head, mark, _ = text.partition(stop)
        text, reason = (head, "stop") if mark else (text, reason)
    return {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
