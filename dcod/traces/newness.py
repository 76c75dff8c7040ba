"""Which files of the sources are new: what an earlier run has read is known by its content, not by its name."""

from __future__ import annotations

from collections.abc import Iterable, Set

from dcod.traces import sources
from dcod.traces.sources import Unit


def new_files(uris: Iterable[str], seen: Set[str]) -> list[Unit]:
    """The files behind some sources whose digests nobody has seen, in their order.

    A file that was renamed or copied is not new; one that grew is, as a whole: what it had before comes out as
    duplicates. Each has a ``name``, which is a source in its own right, and a ``digest()``.

    Args:
        uris: as in ``ingest.sources``.
        seen: SHA-256 digests, as ``sources.json`` of a trace set names them.

    Raises:
        UserError: a source is not there.
    """
    return [unit for uri in uris for unit in sources.expand(uri) if unit.digest() not in seen]
