"""Trace formats: one file each, found by name; adding a format means adding a file here.

A format has ``detect(row) -> bool``, which must be true for its rows and for no other format's, and ``to_trace(row) ->
Trace``, which takes over what the row says, verbatim, or raises :class:`RowError`; ``READS`` names the columns that it
takes. Rows of texts and numbers alone are known by names and types: ``detect`` sees empty values then.
"""

from dcod.traces.formats._find import Format, detect, fitting, get, names
from dcod.traces.refusals import MESSAGE, RowError

__all__ = ["MESSAGE", "Format", "RowError", "detect", "fitting", "get", "names"]
