"""Did the correction help? The answer that a report opens with, and the arms side by side.

Told on the report problems, which nothing was chosen on: against the twin at full size where one was trained, else
between the pilot's students. Figures on problems that were used to choose are labelled so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dcod.evaluate.statistics import POWER
from dcod.promote.choice import PRIOR
from dcod.reports import figures, side_by_side
from dcod.reports.html import joined, missing, note, part, plot, table
from dcod.reports.side_by_side import points

if TYPE_CHECKING:
    from markupsafe import Markup

    from dcod.promote.compare import Comparison
    from dcod.promote.outcome import Outcome

ANSWER = "answer.json"
NOTHING = (
    "What the correction brought against plain fine-tuning was not measured: set train.twin=true, or train.arms=auto."
)
NO_REPORT = (
    "What the correction brought was not measured: there are no report problems of a primary benchmark "
    "(evaluate.report_share)."
)
_SHOWN = 1200  # characters of an answer


@dataclass(frozen=True)
class Answer:
    """What a run knows of its correction.

    Attributes:
        text: one sentence or two, for the first line.
        size: ``full``, ``pilot``, or empty where nothing was compared on report problems.
        comparisons: on the report problems, the correction against plain fine-tuning.
        choice: of the pilot (choice.json); empty where there was none.
        students: the student and its twin (:func:`dcod.reports.side_by_side.student`), where both were trained.
        seeds: trainings of each at full size, that the comparisons are over.
        missing: further trainings that were wanted and are not there, with why.
    """

    text: str
    size: str = ""
    comparisons: tuple[Comparison, ...] = ()
    choice: Outcome | None = None
    students: tuple[Mapping[str, Any], ...] = ()
    seeds: int = 1
    missing: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "choice": self.choice or {}}


def answer(
    *,
    plain: bool,
    full: Sequence[Comparison] = (),
    choice: Outcome | None = None,
    trial: Sequence[Comparison] = (),
    students: Sequence[Mapping[str, Any]] = (),
    seeds: int = 1,
    missing: str = "",
) -> Answer:
    """The answer of a run.

    Args:
        plain: its student was trained without a correction.
        full: student against twin on the report problems.
        choice: of the pilot.
        trial: the pilot's students on the report problems.
        students: those of ``full``, side by side.
        seeds: trainings of each that ``full`` is over.
        missing: further ones that were wanted and are not there.
    """
    if plain:
        if choice:
            return Answer(f"Plain fine-tuning was kept: {choice['choice']['why']}{_tested(choice)}.", "", (), choice)
        return Answer("Plain fine-tuning: nothing was corrected, and nothing was compared with it.")
    why = _chosen(choice) if choice else []
    if full:
        size = f"at full size, {f'{seeds} seeds' if seeds > 1 else 'one training'} each"
        text = " ".join([*(_told(one, size) for one in full), *why])
        return Answer(text, "full", tuple(full), choice, tuple(students), seeds, missing)
    if trial:
        text = " ".join([*(_told(one, "at pilot size, the first seed of each") for one in trial), *why])
        return Answer(text, "pilot", tuple(trial), choice)
    if choice and not choice["choice"]["seeds"]:
        return Answer(f"What the correction brought was not measured anew: {choice['choice']['why']}.", "", (), choice)
    text = " ".join([NO_REPORT if students or choice else NOTHING, *why])
    return Answer(text, "", (), choice, tuple(students))


def measured(given: Mapping[str, Any]) -> dict[str, float]:
    """What runs are compared by, of an answer (answer.json); figures on pilot problems, which chose, are named so."""
    values = {}
    for one in given["comparisons"]:
        for name in ("difference", "low", "high", "n"):
            values[f"correction/{one['benchmark']}/{name}"] = float(one[name])
    for one in given["choice"].get("choice", {}).get("against", ()):
        values |= {f"pilot_problems/{one['name']}/{name}": float(one[name]) for name in ("difference", "low", "high")}
    return values


def section(given: Answer) -> Markup:
    """The arms side by side, as far as there was a pilot, and what was compared on the report problems."""
    parts: list[Markup] = []
    if given.comparisons:
        told = given.to_dict()["comparisons"]
        parts += [
            note(f"Problems that nothing was chosen on, {given.size} size.{_over(given)}"),
            table(*side_by_side.against_plain(told), "The correction against plain fine-tuning"),
        ]
        if given.size == "full":  # else the pilot's plot shows all arms
            over = f"problems{' and seeds' if given.seeds > 1 else ''}"
            by_benchmark = [{**one, "name": one["benchmark"]} for one in told]
            parts.append(plot(figures.arms_figure(by_benchmark, over), "correction"))
    if given.students:
        caption = "Side by side at full size, on the report problems"
        shown, took = side_by_side.asked(side_by_side.by_name(given.students)), side_by_side.took(given.students)
        parts += [
            part("heading", caption),
            note(side_by_side.WORDS),
            table(*side_by_side.filled(shown), caption),
            part("heading", "What the trainings took, and where they led"),
            table(*side_by_side.filled(took), "What the trainings took, and where they led"),
        ]
        if apart := side_by_side.unequal(given.students):
            parts.append(note(apart))
    if given.choice:
        parts += _pilot(given.choice)
    return joined(parts) if parts else missing(given.text)


def lines(given: Mapping[str, Any]) -> list[str]:
    """The answer of a run (answer.json) as lines of text."""
    text, tables = [given["text"]], list[side_by_side.Table]()
    if choice := given.get("choice"):
        text += [serve] if (serve := side_by_side.serve(choice)) else []
        tables += [side_by_side.accuracies(choice), side_by_side.writing(choice)]
        tables += [side_by_side.asked(choice["asked"])] if choice.get("asked") else []
    if students := given.get("students"):
        tables += [side_by_side.asked(side_by_side.by_name(students)), side_by_side.took(students)]
        text += [apart] if (apart := side_by_side.unequal(students)) else []
    return text + [line for each in tables for line in aligned(side_by_side.filled(each))]


def aligned(shown: side_by_side.Table) -> list[str]:
    """A table as lines of text; none where it has no rows."""
    head, rows = shown
    full = [head, *(row for row in rows if any(row[1:]))]  # the others are a sentence each
    widths = [max(len(row[i]) for row in full) for i in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [head, *rows] if rows]  # fmt: skip


def _over(given: Answer) -> str:
    """What an interval is over."""
    if given.size != "full":
        return (
            " Of each arm the first seed's student: the interval is over problems, another training would differ, too."
        )
    gone = f" Not there: {given.missing}." if given.missing else ""
    if given.seeds > 1:
        return (
            f" The interval is over problems and {given.seeds} trainings of each, the first of which is judged; where "
            f"few seeds spread by less than train.pilot.seed_deviation, that is reckoned with.{gone}"
        )
    return f" The interval is over problems: another training would differ, too (train.seeds).{gone}"


def _pilot(choice: Outcome) -> Iterator[Markup]:
    made = choice["choice"]
    seeds = f"{made['seeds']} seed{'s' if made['seeds'] > 1 else ''}"
    spread = "train.pilot.seed_deviation, for want of a second seed"
    if made["measured"]:
        weights = f"{made['seeds'] - 1} to {PRIOR:g}"
        spread = f"the pilot's seeds and train.pilot.seed_deviation (by default the study's figure), weighted {weights}"
    yield part("heading", "The pilot")
    if not made["seeds"]:
        yield note(f"No arm was tried: {made['why']}.")
        return
    yield note(
        f"Each arm was trained on {choice['share']:.1%} of the prompts, {seeds}, and asked {made['problems']} pilot "
        f"problems, which chose: {made['why']}. Between seeds a difference spreads by {made['deviation'] * 100:.1f} "
        f"points ({spread}); a difference of {made['detectable'] * 100:.1f} points would be found with "
        f"{POWER * 100:.0f} % power."
    )
    if serve := side_by_side.serve(choice):
        yield note(serve)
    yield table(*side_by_side.accuracies(choice), "The arms")
    measured = [*made["against"]]
    measured += [{**one, "name": f"{one['name']}, {side_by_side.GONE}"} for one in choice.get("dropped", ())]
    if measured:
        yield plot(figures.arms_figure(measured), "arms")
    yield part("heading", "How the arms write, and what they took")
    yield note(side_by_side.WORDS)
    yield table(*side_by_side.filled(side_by_side.writing(choice)), "How the arms write, and what they took")
    if students := choice.get("asked"):
        caption = "The pilot's students on problems that nothing was chosen on"
        yield part("heading", caption)
        yield table(*side_by_side.filled(side_by_side.asked(students)), caption)
    for number, one in enumerate(choice.get("examples", ()), 1):
        right = "plain fine-tuning" if one["right"] == "sft" else "the arm"
        yield part("heading", f"A pilot problem answered differently, {number}: {right} is right")
        yield table(
            ["", "answer"], [["reference", one["gold"]], ["plain", _cut(one["sft"])], ["arm", _cut(one["other"])]]
        )


def _tested(choice: Outcome) -> str:
    """At what size what was tried, where plain fine-tuning was kept."""
    made = choice["choice"]
    if not made["seeds"]:
        return ""
    names = ", ".join(one["name"] for one in side_by_side.compared(choice)) or "nothing beside it"
    seeds = f"{made['seeds']} seed{'s' if made['seeds'] > 1 else ''}"
    return f" (at pilot size, {choice['share']:.1%} of the prompts, {seeds}; tried: {names})"


def _chosen(choice: Outcome) -> list[str]:
    """What won the pilot and why, as a sentence; none where plain fine-tuning was kept."""
    made = choice["choice"]
    if made["arm"] == made["sft"]:
        return []
    won = next((one for one in made["against"] if one["name"] == made["arm"]), None)
    if won is None:
        return [f"Chosen before: {made['why']}."]
    why = f"{points(won['difference'])} points on {made['problems']} pilot problems"
    asked = f"; {told}" if (told := choice.get("otherwise")) else ""
    return [
        f"The pilot chose {made['arm']}: {why} (95 % interval {points(won['low'])} to {points(won['high'])}){asked}."
    ]


def _told(one: Comparison, size: str) -> str:
    where = f"95 % interval {points(one.low)} to {points(one.high)}; {one.benchmark}, report split, {one.n} problems"
    where += f", {size}"
    if one.low > 0.0:
        return f"The correction brought {points(one.difference)} points over plain fine-tuning ({where})."
    if one.high < 0.0:
        return f"The correction cost {points(one.difference)} points against plain fine-tuning ({where})."
    seen = f"{one.detectable * 100:.0f} points would have been seen"
    gap = points(one.difference)
    return f"What the correction brought could not be told from none: {gap} points ({where}); {seen}."


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
