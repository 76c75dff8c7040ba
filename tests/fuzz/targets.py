"""What the fuzzers try, by name: each takes any bytes, and raises only where a promise is broken.

``make fuzz`` runs each under atheris for a while, from the inputs in tests/fuzz/corpus, and writes last-run.log. What
it finds becomes an ordinary test.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from tests.fuzz import readers

CORPUS = Path(__file__).parent / "corpus"
_scratch = tempfile.TemporaryDirectory(prefix="dcod-fuzz-")


def reader(data: bytes) -> None:
    """Any bytes as a file of traces."""
    if data:
        readers.check(data, Path(_scratch.name))


def extraction(data: bytes) -> None:
    """Any text as a response: an answer is found or not, and cleaning makes nothing up."""
    from dcod.grading import extract
    from dcod.traces import cleaning

    text = data.decode("utf-8", "replace")
    for last_number in (False, True):
        found = extract.extract(text, last_number=last_number)
        assert found is None or found.strip()
    cut = cleaning.cut_run_on(text)
    assert text.startswith(cut.rstrip())
    assert len(cleaning.strip_calculator(text)) <= len(text)
    cleaning.fault(text)


def grading(data: bytes) -> None:
    """Any two texts as reference and answer: a verdict or none, and never "different" of the same text."""
    from dcod import grading
    from dcod.grading import equality

    gold, _, answer = data.decode("utf-8", "replace").partition("\n")
    if gold.strip():
        with mock.patch.object(equality, "ask", return_value=None):  # the worker has limits of its own
            assert grading.equivalent(gold, answer) in (True, False, None)
            grade = grading.grade(answer, gold)
        assert grade.outcome in ("correct", "wrong", "unparseable", "truncated", "error")


def templates(data: bytes) -> None:
    """Any text in a chat's turns, and any text as a templated prompt."""
    from dcod.traces import formats, prompts
    from dcod.traces.formats import RowError
    from dcod.traces.formats._fields import asked
    from dcod.traces.said import ControlTokenError

    first, _, second = data.decode("utf-8", "replace").partition("\n")
    chat = [{"role": "system", "content": first}, {"role": "user", "content": second}]
    with contextlib.suppress(ControlTokenError):
        ids = prompts.encode_prompt(_tokenizer(), chat)
        assert all(type(token) is int for token in ids)
        assert ids != prompts.encode_completion(_tokenizer(), first)
    for call in (
        lambda: asked(f"<|im_start|>{first}\n{second}"),
        lambda: asked(first + second),
        lambda: formats.get("templated").to_trace({"input": f"<|start_header_id|>{first}", "output": second}),
    ):
        with contextlib.suppress(RowError):
            call()


def configuration(data: bytes) -> None:
    """Any text as a configuration, its last line as a setting on the command line: understood, or one line."""
    from dcod.config import parse_config
    from dcod.errors import UserError

    text, _, override = data.decode("utf-8", "replace").rpartition("\n")
    with contextlib.suppress(UserError):
        parse_config(text, [override] if override else [])


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (reader, extraction, grading, templates, configuration)
}


@cache
def _tokenizer() -> Any:
    from dcod.traces import prompts
    from tests.tiny import save_tiny_student

    return prompts.load_tokenizer(save_tiny_student(Path(_scratch.name) / "student"))


def main() -> None:
    """``python -m tests.fuzz.targets NAME SECONDS [FOLDER]``: one target, new inputs into the folder."""
    import atheris

    name, seconds = sys.argv[1], sys.argv[2]
    with atheris.instrument_imports(include=["dcod"]):
        import dcod.config.load
        import dcod.ingest.examine  # noqa: F401 (brings the others along)
        from dcod.traces import formats

        for one in formats.names():
            formats.get(one)
    found = sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp(prefix=f"dcod-fuzz-{name}-")
    if name == "reader":
        readers.seeds(Path(found))
    if name == "templates":
        _tokenizer()  # brings torch, which takes longer than an input may
    options = [
        f"-max_total_time={seconds}",
        "-timeout=20",
        "-rss_limit_mb=3000",
        "-max_len=4096",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], found, str(CORPUS / name), *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
