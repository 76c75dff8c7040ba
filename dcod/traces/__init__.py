"""The trace (``schema``), where rows come from (``sources``, ``reading``, ``formats``) and what a student is asked.

``items`` makes a row its traces, by a format or a mapping, and accounts for its columns (``columns``, ``flags``,
``templates``). A new format is a file in ``formats``; a new kind of place a branch of ``sources``. ``reading`` opens
files and holds each row to ``ingest.row_bytes``; ``rows`` is a row, with the limits of its values; ``bounded``
limits what Parquet unpacks to. ``turns`` knows where a student's turn ends, ``prompts`` how a problem is put,
``contents`` in which form a template takes it, and ``said`` whether the student sees and says what stands there.
"""

from dcod.traces.schema import (
    FILE,
    SCHEMA,
    Message,
    Split,
    Trace,
    Verdict,
    check_tokenizer,
    count_traces,
    prompt_digest,
    read_batches,
    read_traces,
    schema_of,
    sources_of,
    tokenizer_of,
    write_traces,
)

__all__ = [
    "FILE",
    "SCHEMA",
    "Message",
    "Split",
    "Trace",
    "Verdict",
    "check_tokenizer",
    "count_traces",
    "prompt_digest",
    "read_batches",
    "read_traces",
    "schema_of",
    "sources_of",
    "tokenizer_of",
    "write_traces",
]
