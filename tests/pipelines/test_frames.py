"""kfp's question who called is answered without reading sources, as kfp would have answered it."""

from __future__ import annotations

import inspect

import pytest
from kfp.dsl import pipeline_task

from dcod.config import Config
from dcod_pipelines import frames
from dcod_pipelines.compile import build


def test_no_source_is_read_for_a_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    def stack(context: int = 1) -> list[inspect.FrameInfo]:
        raise AssertionError(f"the whole stack was read, with {context} lines of source a frame")

    monkeypatch.setattr(inspect, "stack", stack)
    build(Config())


def test_the_name_is_that_of_who_called() -> None:
    def ensure() -> str:
        return str(pipeline_task.inspect.stack()[1][3])

    def set_memory_limit() -> str:
        return ensure()

    with frames.quick():
        assert set_memory_limit() == "set_memory_limit"
    assert pipeline_task.inspect is inspect
    assert set_memory_limit() == "set_memory_limit"
