"""Whatever a row holds, it becomes a trace that can be stored, or is refused with a reason: never a crash."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcod.config import IngestConfig
from dcod.ingest.examine import clean, verify
from dcod.traces import Trace, formats, write_traces
from dcod.traces.formats import RowError
from tests.traces.formats.test_formats import ROWS
from tests.traces.formats.test_native import ENGINES, flat, pair
from tests.traces.formats.test_sampled import DEEPSEEK, OPENAI, VLLM

OWN = ROWS[0][1] | {
    "token_ids": [5, 2],
    "behavior_logprobs": [-0.5, 0.0],
    "attempts": 2,
    "temperature": 1.0,
    "top_p": 0.9,
    "teacher": "t",
    "licence": "MIT",
    "tokenizer_digest": "d",
}
SEEDS = [
    *ROWS,
    ("dcod_rows", OWN),
    ("openai_batch", OPENAI),
    ("vllm", VLLM),
    ("reasoning_content", DEEPSEEK),
    *((engine, flat(engine)) for engine in ENGINES),
    *((engine, pair(engine)) for engine in ENGINES),
]
KEYS = sorted({key for _, row in SEEDS for key in row} | {"role", "content", "text", "logprob", "reasoning"})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.just(-(10**400))
    | st.floats()
    | st.text(st.characters(), max_size=12)
    | st.sampled_from(["<think>", "</think>", "#### 4", "\\boxed{4}", "\x00", "\ud83d", "<|im_start|>user\n", "user"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of everything in a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, item in inner for path in paths(item, (*here, key)))] if here or inner else []


def mutated(row: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copied = copy.deepcopy(row)
    node: Any = copied
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return copied


def ingested(name: str, row: dict[str, Any]) -> Trace | RowError:
    """What becomes of a row's first completion; any other exception is the failure that is looked for."""
    try:
        made: Any = formats.get(name).to_trace(row)
        first = made[0] if isinstance(made, list) else made
        if isinstance(first, RowError):
            return first
        return verify(clean(first, IngestConfig()), IngestConfig(keep="all"))
    except RowError as error:
        return error


def check(found: Trace | RowError, folder: Path) -> None:
    if isinstance(found, RowError):
        assert found.code.isidentifier()
        assert found.message
    else:
        assert write_traces(folder / "traces.parquet", [found]) == 1


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_changed_row_becomes_a_trace_or_a_reason(tmp_path: Path, data: st.DataObject) -> None:
    name, row = data.draw(st.sampled_from(SEEDS))
    path = data.draw(st.sampled_from([path for path in paths(row) if path]))
    check(ingested(name, mutated(row, path, data.draw(VALUES))), tmp_path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
def test_any_row_is_detected_or_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    with contextlib.suppress(RowError):  # unknown or ambiguous
        assert formats.detect(row) in formats.names()
    for name in formats.names():  # ingest.format may name any of them
        check(ingested(name, row), tmp_path)
