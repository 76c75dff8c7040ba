"""The regimes of the second protocol: those of the first with problems held out, and four more."""

from __future__ import annotations

from dataclasses import replace

from bench.study import regimes as first
from bench.study.regimes import Problem, Regime, Size, pairs, running, sum_steps, sums

TEST_PROBLEMS = 700  # an eighth of all sums of four digits holds some 820
_FILTERED, _NOISY = first.REGIMES["noisy_filtered"], first.REGIMES["noisy"]


def _of_the_first(regime: Regime) -> Regime:
    """There are only 31 problems to count down from: none can be held out."""
    if regime.name == "long":
        return replace(regime, test_problems=64)
    return replace(regime, test_problems=TEST_PROBLEMS, held_out=True)


def _more(name: str, why: str, like: Regime, **other: object) -> Regime:
    return replace(like, name=name, why=why, test_problems=TEST_PROBLEMS, held_out=True, **other)  # type: ignore[arg-type]


REGIMES: dict[str, Regime] = {
    regime.name: regime
    for regime in (
        *(_of_the_first(regime) for regime in first.REGIMES.values()),
        _more(
            "single",
            "The teacher of *noisy_filtered*, one trace of four times the prompts: nothing within a prompt can act.",
            _FILTERED,
            traces=1,
            train_problems=4800,
        ),
        _more(
            "single_noisy",
            "The same, nothing filtered.",
            _NOISY,
            traces=1,
            train_problems=4800,
        ),
        _more(
            "two_teachers",
            "Two traces of a problem are by a teacher in the style that the start knows, fifteen of a hundred steps\n"
            "wrong; two are by one that never errs, in a style the start has not seen and could learn. Verified.",
            _FILTERED,
            far=Regime("two_teachers_far", "The second teacher.", sums(4), pairs, running(), sum_steps),
        ),
        _more(
            "knows",
            "The teacher of *noisy_filtered*; the start was trained three times as long and knows most already.",
            _FILTERED,
            start_steps=1200,
        ),
        _more(
            "knows_little",
            "The same, and a start that was trained for less than a third of the time: its counterpart.",
            _FILTERED,
            start_steps=120,
        ),
    )
}


# Asked for by name alone: they came after the protocol, whose tables and rule do not know them.
LATER: dict[str, Regime] = {
    "midsize": Regime(
        "midsize",
        "The noise of *noisy_filtered* in longer sums, and a student of thirty million weights that was trained on\n"
        "them for two minutes of a GPU: it knows most of what it is asked, and a correction must not cost it that.",
        sums(6),
        running(slip=0.15),
        running(),
        sum_steps,
        start_steps=2400,
        start_rate=3e-4,
        start_batch=64,
        student=Size(512, 9, 1536),
        max_new_tokens=64,
        test_problems=TEST_PROBLEMS,
        held_out=True,
    )
}


def find(name: str) -> Regime:
    """A regime of the protocol, or one that came later."""
    return REGIMES[name] if name in REGIMES else LATER[name]


def is_far(problem: Problem, text: str) -> bool | None:
    """Whether an answer to a sum is in the second teacher's style; None where it is in neither."""
    steps = [step.partition("=") for step in text.split(";") if "=" in step]
    if len(steps) < 2 or len(problem.numbers) < 4:
        return None
    first_sum, second = steps[0][2], steps[1][0]
    a, b, c, d = problem.numbers[:4]
    if steps[0][0] != f"{a}+{b}":
        return None
    if second == f"{c}+{d}":
        return True
    return False if second == f"{first_sum}+{c}" else None
