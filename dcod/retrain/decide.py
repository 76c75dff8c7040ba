"""Whether a scheduled run trains: pure functions; the decision is data with its reasons.

A run goes on to training when all of this holds:
  * *enough new*: at least ``retrain.min_new_traces`` accepted traces lie in sources that no finished run has tried, and
    that were not left out before as too far, if they still are;
  * *feasible*: enough of them are not too far. Distance is measured by position, whatever the training compares: a
    source is too far where the ESS floor leaves a correction of its states next to nothing (gamma), or where most
    tokens are clipped, so that the ESS is that of the clips and says nothing. It is left out, and measured anew at the
    next run;
  * *drift*: the champion's loss on them is above that on held-out old traces, by ``limits.loss`` and by more than the
    noise. Else there is nothing in them that it has not learned.

One thing comes first: a challenger that the gate accepted, but whose run ended before its promotion. It is promoted,
and nothing is trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, variance
from typing import Any

from dcod.config.retrain import LimitsConfig, RetrainConfig
from dcod.promote.decision import Reason

NOISE = 2.0  # standard errors that a difference of losses must exceed

ADVICE = {
    "enough_new": "nothing to do: the traces stay new, and count at the next run",
    "feasible": "train an intermediate teacher, have the student itself write traces and verify them, or remove the "
    "source; where all traces are alone with their prompt, bring several a prompt or take a correction of tokens",
    "drift": "nothing to do: the champion knows such traces; they stay new",
}


@dataclass(frozen=True)
class Source:
    """New traces of one source, and how far the start is from them.

    Attributes:
        name: the file, or the set's URI.
        traces: how many were accepted.
        gamma: mean exponent that the ESS floor allows, of ``gamma_max``; 1 where there is no correction.
        clipped: share of tokens whose log-ratio or surprisal is clipped.
        ess: mean rescaled ESS at ``gamma_max``.
        left_out: the decision before this one found it too far.
    """

    name: str
    traces: int
    gamma: float = 1.0
    clipped: float = 0.0
    ess: float = 1.0
    left_out: bool = False

    def too_far(self, limits: LimitsConfig) -> bool:
        """Whether no correction can be made on it."""
        return self.gamma < limits.gamma or self.clipped > limits.clipped


@dataclass(frozen=True)
class Losses:
    """The champion's loss, mean nats a token of each trace."""

    new: Sequence[float] = ()
    old: Sequence[float] = ()

    @property
    def known(self) -> bool:
        """Whether there are two samples to compare."""
        return len(self.new) > 1 and len(self.old) > 1

    @property
    def rise(self) -> float:
        """Of the mean, from old to new."""
        return fmean(self.new) - fmean(self.old)

    @property
    def error(self) -> float:
        """Standard error of the rise."""
        return math.sqrt(sum(variance(side) / len(side) for side in (self.new, self.old)))


@dataclass(frozen=True)
class Evidence:
    """All that the decision is made from.

    Attributes:
        sources: the new ones.
        first: no traces of this model were trained on before.
        losses: on the new traces that are not too far, and on held-out old ones.
        waiting: version of an accepted challenger that was not promoted yet; 0: none.
        alone: share of the new traces that are not too far, but have no other of their prompt to be compared with.
        allow_idle: train although all are (``train.allow_idle``).
    """

    sources: Sequence[Source]
    first: bool = True
    losses: Losses = field(default_factory=Losses)
    waiting: int = 0
    alone: float = 0.0
    allow_idle: bool = False


