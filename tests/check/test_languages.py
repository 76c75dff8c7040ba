"""The language of traces and problems is told where it is clear, and a difference between them is a warning."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dcod.check import languages
from dcod.check.advice import Advice, advise
from dcod.check.checks import Check, checks
from dcod.check.languages import OfTraces, Spoken
from dcod.traces import Trace, cleaning
from tests.check.test_checks import lines

GERMAN = "Anna hat {} Äpfel und kauft einen weiteren auf dem Markt. Wie viele Äpfel hat sie danach insgesamt?"
ENGLISH = "Anna has {} apples and buys another one at the market. How many apples does she have altogether afterwards?"
SOLVED = "She had {} apples before she went to the market, and one more apple makes that number larger. #### {}"


def traces(path: Path, asked: str = ENGLISH, solved: str = SOLVED, count: int = 40) -> str:
    return lines(
        path,
        ({"prompt": asked.format(n), "completion": solved.format(n, n + 1), "gold": str(n + 1)} for n in range(count)),
    )


def problems(path: Path, asked: str) -> str:
    return lines(path, ({"problem": asked.format(n + 500), "answer": str(n + 501)} for n in range(130)))


def language_of(advice: Advice) -> list[str]:
    return [line for line in advice.why if line.startswith(("language", "warning"))]


def checked(advice: Advice) -> list[Check]:
    return [check for check in checks(advice.config) if check.name == "language" or "language" in check.text]


def test_the_language_is_said_in_the_file_and_by_check(tmp_path: Path, tiny_student: Path) -> None:
    advice = advise([traces(tmp_path / "t.jsonl")], problems(tmp_path / "p.jsonl", ENGLISH), str(tiny_student))
    (told,) = language_of(advice)
    assert told.endswith(": prompts en 40 of 40, completions en 40 of 40, problems en 65 of 65")
    assert f"# - {told}\n" in advice.text()
    (check,) = checked(advice)
    assert (check.name, check.state) == ("language", "ok")
    assert check.text.endswith(": prompts en 40 of 40, completions en 40 of 40")


def test_a_prompt_is_counted_once_however_many_traces_it_has(tmp_path: Path) -> None:
    asked = [ENGLISH.format(n) for n in range(7) for _ in range(3)]
    known = [Trace([{"role": "user", "content": text}], SOLVED.format(n, n)) for n, text in enumerate(asked)]
    told = languages.of_traces(known)
    assert (told.prompts.looked, told.completions.looked) == (7, 21)


def test_problems_in_another_language_are_a_warning(tmp_path: Path, tiny_student: Path) -> None:
    advice = advise([traces(tmp_path / "t.jsonl")], problems(tmp_path / "p.jsonl", GERMAN), str(tiny_student))
    warning = language_of(advice)[1]
    assert warning.startswith("warning: the problems are in de, the prompts of the traces in en: ")
    assert "bring problems in en, or traces in de" in warning
    (check,) = [check for check in checked(advice) if check.state == "warning"]
    assert check.name == "custom:p"
    assert check.text == warning.removeprefix("warning: ")


def test_prompts_decide_where_they_tell_and_completions_else(tmp_path: Path, tiny_student: Path) -> None:
    asked_alike = traces(tmp_path / "a.jsonl", GERMAN)
    german = problems(tmp_path / "p.jsonl", GERMAN)
    assert len(language_of(advise([asked_alike], german, str(tiny_student)))) == 1
    bare = traces(tmp_path / "b.jsonl", "{} + 1?")
    assert "the completions of the traces in en" in language_of(advise([bare], german, str(tiny_student)))[1]


def test_mathematics_alone_has_no_language(tmp_path: Path, tiny_student: Path) -> None:
    bare = traces(tmp_path / "t.jsonl", "$x = {} + 1$", "$x = {} + 1$ #### {}")
    advice = advise([bare], problems(tmp_path / "p.jsonl", GERMAN), str(tiny_student))
    assert [line.partition(": ")[2] for line in language_of(advice)] == [
        "prompts none told of 40, completions none told of 40, problems de 65 of 65"
    ]
    assert checked(advice) == []


def test_a_published_set_is_not_fetched_for_it(tmp_path: Path, tiny_student: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("dcod.benchmarks.load", None)
    (told,) = language_of(advise([traces(tmp_path / "t.jsonl")], "gsm8k", str(tiny_student)))
    assert told.endswith("; `dcod check` looks at gsm8k")


def test_problems_that_cannot_be_read_are_said(tmp_path: Path, tiny_student: Path) -> None:
    broken = lines(tmp_path / "p.jsonl", [{"problem": "1 + 1?", "answer": "2"}, {"problem": "", "answer": "2"}])
    (told,) = language_of(advise([traces(tmp_path / "t.jsonl")], broken, str(tiny_student)))
    assert "; the problems were not read: custom: " in told


def test_without_its_library_it_is_said_that_nobody_looked(
    tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("py3langid", "py3langid.langid"):
        monkeypatch.setitem(sys.modules, module, None)
    cleaning._identifier.cache_clear()
    advice = advise([traces(tmp_path / "t.jsonl")], problems(tmp_path / "p.jsonl", GERMAN), str(tiny_student))
    assert language_of(advice) == [languages.ABSENT]
    (check,) = checked(advice)
    assert (check.state, f"language: {check.text}") == ("unchecked", languages.ABSENT)


@pytest.mark.parametrize(
    ("looked", "told", "clear"),
    [
        (100, {"en": 39}, "en"),
        (100, {"en": 19}, ""),
        (100, {"en": 80, "de": 20}, "en"),
        (100, {"en": 79, "de": 21}, ""),
        (4, {"en": 4}, ""),
        (0, {}, ""),
    ],
)
def test_one_language_is_clear_where_most_of_the_sample_has_it(looked: int, told: dict[str, int], clear: str) -> None:
    assert Spoken(looked, Counter(told)).clear == clear


@pytest.mark.parametrize(("traced", "asked", "warned"), [("no", "da", False), ("zh", "yue", False), ("no", "sr", True)])
def test_languages_that_are_mistaken_for_each_other_do_not_differ(traced: str, asked: str, warned: bool) -> None:
    spoken = Spoken(50, Counter({traced: 50}))
    assert bool(OfTraces(spoken, spoken).unlike(Spoken(50, Counter({asked: 50})))) == warned


def test_the_sample_is_taken_evenly() -> None:
    texts = [ENGLISH.format(7)] * 500 + [GERMAN.format(7)] * 500
    assert languages.of(texts) == Spoken(100, Counter(en=50, de=50))
    assert languages.of([]) == Spoken(0, Counter())
