"""What the gate decided, as data: the checks with their numbers, the comparisons, and the two models."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dcod.errors import UserError
from dcod.evaluate.results import ModelRef
from dcod.promote.compare import Comparison

DECISION = "decision.json"
TRAINED_ON = "trained_on.json"  # the sources of the training, beside it


@dataclass(frozen=True)
class Reason:
    """One check of the gate.

    Attributes:
        code: its name for machines.
        text: a sentence with its numbers.
        passed: whether it holds.
        about: the benchmark, or figure of one, that it looks at; empty where it looks at none.
        measured: the part of the sentence that says what was found; empty in decisions of earlier versions.
        limit: what it is held against.
        name: its name for people; where it is empty, as in decisions of earlier versions, the code's words are.
        advice: where it does not hold only because the problems are too few: which need more; else empty.
    """

    code: str
    text: str
    passed: bool
    about: str = ""
    measured: str = ""
    limit: str = ""
    name: str = ""
    advice: str = ""

    @property
    def check(self) -> str:
        """What is checked, and of which benchmark."""
        name = self.name or self.code.replace("_", " ")
        return f"{name}: {self.about}" if self.about else name

    @property
    def cells(self) -> list[str]:
        """The check, what was measured and the limit; the whole sentence where there is no more than that."""
        return [self.check, self.measured or self.text, self.limit]


@dataclass(frozen=True)
class Decision:
    """What the gate decided and why; ``level`` is that of this one test."""

    promote: bool
    reasons: tuple[Reason, ...]
    comparisons: tuple[Comparison, ...]
    challenger: ModelRef
    baseline: ModelRef
    level: float
    margin: float
    registered_model: str = ""

    @property
    def outcome(self) -> str:
        """``promote``, ``refuse``, or ``already_champion`` where both are the same model."""
        if self.challenger.digest == self.baseline.digest:
            return "already_champion"
        return "promote" if self.promote else "refuse"

    @property
    def failed(self) -> tuple[Reason, ...]:
        """The checks that do not hold."""
        return tuple(reason for reason in self.reasons if not reason.passed)

    @property
    def advice(self) -> str:
        """What to do about a refusal that comes from too few problems alone; empty for any other outcome."""
        told = [reason.advice for reason in self.failed]
        if not told or not all(told):
            return ""
        return (
            f"Bring more problems: {'; '.join(told)}. Of what you bring the gate takes half, unless "
            "evaluate.report_share says otherwise."
        )

    def to_json(self) -> str:
        """The decision as indented JSON, with the outcome spelled out."""
        return json.dumps({**asdict(self), "outcome": self.outcome}, indent=2, sort_keys=True, allow_nan=False) + "\n"

    @property
    def figures(self) -> dict[str, float]:
        """What runs are compared by: of each comparison the difference, its interval and its p-value."""
        names = ("difference", "low", "high", "p_value")
        return {f"{one.benchmark}/{name}": getattr(one, name) for one in self.comparisons for name in names}

    @property
    def lines(self) -> list[str]:
        """The checks as lines of text."""
        return [f"{'yes' if reason.passed else 'NO'}: {reason.text}" for reason in self.reasons]

    @classmethod
    def from_json(cls, text: str) -> Decision:
        """Reads what :meth:`to_json` wrote.

        Raises:
            UserError: it is no decision.
        """
        try:
            data = json.loads(text)
            data.pop("outcome")
            return cls(
                **{
                    **data,
                    "reasons": tuple(Reason(**item) for item in data["reasons"]),
                    "comparisons": tuple(Comparison(**item) for item in data["comparisons"]),
                    "challenger": ModelRef(**data["challenger"]),
                    "baseline": ModelRef(**data["baseline"]),
                }
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"decision.json: not a decision of this version of dcod ({error}); run the gate again"
            ) from None


def read_decision(path: Path) -> Decision:
    """Reads a decision from its file, or from the folder that holds ``decision.json``.

    Raises:
        UserError: there is none.
    """
    file = path / DECISION if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); it is written by the gate") from None
    return Decision.from_json(text)
