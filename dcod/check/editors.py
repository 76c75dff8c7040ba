"""The schema of the configuration beside a configuration, so that editors complete and check its keys at once.

It lies there, and not at an address, so that the two can be moved, shared and committed together; the first line of
the configuration names it as editors do, relative to the file that the line stands in. Its name is hidden: a folder or
`*.json` that is a source of traces would read it as one.
"""

from __future__ import annotations

import json
from pathlib import Path

from dcod.config import reference
from dcod.errors import UserError
from dcod.storage import marks, outputs

FILE = ".dcod.schema.json"
LINE = f"# yaml-language-server: $schema={FILE}\n"


def provide(folder: Path) -> tuple[str, str]:
    """Writes the schema into a folder, unless it lies there or another file does.

    Returns:
        The first line of a configuration in that folder, and what is to be told; the line is "" where a file that dcod
        did not write has the name: it stays.

    Raises:
        UserError: the folder cannot be written.
    """
    file, schema = folder / FILE, reference.schema()
    if _is(file, schema):
        return LINE, f"{file}, by which editors complete its keys, is there"
    try:
        outputs.check_file(file)
    except UserError as error:
        return "", f"no schema for editors: {error}"
    marked = {"$comment": marks.FILE_MARK, **schema}
    outputs.write_file(file, json.dumps(marked, indent=1, ensure_ascii=False) + "\n")
    return LINE, f"wrote {file}, by which editors complete its keys"


def _is(file: Path, schema: dict[str, object]) -> bool:
    """Whether a file holds the schema, whoever wrote it."""
    try:
        there = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(there, dict) and {**there, "$comment": ""} == {**schema, "$comment": ""}
