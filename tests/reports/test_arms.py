"""Did the correction help: the first line, and the arms side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcod.promote.compare import Comparison, compare
from dcod.reports import arms, side_by_side
from dcod.reports.report import page
from dcod.reports.run_page import RunPage
from tests.reports.test_report import write_results


def comparison(gains: int, losses: int, n: int = 200) -> Comparison:
    ours = {f"{i}": [1.0 if i < gains else 0.0] for i in range(n)}
    theirs = {f"{i}": [1.0 if gains <= i < gains + losses else 0.0] for i in range(n)}
    return compare("sums", "twin", ours, theirs, 0.05)


def one_arm(name: str, state: str = "trained", why: str = "", **figures: float) -> dict[str, Any]:
    told = {
        "selection/0": 0.5,
        "selection/0.6": 0.4,
        "pilot": 0.45,
        "tokens": 1000.0,
        "mean_tokens": 12.0,
        "truncated": 0.01,
    } | figures
    return {"arm": {"name": name}, "sft": name == "sft", "state": state, "why": why, "best": 0.6, "figures": told}


CHOICE: Any = {
    "choice": {
        "arm": "support", "sft": "sft", "why": "support brought +6.1 points over plain fine-tuning", "problems": 400,
        "seeds": 2, "deviation": 0.02, "measured": True, "detectable": 0.05,
        "against": [{"name": "support", "difference": 0.061, "low": 0.02, "high": 0.101}],
    },
    "share": 0.05,
    "arms": [one_arm("sft"), one_arm("support"), one_arm("gce", "left_out", "<b>why</b>")],
    "report": [],
    "examples": [{"gold": "4", "sft": "<script>alert(1)</script>", "other": "4", "right": "other"}],
}  # fmt: skip


def test_the_pilots_students_show_majority_pass_and_guards_on_report_problems() -> None:
    row = {
        "benchmark": "math500",
        "role": "primary",
        "n": 250,
        "samples": 8,
        "accuracy": 0.4,
        "low": 0.35,
        "high": 0.45,
        "mean_tokens": 321.4,
        "stability": {"openings": 1.2},
        "at_k": {"maj@8": [0.5, 0.45, 0.55], "pass@8": [0.7, 0.65, 0.75]},
    }
    guard = row | {"benchmark": "ifeval", "role": "guard", "accuracy": 0.62, "at_k": {}, "samples": 1}
    asked = {"sft": [row, guard], "support": [row | {"accuracy": 0.47}, guard | {"accuracy": 0.61}]}
    text = str(arms.section(arms.answer(plain=False, choice=CHOICE | {"asked": asked})))
    for said in ("maj@8 50.0%, pass@8 70.0%", "ifeval", "guard", "61.0%", "47.0%", "321", "ways to begin", "1.2"):
        assert said in text
    assert "maj@8" not in str(arms.section(arms.answer(plain=False, choice=CHOICE)))
    shown = "\n".join(arms.lines(arms.answer(plain=False, choice=CHOICE | {"asked": asked}).to_dict()))
    assert "maj@8 50.0%, pass@8 70.0%" in shown


@pytest.mark.parametrize(
    ("gains", "losses", "begins"),
    [
        (40, 4, "The correction brought +18.0 points over plain fine-tuning (95 % interval +"),
        (4, 40, "The correction cost −18.0 points against plain fine-tuning (95 % interval −"),
        (6, 4, "What the correction brought could not be told from none: +1.0 points (95 % interval −"),
    ],
)
def test_the_first_line_says_what_the_interval_allows(gains: int, losses: int, begins: str) -> None:
    text = arms.answer(plain=False, full=[comparison(gains, losses)]).text
    assert text.startswith(begins)
    assert "sums, report split, 200 problems, at full size, one training each" in text
    several = arms.answer(plain=False, full=[comparison(gains, losses)], seeds=3).text
    assert "at full size, 3 seeds each" in several
    assert "one training" not in several
    assert ("points would have been seen" in text) == (gains == 6)


def test_what_was_not_compared_is_said() -> None:
    assert "nothing was compared" in arms.answer(plain=True).text
    assert arms.answer(plain=False).text == arms.NOTHING
    assert arms.answer(plain=True, choice=CHOICE).text == (
        "Plain fine-tuning was kept: support brought +6.1 points over plain fine-tuning (at pilot size, 5.0% of the "
        "prompts, 2 seeds; tried: support)."
    )
    trial = arms.answer(plain=False, choice=CHOICE, trial=[comparison(40, 4)])
    assert trial.size == "pilot"
    assert "at pilot size, the first seed of each" in trial.text
    assert "the interval is over problems, another training would differ, too." in str(arms.section(trial))
    both = arms.answer(plain=False, choice=CHOICE, full=[comparison(40, 4)], trial=[comparison(4, 40)])
    assert both.size == "full"


def test_where_an_arm_won_the_first_line_names_it_and_says_why() -> None:
    """Also where nothing was measured at full size: then it does not ask for the pilot that there was."""
    why = "The pilot chose support: +6.1 points on 400 pilot problems (95 % interval +2.0 to +10.1)."
    full = arms.answer(plain=False, choice=CHOICE, full=[comparison(40, 4)])
    trial = arms.answer(plain=False, choice=CHOICE, trial=[comparison(40, 4)])
    unasked = arms.answer(plain=False, choice=CHOICE)
    for given in (full, trial, unasked):
        assert given.text.endswith(f" {why}"), given.text
    assert unasked.text == f"{arms.NO_REPORT} {why}"
    other = CHOICE | {"otherwise": "chosen at temperature 0.6, asked greedy by report and gate"}
    assert (
        "+10.1); chosen at temperature 0.6, asked greedy by report and gate."
        in arms.answer(plain=False, choice=other, full=[comparison(40, 4)]).text
    )
    kept = {"arm": "trust", "sft": "sft", "why": "trust is taken over", "seeds": 0, "against": []}
    again = arms.answer(plain=False, choice=CHOICE | {"choice": kept}, full=[comparison(40, 4)])
    assert again.text.endswith(" Chosen before: trust is taken over.")


def test_at_which_temperature_the_chosen_arm_is_served() -> None:
    """Not where traces were scored in place of answers, nor where no arm was tried."""
    tried = CHOICE | {"arms": [one_arm("sft", openings=2.0), one_arm("support", openings=2.0)]}
    said = "Serve support at temperature 0.6, where it was best on the selection problems, at pilot size."
    given = arms.answer(plain=False, choice=tried, full=[comparison(40, 4)])
    assert said in str(arms.section(given))
    assert any(line.startswith(said) for line in arms.lines(given.to_dict()))
    greedy = [{**one_arm("support", openings=2.0), "best": 0.0}]
    assert side_by_side.serve(CHOICE | {"arms": greedy}).startswith("Serve support greedy, where")
    assert side_by_side.serve(CHOICE) == ""
    assert side_by_side.serve(CHOICE | {"arms": [one_arm("support", "kept", openings=2.0)]}) == ""


def test_a_twin_alone_has_its_plot_and_a_pilot_its_own() -> None:
    told = [comparison(40, 4)]
    text = str(arms.section(arms.answer(plain=False, full=told)))
    assert text.count("<svg") == 1
    assert "(95 % interval over problems)" in text
    assert "interval over problems and seeds)" in str(arms.section(arms.answer(plain=False, seeds=3, full=told)))
    assert str(arms.section(arms.answer(plain=False, choice=CHOICE, trial=told))).count("<svg") == 1


def test_the_page_opens_with_it_and_shows_all_arms() -> None:
    given = arms.answer(plain=False, full=[comparison(40, 4)], choice=CHOICE)
    text = page(RunPage(title="t", decision=None, results={}, answer=given))
    first = text.index("The correction brought +18.0 points")
    assert first < text.index("Did the correction help?</h2>")
    assert "support (chosen)" in text
    assert "not tried: &lt;b&gt;why&lt;/b&gt;" in text
    assert text.count("<script") == 1  # of the plots
    assert "&lt;script&gt;alert(1)" in text
    assert "+6.1" in text
    assert "5.0% of the prompts, 2 seeds" in text
    assert text.count("<svg") >= 1


@pytest.mark.parametrize(
    ("measured", "said"),
    [(True, "the pilot's seeds and train.pilot.seed_deviation (by default the study's figure), weighted 1 to 4"),
     (False, "train.pilot.seed_deviation, for want of a second seed")],
)  # fmt: skip
def test_where_the_spread_between_seeds_is_from(measured: bool, said: str) -> None:
    choice = CHOICE | {"choice": CHOICE["choice"] | {"measured": measured}}
    text = str(arms.section(arms.answer(plain=False, choice=choice))).replace("&#39;", "'")
    assert said in text
    assert "told by the pilot" not in text


def test_answers_that_changed_are_shown_against_the_twin_as_well(tmp_path: Path) -> None:
    named = {"start": {0, 1}, "student": {1, 2, 3}, "SFT twin": {2, 3, 4, 5}}
    results = {name: write_results(tmp_path / name, 0.3, right) for name, right in named.items()}
    text = page(RunPage(title="run", decision=None, results=results))
    assert "2 answers better, 1 worse than the start." in text
    assert "1 answers better, 2 worse than the SFT twin." in text
    assert "Answers that changed against the SFT twin" in text
    del results["start"]
    assert "2 worse than the SFT twin." in page(RunPage(title="run", decision=None, results=results))


def test_figures_and_lines_are_those_of_the_page() -> None:
    given = arms.answer(plain=False, full=[comparison(40, 4)], choice=CHOICE)
    figures = arms.measured(given.to_dict())
    assert figures["correction/sums/difference"] == pytest.approx(0.18)
    assert figures["pilot_problems/support/low"] == 0.02
    assert arms.measured(arms.answer(plain=True).to_dict()) == {}
    lines = arms.lines(given.to_dict())
    assert lines[0] == given.text
    assert lines[3].startswith("support (chosen)")
    assert "greedy" in lines[1]
    assert arms.lines(arms.answer(plain=True).to_dict()) == [arms.answer(plain=True).text]
