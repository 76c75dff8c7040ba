"""The arms side by side: accuracy, how they write, what they took; as tables for page, model card and terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dcod.evaluate.summaries import formatted, titles
from dcod.promote.compare import at
from dcod.reports import sections
from dcod.reports.html import minus
from dcod.reports.sections import Cost

if TYPE_CHECKING:
    from pathlib import Path

    from dcod.evaluate.results import Results
    from dcod.promote.outcome import Against, Arm, Outcome

Table = tuple[list[str], list[list[str]]]

_STATES = {"left_out": "not tried", "kept": "not tried", "few": "not tried", "failed": "failed", "dropped": "dropped"}
PLAIN = "plain fine-tuning"  # the twin, as readers see it
GONE = "left out after the first half"  # of the pilot: an arm with one seed alone
_WRITING = ("mean_tokens", "openings", "truncated", "looping", "contradicting", "repetition")
WORDS = (
    "Length is in tokens. Ways to begin: the effective number of first three words of each problem's first answer, "
    "numbers as one; an arm that fell into one style shows fewer. Wrong steps are stated "
    "sums that do not hold."
)


def accuracies(choice: Outcome) -> Table:
    """Every arm of a pilot: accuracy on the selection problems by temperature, on the pilot problems at the best.

    Of an arm that was dropped after its first seed the figures are that seed's.
    """
    against = {one["name"]: one for one in compared(choice)}
    tried = _tried(choice)
    temperatures = sorted(
        {k.split("/")[1] for arm in tried for k in arm["figures"] if k.startswith("selection/")}, key=float
    )
    named = ["selection, greedy" if t == "0" else f"selection, at {t}" for t in temperatures]
    head = ["arm", *named, "best at", "pilot problems", "against plain", "95 % interval"]
    rows = []
    for arm in choice["arms"]:
        name = arm["arm"]["name"]
        if arm not in tried:
            why = f"{name}: {_STATES[arm['state']]}: {arm['why']}"
            rows.append([why, *[""] * (len(head) - 1)])
            continue
        got, one = arm["figures"], against.get(name)
        gap = [points(one["difference"]), f"{points(one['low'])} to {points(one['high'])}"] if one else ["", ""]
        best = "greedy" if not arm["best"] else f"{arm['best']:g}"
        earlier = f"pilot/{arm['best']:g}"  # of a version that asked them at all temperatures
        chose = (f"{got[f'selection/{t}']:.1%}" for t in temperatures)
        rows.append([_named(arm, choice), *chose, best, f"{got.get('pilot', got.get(earlier)):.1%}", *gap])
    return head, rows


def serve(choice: Outcome) -> str:
    """At which temperature the chosen arm is to be served; empty where none was tried, or nothing was generated."""
    made = choice["choice"]
    arm = next((one for one in _tried(choice) if one["arm"]["name"] == made["arm"]), None)
    if arm is None or not _generated(choice):
        return ""
    return (
        f"Serve {made['arm']} {at(arm['best'] or 0.0)}, where it was best on the selection problems, at pilot size. "
        "Only these are asked at several temperatures; at full size a benchmark has one (evaluate.benchmarks)."
    )


def against_plain(comparisons: Iterable[Mapping[str, Any]]) -> Table:
    """The correction against plain fine-tuning on the report problems; of an answer (answer.json)."""
    rows = []
    for one in comparisons:
        interval = f"{points(one['low'])} to {points(one['high'])}"
        shares = [f"{one['challenger']:.1%}", f"{one['baseline']:.1%}", points(one["difference"])]
        rows.append([one["benchmark"], *shares, interval, f"{one['p_value']:.2g}", f"{one['n']}"])
    return ["report problems", "correction", "plain", "difference", "95 % interval", "p", "problems"], rows


def compared(choice: Outcome) -> list[Against]:
    """Every arm that was measured against SFT, those of a first seed alone after the others."""
    return [*choice["choice"]["against"], *choice.get("dropped", ())]


def writing(choice: Outcome) -> Table:
    """Every arm that was tried: what its training took, and how its answers are written; no row where none was."""
    head, rows = ["arm (pilot)", "tokens learnt", "time", *titles(_WRITING)], []
    generated = _generated(choice)
    for arm in _tried(choice):
        got = arm["figures"]
        took = sections.duration(got["seconds"]) if "seconds" in got else ""
        wrote = formatted(got if generated else {}, _WRITING)
        rows.append([_named(arm, choice), f"{got['tokens']:,.0f}", took, *wrote])
    known = [arm["figures"]["traces_openings"] for arm in _tried(choice) if "traces_openings" in arm["figures"]]
    if known and generated:
        rows.append(["the traces of these problems, sampled", "", "", *formatted({"openings": known[0]}, _WRITING)])
    return head, rows


def asked(students: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """Students on problems that nothing was chosen on, guards among them.

    Args:
        students: by their names what :meth:`dcod.evaluate.results.Results.told` gives.
    """
    head = ["arm", "report problems", "role", "accuracy", "95 % interval", "majority and pass"]
    head += [*titles(_WRITING), "problems"]
    rows = []
    for name, told in students.items():
        for row in told:
            at_k = ", ".join(f"{key} {value[0]:.1%}" for key, value in row["at_k"].items())
            interval = f"{row['low']:.1%} to {row['high']:.1%}"
            written = formatted(row | row.get("stability", {}), _WRITING)
            rows.append([name, row["benchmark"], row["role"], f"{row['accuracy']:.1%}", interval, at_k, *written])
            rows[-1].append(f"{row['n']}")
    return head, rows


def by_name(students: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What :func:`asked` takes, of what :func:`student` made."""
    return {one["name"]: one["asked"] for one in students}


