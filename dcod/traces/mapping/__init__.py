"""How what a row has becomes what a trace has: columns by a mapping (``engine``, ``paths``), and recorded ``tokens``.

A mapping's fields are in dcod.config.mapping; ``addresses`` finds it, ``presets`` holds ready ones, ``checking``
compares it with a source's first rows, ``joining`` puts a second file's rows beside them.
"""

from dcod.traces.mapping.tokens import check_text, student_tokens, with_end

__all__ = ["check_text", "student_tokens", "with_end"]
