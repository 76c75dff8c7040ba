"""The worker behind dcod.grading: JSON lines [gold, answer] in, true, false or null out. Its memory is bounded."""

from __future__ import annotations

import json
import logging
import resource
import sys

MEMORY_BYTES = 2 * 2**30
SECONDS = 5  # math-verify's own limit; the parent's is longer and kills


def compare(gold: str, answer: str) -> bool | None:
    """Whether math-verify holds two answers for the same; None where it failed."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify

    targets = (LatexExtractionConfig(), ExprExtractionConfig(), StringExtractionConfig())
    try:
        sides = []
        for text in (gold, answer):
            found = parse(_as_maths(text), targets, parsing_timeout=SECONDS, raise_on_error=True)
            sides.append(found)
        return bool(verify(sides[0], sides[1], timeout_seconds=SECONDS, raise_on_error=True))
    except Exception:
        return None


def _as_maths(text: str) -> str:
    """Marks an answer as LaTeX, so that it is read as a whole and not searched for a number."""
    dressed = any(mark in text for mark in ("$", "\\(", "\\[", "\\boxed"))
    return text if dressed else f"${text}$"


def main() -> None:
    """Answers until standard input ends."""
    import math_verify  # noqa: F401  (imported before the memory limit and the first timed pair)

    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    print("ready", flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        print(json.dumps(compare(gold, answer)), flush=True)


if __name__ == "__main__":
    main()