def name_of(training: Path) -> str:
    """What the correction of a training is called: its name, or that of the loss."""
    settings = sections.settings(training)
    correction = str(settings.get("correction", "")).partition(",")[0]
    return str(settings.get("loss", "")).partition(",")[0] if correction.startswith("none") else correction


def student(
    name: str, folder: Path, results: Results, costs: Iterable[Cost], exposed: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of one student at full size, as JSON holds it.

    Args:
        name: that readers see.
        folder: its model folder, with the history of its training.
        results: of its evaluation.
        costs: of the stages that trained it.
        exposed: its curve of :func:`dcod.score.exposure.compare`; empty where none was measured.
    """
    history = sections.history_of(folder)
    took = [one.seconds for one in costs if one.seconds is not None and not one.reused]
    moved = [row["selection_kl"] for row in history if "selection_kl" in row]
    known = {
        "steps": len(history) or None,
        "tokens": sum(row.get("tokens", 0.0) for row in history) or None,
        "seconds": sum(took) or None,
        "kl_from_start": moved[-1] if moved else None,
        "excess_error": exposed.get("excess_error"),
    }
    return {"name": name, **{key: value for key, value in known.items() if value is not None}, "asked": results.told()}


def took(students: Iterable[Mapping[str, Any]]) -> Table:
    """Students at full size: what their training took, how far it went from the start, and whether errors compound."""
    rows = []
    for one in students:
        steps, tokens = (f"{one[key]:,.0f}" if key in one else "" for key in ("steps", "tokens"))
        time = sections.duration(one["seconds"]) if "seconds" in one else ""
        moved = f"{one['kl_from_start']:.3f}" if "kl_from_start" in one else ""
        error = minus(f"{one['excess_error']:+.2f}") if "excess_error" in one else ""
        rows.append([one["name"], steps, tokens, time, moved, error])
    return ["arm (full size)", "steps", "tokens learnt", "time", "KL from the start (nats)", "excess error"], rows


def unequal(students: Iterable[Mapping[str, Any]]) -> str:
    """One sentence where the trainings at full size did not take the same steps and tokens; else empty."""
    known = [one for one in students if "steps" in one and "tokens" in one]
    if len({(one["steps"], one["tokens"]) for one in known}) < 2:
        return ""
    each = "; ".join(f"{one['name']} {one['steps']:,.0f} steps, {one['tokens']:,.0f} tokens" for one in known)
    return f"Not at equal compute: {each}. train.patience ends a training early."


def runs(answers: Mapping[str, Mapping[str, Any]]) -> Table:
    """What several runs found, a column a run.

    Args:
        answers: by the name of a run its answer (answer.json).
    """
    columns = {name: dict(_cells(answer)) for name, answer in answers.items()}
    titles = list(dict.fromkeys(title for cells in columns.values() for title in cells))
    return ["", *columns], [[title, *(cells.get(title, "") for cells in columns.values())] for title in titles]


def _cells(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    choice: Outcome | None = answer.get("choice") or None
    if answer.get("size"):
        yield "compared at", f"{answer['size']} size"
    for one in answer.get("comparisons", ()):
        where = f"{one['benchmark']}, report problems"
        yield where, f"{one['n']}"
        yield f"{where}: correction", f"{one['challenger']:.1%}"
        yield f"{where}: plain", f"{one['baseline']:.1%}"
        yield f"{where}: against plain", _against(one)
    if choice:
        yield "the pilot's choice", choice["choice"]["arm"]
        for one in compared(choice):
            yield f"pilot problems, {one['name']}: against plain", _against(one)
    for row in took(answer.get("students", ()))[1]:
        name, steps, tokens, time, moved, error = row
        kind = "plain" if name == PLAIN else "correction"
        told = {
            "steps": steps,
            "tokens learnt": tokens,
            "time": time,
            "KL from the start": moved,
            "excess error": error,
        }
        yield from ((f"{kind}: {key}", value) for key, value in told.items() if value)


def _against(one: Mapping[str, Any]) -> str:
    return f"{points(one['difference'])} ({points(one['low'])} to {points(one['high'])})"


def filled(table: Table) -> Table:
    """A table without the columns that nothing stands in."""
    head, rows = table
    some = [place for place in range(len(head)) if any(row[place] for row in rows)]
    return [head[place] for place in some], [[row[place] for place in some] for row in rows]


def points(share: float) -> str:
    """A difference in points."""
    return minus(f"{share * 100:+.1f}")


def _tried(choice: Outcome) -> list[Arm]:
    """Those with figures of all seeds, or of the first one."""
    gone = {one["name"] for one in choice.get("dropped", ())}
    return [arm for arm in choice["arms"] if arm["state"] == "trained" or arm["arm"]["name"] in gone]


def _generated(choice: Outcome) -> bool:
    """Whether answers were written; else traces were scored."""
    return any("openings" in arm["figures"] for arm in _tried(choice))


def _named(arm: Arm, choice: Outcome) -> str:
    name = str(arm["arm"]["name"])
    if arm["state"] == "dropped":
        return f"{name} ({GONE})"
    return name + (" (chosen)" if name == choice["choice"]["arm"] else "")
