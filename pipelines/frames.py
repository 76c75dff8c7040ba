"""Pipelines in a tenth of the time: kfp asks `inspect.stack()` at every setting of every task who set it.

That reads the source of every frame on the stack, for one name in a message: minutes for a pipeline of twenty tasks,
where the stack is deep and many modules are loaded.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Tells kfp the names of the two innermost frames, and nothing else of the stack."""
    from kfp.dsl import pipeline_task

    its_own = pipeline_task.inspect
    setattr(pipeline_task, "inspect", SimpleNamespace(stack=_stack))  # noqa: B010 - for a type checker it is a module
    try:
        yield
    finally:
        setattr(pipeline_task, "inspect", its_own)  # noqa: B010


def _stack() -> list[tuple[None, None, None, str]]:
    """As far as kfp reads `inspect.stack()`: `[1][3]` is the name of the function that called its caller."""
    asking = sys._getframe(1)
    caller = asking.f_back or asking
    return [(None, None, None, frame.f_code.co_name) for frame in (asking, caller)]
