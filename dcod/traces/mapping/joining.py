"""Two files joined by an id: the row of the second file with a row's id is put beside it, from an index on disk."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from dcod.config.mapping import JoinConfig
from dcod.errors import UserError
from dcod.traces import sources
from dcod.traces.mapping import paths
from dcod.traces.mapping.paths import MissingError
from dcod.traces.rows import Block, ParsedRows, RawRow

_SHOWN = 60


class Joined:
    """The rows of a second file by their ids."""

    def __init__(self, join: JoinConfig, database: sqlite3.Connection) -> None:
        self._join, self._db = join, database
        self._on = paths.parse(join.on)

    def fill(self) -> None:
        """Reads the second file.

        Raises:
            UserError: it is not there, or no row of it has the id.
        """
        self._db.execute("create table other (id text primary key, raw blob, times integer) without rowid")
        by = paths.parse(self._join.by)
        known = 0
        for row in sources.read_rows(self._join.file):
            name = _id(row, by)
            if name is not None:
                known += 1
                self._db.execute(
                    "insert into other values (?, ?, 1) on conflict (id) do update set times = times + 1",
                    (name, row.raw),
                )
        if not known:
            raise UserError(f"source {self._join.file}: no row has {self._join.by!r}, by which it would be joined")

    def block(self, block: Block) -> ParsedRows:
        """Rows with their partners."""
        return ParsedRows([self._row(row) for row in block.rows()])

    def _row(self, row: RawRow) -> RawRow:
        if row.row is None:
            return row
        name = _id(row, self._on)
        if name is None:
            return replace(row, row=None, error="no_match", message=f"no {self._join.on} in the row, to join it by")
        match = self._db.execute("select raw, times from other where id = ?", (name,)).fetchone()
        if match is None:
            told = f"{self._join.on} {name[:_SHOWN]!r}: no row of {self._join.file} has it"
            return replace(row, row=None, error="no_match", message=told)
        if match[1] > 1:
            told = f"{self._join.on} {name[:_SHOWN]!r}: {match[1]} rows of {self._join.file} have it"
            return replace(row, row=None, error="joins_twice", message=told)
        whole = {**row.row, self._join.name: json.loads(match[0])}
        return replace(row, row=whole, raw=json.dumps(whole).encode())


@contextmanager
def joined(join: JoinConfig) -> Iterator[Joined]:
    """The second file, while rows are joined.

    Raises:
        UserError: as :meth:`Joined.fill`.
    """
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder) / "join.sqlite")) as database:
        database.executescript("pragma journal_mode = off; pragma synchronous = off;")
        rows = Joined(join, database)
        rows.fill()
        yield rows


def _id(row: RawRow, path: paths.Path) -> str | None:
    try:
        value = paths.at(row.row, path, ()) if row.row is not None else None
    except MissingError:
        return None
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
