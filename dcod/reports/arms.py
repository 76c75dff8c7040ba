"""Did the correction help? The answer that a report opens with, and the arms side by side.

Told on the report problems, which nothing was chosen on: against the twin at full size where one was trained, else
between the pilot's students. Figures on problems that were used to choose are labelled so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dcod.reports import figures
from dcod.reports.html import joined, minus, missing, note, part, plot, table

if TYPE_CHECKING:
    from markupsafe import Markup

    from dcod.promote.compare import Comparison

ANSWER = "answer.json"
NOTHING = (
    "What the correction brought against plain fine-tuning was not measured: set train.twin=true, or train.arms=auto."
)
_STATES = {"left_out": "not tried", "kept": "not tried", "few": "not tried", "failed": "failed", "dropped": "dropped"}
_SHOWN = 1200  # characters of an answer


@dataclass(frozen=True)
class Answer:
    """What a run knows of its correction.

    Attributes:
        text: one sentence or two, for the first line.
        size: ``full``, ``pilot``, or empty where nothing was compared on report problems.
        comparisons: on the report problems, the correction against plain fine-tuning.
        choice: of the pilot (choice.json); empty where there was none.
    """

    text: str
    size: str = ""
    comparisons: tuple[Comparison, ...] = ()
    choice: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "choice": self.choice or {}}

    @property
    def figures(self) -> dict[str, float]:
        """What runs are compared by."""
        values = {}
        for one in self.comparisons:
            for name in ("difference", "low", "high", "n"):
                values[f"correction/{one.benchmark}/{name}"] = float(getattr(one, name))
        for one in (self.choice or {}).get("choice", {}).get("against", ()):
            values |= {f"arms/{one['name']}/{name}": float(one[name]) for name in ("difference", "low", "high")}
        return values


def answer(
    *,
    plain: bool,
    full: Sequence[Comparison] = (),
    choice: Mapping[str, Any] | None = None,
    trial: Sequence[Comparison] = (),
) -> Answer:
    """The answer of a run.

    Args:
        plain: its student was trained without a correction.
        full: student against twin on the report problems.
        choice: of the pilot.
        trial: the pilot's students on the report problems.
    """
    if plain:
        if choice:
            return Answer(f"Plain fine-tuning was kept: {choice['choice']['why']}.", "", (), choice)
        return Answer("Plain fine-tuning: nothing was corrected, and nothing was compared with it.")
    if full:
        return Answer(" ".join(_told(one, "at full size") for one in full), "full", tuple(full), choice)
    if trial:
        return Answer(" ".join(_told(one, "at pilot size") for one in trial), "pilot", tuple(trial), choice)
    if choice and not choice["choice"]["seeds"]:
        return Answer(f"What the correction brought was not measured anew: {choice['choice']['why']}.", "", (), choice)
    return Answer(NOTHING, "", (), choice)


def section(given: Answer) -> Markup:
    """The arms side by side, as far as there was a pilot, and what was compared on the report problems."""
    parts: list[Markup] = []
    if given.comparisons:
        head = ["report problems", "correction", "plain", "difference", "95 % interval", "p", "problems"]
        parts += [
            note(f"Problems that nothing was chosen on, {given.size} size."),
            table(head, list(_rows(given)), "The correction against plain fine-tuning"),
        ]
    choice = given.choice
    if choice:
        parts += _pilot(choice)
    return joined(parts) if parts else missing(given.text)


def lines(given: Mapping[str, Any]) -> list[str]:
    """The answer of a run (answer.json) as lines of text."""
    text = [given["text"]]
    if choice := given.get("choice"):
        head, rows = side_by_side(choice)
        full = [head, *(row for row in rows if any(row[1:]))]  # the others are a sentence each
        widths = [max(len(row[i]) for row in full) for i in range(len(head))]
        text += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                  for row in [head, *rows]]  # fmt: skip
    return text


def _pilot(choice: Mapping[str, Any]) -> Iterator[Markup]:
    made = choice["choice"]
    seeds = f"{made['seeds']} seed{'s' if made['seeds'] > 1 else ''}"
    spread = "told by the pilot's seeds" if made["measured"] else "configured, for want of a second seed"
    yield part("heading", "The pilot")
    if not made["seeds"]:
        yield note(f"No arm was tried: {made['why']}.")
        return
    yield note(
        f"Each arm was trained on {choice['share']:.1%} of the prompts, {seeds}, and asked {made['problems']} pilot "
        f"problems, which chose: {made['why']}. Between seeds a difference spreads by {made['deviation'] * 100:.1f} "
        f"points ({spread}); a difference of {made['detectable'] * 100:.1f} points would be found with 80 % power."
    )
    yield table(*side_by_side(choice))
    if made["against"]:
        yield plot(figures.arms_figure(made["against"]), "arms")
    if rows := list(_asked(choice)):
        head = [
            "arm",
            "report problems",
            "role",
            "accuracy",
            "95 % interval",
            "majority and pass",
            "length",
            "problems",
        ]
        yield table(head, rows, "The pilot's students on problems that nothing was chosen on")
    for number, one in enumerate(choice.get("examples", ()), 1):
        right = "plain fine-tuning" if one["right"] == "sft" else "the arm"
        yield part("heading", f"A pilot problem answered differently, {number}: {right} is right")
        yield table(
            ["", "answer"], [["reference", one["gold"]], ["plain", _cut(one["sft"])], ["arm", _cut(one["other"])]]
        )


def _asked(choice: Mapping[str, Any]) -> Iterator[list[str]]:
    """The pilot's students of plain fine-tuning and of the chosen arm on the report problems, guards among them."""
    for name, rows in choice.get("asked", {}).items():
        for row in rows:
            at_k = ", ".join(f"{key} {value[0]:.1%}" for key, value in row["at_k"].items())
            interval = f"{row['low']:.1%} to {row['high']:.1%}"
            sizes = [f"{row['mean_tokens']:.0f}", f"{row['n']}"]
            yield [name, row["benchmark"], row["role"], f"{row['accuracy']:.1%}", interval, at_k, *sizes]


