"""How what a row has becomes what a trace has: its recorded tokens (``tokens``)."""

from dcod.traces.mapping.tokens import check_text, student_tokens, with_end

__all__ = ["check_text", "student_tokens", "with_end"]
