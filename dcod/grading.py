"""Is an answer right? Cheap exact comparison first, then math-verify in a worker that may be killed.

Outcomes are exhaustive: correct, wrong, unparseable (no answer found), truncated (the limit came before an
answer), error (the comparison itself failed or took too long).
"""

from __future__ import annotations

import atexit
import json
import re
import selectors
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from dcod.answers import extract

VERSION = 1  # moves with every change that can change a verdict
TIMEOUT_S = 10.0
LONGEST = 4000  # characters of an answer that is still compared

Outcome = Literal["correct", "wrong", "unparseable", "truncated", "error"]


@dataclass(frozen=True)
class Grade:
    """The verdict on one response; ``answer`` is what was found in it."""

    outcome: Outcome
    answer: str | None = None


def grade(response: str, gold: str, *, truncated: bool = False, last_number: bool = False) -> Grade:
    """Grades one response.

    Args:
        response: what the model wrote.
        gold: the reference answer.
        truncated: the limit ended the response. Where it had stated an answer before, that one is graded;
            a bare last number of a cut text is no answer.
        last_number: the benchmark allows a bare last number as an answer.

    Raises:
        ValueError: the gold answer is empty.
    """
    if not gold.strip():
        raise ValueError("the gold answer is empty")
    answer = extract(response, last_number=last_number and not truncated)
    if answer is None:
        return Grade("truncated" if truncated else "unparseable")
    same = equivalent(gold, answer)
    if same is None:
        return Grade("error", answer)
    return Grade("correct" if same else "wrong", answer)


def equivalent(gold: str, answer: str) -> bool | None:
    """Whether two answers mean the same; None when that could not be found out in time.

    Raises:
        ValueError: the gold answer is empty.
    """
    if not gold.strip():
        raise ValueError("the gold answer is empty")
    if len(answer) > LONGEST:
        return False
    left, right = normalise(gold), normalise(answer)
    if left == right:
        return True
    numbers = as_number(left), as_number(right)
    if numbers[0] is not None and numbers[1] is not None:
        return numbers[0] == numbers[1]
    return _worker().verify(gold, answer)


def normalise(answer: str) -> str:
    """An answer without dress: maths marks, white space, thousands separators, currency, end marks."""
    text = answer.strip().strip("$").strip()
    text = re.sub(r"\\(?:text|mbox|mathrm|textbf)\s*\{([^{}]*)\}", r"\1", text)
    text = text.replace("\\!", "").replace("\\,", "").replace("\\$", "").replace("$", "").replace("−", "-")
    text = text.replace("\\left", "").replace("\\right", "").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    return re.sub(r"\s+", "", text).removesuffix(".")


def as_number(text: str) -> Fraction | None:
    """A normalised answer as an exact number: integer, decimal, or plain fraction; else None."""
    match = re.fullmatch(r"([-+]?)\\frac\{?(\d+)\}?\{?(\d+)\}?", text)
    if match and "{" in text:
        text = f"{match.group(1)}{match.group(2)}/{match.group(3)}"
    if not re.fullmatch(r"[-+]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:/\d{1,40})?", text):
        return None
    top, _, bottom = text.partition("/")
    if bottom and int(bottom) == 0:
        return None
    return Fraction(top if not top.endswith(".") else top[:-1]) / (int(bottom) if bottom else 1)


class Verifier:
    """math-verify in a process of its own: a hostile answer costs a time-out, not the run."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self.process: subprocess.Popen[str] | None = None

    def verify(self, gold: str, answer: str) -> bool | None:
        """As :func:`equivalent`; a worker that hangs or dies is replaced, and the pair counts as None."""
        process = self._alive()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps([gold, answer]) + "\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                ready = selector.select(self.timeout_s)
            line = process.stdout.readline() if ready else ""
        except OSError:
            line = ""
        if not line:
            self.close()
            return None
        found: bool | None = json.loads(line)
        return found

    def close(self) -> None:
        """Ends the worker."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _alive(self) -> subprocess.Popen[str]:
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dcod.verifying"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            assert self.process.stdout is not None
            self.process.stdout.readline()  # it has imported sympy; only comparisons are timed
        return self.process


_shared: Verifier | None = None


def _worker() -> Verifier:
    global _shared
    if _shared is None:
        _shared = Verifier()
        atexit.register(_shared.close)
    return _shared