@dataclass(frozen=True)
class RetrainDecision:
    """What was decided and why.

    Attributes:
        outcome: ``go``, ``waiting``, or ``skip``.
        warnings: what the monitors found beyond their limits; they decide nothing.
        left_out: names of the sources that are too far.
    """

    outcome: str
    reasons: tuple[Reason, ...]
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """The outcome; where it skips, which check failed first: too_few, infeasible or no_drift."""
        failed = next((reason.code for reason in self.reasons if not reason.passed), "")
        return {"enough_new": "too_few", "feasible": "infeasible", "drift": "no_drift"}.get(failed, self.outcome)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it, with the code spelled out."""
        return {**json.loads(json.dumps(asdict(self))), "code": self.code}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RetrainDecision:
        """Reads what :meth:`to_dict` wrote, among other keys or not."""
        reasons = tuple(Reason(**item) for item in data["reasons"])
        return cls(data["outcome"], reasons, tuple(data["warnings"]), tuple(data["left_out"]))

    def markdown(self) -> str:
        """The same for a web page."""
        checks = "".join(f"- {'yes' if r.passed else '**no**'}: {r.text}\n" for r in self.reasons)
        advice = "".join(f"- do: {ADVICE[r.code]}\n" for r in self.reasons if not r.passed)
        return f"# {self.code}\n\n{checks}{advice}" + "".join(f"- warning: {text}\n" for text in self.warnings)

    def text(self) -> str:
        """The decision as lines for a person: every check, then what the failed ones ask for, then the warnings."""
        lines = [f"retrain   {self.code}"]
        lines += [f"  {'yes' if reason.passed else 'no '}  {reason.text}" for reason in self.reasons]
        lines += [f"  do   {ADVICE[reason.code]}" for reason in self.reasons if not reason.passed]
        lines += [f"  warn {warning}" for warning in self.warnings]
        return "\n".join(lines) + "\n"


def decide(evidence: Evidence, config: RetrainConfig, warnings: Sequence[str] = ()) -> RetrainDecision:
    """Applies the rules of this module."""
    if evidence.waiting:
        text = f"version {evidence.waiting} was accepted by the gate and waits: it is promoted, nothing is trained"
        return RetrainDecision("waiting", (Reason("waiting", text, True),), tuple(warnings))
    limits, wanted = config.limits, config.min_new_traces
    far = [source for source in evidence.sources if source.too_far(limits)]
    known = sum(source.traces for source in far if source.left_out)  # no news: they were looked at before
    new = sum(source.traces for source in evidence.sources) - known
    usable = new + known - sum(source.traces for source in far)
    text = f"{new} new traces, at least {wanted} needed"
    if known:
        text += f" ({known} more were left out before, and are still too far)"
    reasons = [Reason("enough_new", text, new >= wanted)]
    if new >= wanted:
        reasons.append(_feasible(far, usable, evidence, config))
    if usable >= wanted:
        reasons.append(_drift(evidence, limits))
    go = all(reason.passed for reason in reasons)
    return RetrainDecision(
        "go" if go else "skip", tuple(reasons), tuple(warnings), tuple(source.name for source in far)
    )


def _feasible(far: Sequence[Source], usable: int, evidence: Evidence, config: RetrainConfig) -> Reason:
    limits, sources, idle = config.limits, evidence.sources, evidence.alone == 1.0 and not evidence.allow_idle
    passed = usable >= config.min_new_traces and not idle
    shown = far or [min(sources, key=lambda source: source.gamma)]
    figures = "; ".join(
        f"{s.name}: gamma {s.gamma:.2f} of its maximum, at least {limits.gamma:g} needed, and {s.clipped:.0%} of the "
        f"tokens clipped, at most {limits.clipped:.0%} allowed"
        for s in shown[:3]
    )
    lone = f"; {evidence.alone:.0%} of these are alone with their prompt: nothing to correct" if evidence.alone else ""
    lone += " (train.allow_idle=true trains all the same)" if idle else ""
    if not far:
        return Reason("feasible", f"no new source is too far; the furthest: {figures}{lone}", passed)
    count = sum(source.traces for source in far)
    text = f"{len(far)} of {len(sources)} new sources are too far from the student and left out, {count} traces "
    return Reason(
        "feasible", f"{text}({figures}); {usable} traces are left, {config.min_new_traces} needed{lone}", passed
    )


def _drift(evidence: Evidence, limits: LimitsConfig) -> Reason:
    losses = evidence.losses
    if evidence.first or not losses.known:
        return Reason("drift", "nothing to compare with: no earlier traces are held out", True)
    passed = losses.rise >= limits.loss and losses.rise > NOISE * losses.error
    text = (
        f"the champion's loss is {fmean(losses.new):.3f} nats a token on new traces and {fmean(losses.old):.3f} on "
        f"held-out old ones: a rise of {losses.rise:+.3f} (standard error {losses.error:.3f}), at least "
        f"{limits.loss:g} and {NOISE:g} standard errors needed"
    )
    return Reason("drift", text, passed)


def worst(sources: Sequence[Source]) -> Mapping[str, float]:
    """Figures of the source that is furthest, for the series; ``clipped_share`` is the largest of all sources."""
    if not sources:
        return {}
    furthest = min(sources, key=lambda source: (source.gamma, -source.clipped))
    clipped = max(source.clipped for source in sources)
    return {"gamma": furthest.gamma, "ess_at_gamma_max": furthest.ess, "clipped_share": clipped}
