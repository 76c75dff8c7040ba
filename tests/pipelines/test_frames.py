"""kfp's question who called is answered without reading sources, and its messages stay as they are."""

import inspect

import pytest
from kfp import dsl

from dcod.config import Config
from dcod_pipelines import frames
from dcod_pipelines.compile import build


def test_no_source_is_read_for_a_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    def stack(context: int = 1) -> list[inspect.FrameInfo]:
        raise AssertionError(f"the whole stack was read, with {context} lines of source a frame")

    monkeypatch.setattr(inspect, "stack", stack)
    build(Config())


def test_the_message_names_who_called() -> None:
    @dsl.container_component
    def one() -> dsl.ContainerSpec:
        return dsl.ContainerSpec(image="an/image")

    def body() -> None:
        task = one()
        task.container_spec = None
        with frames.quick(), pytest.raises(ValueError, match="set_memory_limit can only be used on single-step"):
            task.set_memory_limit("1Gi")

    dsl.pipeline(name="p")(body)