def side_by_side(choice: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Every arm: accuracy on the pilot problems by temperature, and against SFT at each one's best."""
    against = {one["name"]: one for one in choice["choice"]["against"]}
    told = choice["arms"]
    tried = [arm for arm in told if arm["state"] == "trained"]
    temperatures = sorted(
        {k.split("/")[1] for arm in tried for k in arm["figures"] if k.startswith("pilot/")}, key=float
    )
    named = ["greedy" if t == "0" else f"at {t}" for t in temperatures]
    head = ["arm (pilot problems)", *named, "best at", "against plain", "95 % interval", "tokens", "length", "cut off"]
    rows = []
    for arm in told:
        name = arm["arm"]["name"]
        chosen = " (chosen)" if name == choice["choice"]["arm"] else ""
        if arm["state"] != "trained":
            why = f"{name}: {_STATES[arm['state']]}: {arm['why']}"
            rows.append([why, *[""] * (len(head) - 1)])
            continue
        got, one = arm["figures"], against.get(name)
        gap = [_points(one["difference"]), f"{_points(one['low'])} to {_points(one['high'])}"] if one else ["", ""]
        best = "greedy" if not arm["best"] else f"{arm['best']:g}"
        accuracies = [f"{got[f'pilot/{t}']:.1%}" for t in temperatures]
        last = [f"{got['tokens']:,.0f}", f"{got['mean_tokens']:.0f}", f"{got['truncated']:.1%}"]
        rows.append([f"{name}{chosen}", *accuracies, best, *gap, *last])
    return head, rows


def _rows(given: Answer) -> Iterator[list[str]]:
    for one in given.comparisons:
        interval = f"{_points(one.low)} to {_points(one.high)}"
        shares = [f"{one.challenger:.1%}", f"{one.baseline:.1%}", _points(one.difference)]
        yield [one.benchmark, *shares, interval, f"{one.p_value:.2g}", f"{one.n}"]


def _told(one: Comparison, size: str) -> str:
    where = f"95 % interval {_points(one.low)} to {_points(one.high)}; {one.benchmark}, report split, {one.n} problems"
    where += f", {size}"
    if one.low > 0.0:
        return f"The correction brought {_points(one.difference)} points over plain fine-tuning ({where})."
    if one.high < 0.0:
        return f"The correction cost {_points(one.difference)} points against plain fine-tuning ({where})."
    seen = f"{one.detectable * 100:.0f} points would have been seen"
    gap = _points(one.difference)
    return f"What the correction brought could not be told from none: {gap} points ({where}); {seen}."


def _points(share: float) -> str:
    """A difference in points."""
    return minus(f"{share * 100:+.1f}")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
