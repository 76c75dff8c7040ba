"""Why a row is refused; apart from the formats, so that who maps a benchmark does not load them all."""

from __future__ import annotations

MESSAGE = 1000  # characters of what is said about a row: it may quote the row
TEXT = 2**22  # characters of one field, which are far more than any student reads


class RowError(Exception):
    """A row that cannot become a trace: a reason code for the quarantine, and a message for people.

    ``duplicate_of`` is the id of the trace that a duplicate repeats.
    """

    def __init__(self, code: str, message: str, duplicate_of: str = "") -> None:
        message = message[:MESSAGE]
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.duplicate_of = duplicate_of
