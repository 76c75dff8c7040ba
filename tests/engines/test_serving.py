"""A registered student behind MLflow's pyfunc, and its scoring server, answers a chat request as the evaluation did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod.config import Config
from dcod.engines.base import Sampling
from dcod.engines.serving import Student
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.promote.promote import _serving
from dcod.traces import prompts
from dcod.tracking.registry import Registry
from dcod.tracking.runs import Tracker
from tests.tracked import fresh_store

MESSAGES: list[Any] = [{"role": "user", "content": "What is 3 + 4 + 5?"}]
LIMIT = 9


def evaluated(folder: Path, limit: int = LIMIT) -> str:
    """What the evaluation of the same settings gets."""
    tokenizer = prompts.load_tokenizer(folder, "model")
    engine = TransformersEngine(folder, tokenizer)
    (completion,) = engine.generate([prompts.encode_prompt(tokenizer, MESSAGES)], Sampling(limit), 1)
    return completion.text


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Any:
    """The registered model as MLflow loads it, by its pyfunc flavour."""
    from mlflow import pyfunc

    tracker = Tracker(fresh_store(tmp_path_factory.mktemp("store")))
    config = Config.model_validate({"evaluate": {"benchmarks": [{"name": "gsm8k", "max_new_tokens": LIMIT}]}})
    with tracker.stage("train", None, digest="d") as run:
        run.output(tiny_student)  # logged before anybody knows how it will be asked
    registry = Registry(tracker)
    registry.models.serving = _serving(config)
    version = registry.register("m", tiny_student, run.run_id)
    return pyfunc.load_model(tracker.client.get_model_version_download_uri("m", str(version.version)))


def test_pyfunc_answers_as_the_evaluation_did(served: Any, tiny_student: Path) -> None:
    (answer,) = served.predict({"messages": MESSAGES})
    assert answer["object"] == "chat.completion"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": evaluated(tiny_student)}
    assert answer["usage"]["completion_tokens"] <= LIMIT
    (shorter,) = served.predict({"messages": MESSAGES, "max_tokens": 3})
    assert shorter["choices"][0]["message"]["content"] == evaluated(tiny_student, 3)
    assert shorter["choices"][0]["finish_reason"] == "length"


def test_the_scoring_server_takes_a_chat_request(served: Any, tiny_student: Path) -> None:
    """What stands behind `mlflow models serve`, without its process."""
    from mlflow.pyfunc import scoring_server

    request = json.dumps({"messages": MESSAGES, "max_tokens": 5})
    schema = served.metadata.get_input_schema()
    answer = scoring_server.invocations(request, "application/json", served, schema)
    assert answer.status == 200, answer.response
    said = json.loads(answer.response)
    said = said[0] if isinstance(said, list) else said
    assert said["choices"][0]["message"]["content"] == evaluated(tiny_student, 5)


def test_the_example_of_the_model_is_one_that_it_answers(served: Any) -> None:
    example = served.input_example
    assert example["messages"][0]["role"] == "user"
    assert served.predict(example)[0]["choices"]


def test_requests_that_say_more_or_nothing(tiny_student: Path) -> None:
    student = Student(tiny_student, {"max_tokens": 6})
    text = evaluated(tiny_student, 6)
    (answer,) = student.predict({"messages": MESSAGES, "stop": [text[2:4]]})
    assert answer["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": text.partition(text[2:4])[0]},
        "finish_reason": "stop",
    }
    answers = student.predict([{"messages": MESSAGES, "n": 2, "temperature": 1.0}, {"messages": MESSAGES}])
    assert [len(answer["choices"]) for answer in answers] == [2, 1]
    with pytest.raises(UserError, match="needs messages"):
        student.predict({"prompt": "x"})


def test_what_was_evaluated_behind_a_system_prompt_is_served_behind_it(tiny_student: Path) -> None:
    """The start, too, which has its own template when it is registered as the first champion."""
    config = Config.model_validate({"student": {"system_prompt": "Be brief."}})
    said = Student(tiny_student, {**_serving(config), "max_tokens": LIMIT}).predict({"messages": MESSAGES})[0]
    tokenizer = prompts.of_student(tiny_student, config.student)
    asked = prompts.encode_prompt(tokenizer, MESSAGES)
    assert asked == prompts.encode_prompt(
        prompts.load_tokenizer(tiny_student), [{"role": "system", "content": "Be brief."}, *MESSAGES]
    )
    assert said["usage"]["prompt_tokens"] == len(asked)
