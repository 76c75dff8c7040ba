"""The regimes: what the teacher writes, and why a correction should (or should not) help there.

A regime has problems with checkable answers, and a program that writes worked solutions the way its teacher
should: the teacher is a network trained on these, and students only ever see what that network samples. The
teacher may read a hint, the partial results, in front of its solution, as a strong teacher has abilities that
the student lacks; the student never sees it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

ALPHABET = "0123456789+=;#[],."
_STEP = re.compile(r"([\d+]+)=(\d+)(?=;)")


@dataclass(frozen=True)
class Problem:
    """One problem: its text, what the teacher is told besides, the numbers in it and its answer."""

    text: str
    hint: str
    numbers: tuple[int, ...]
    answer: str


@dataclass(frozen=True)
class Step:
    """One step that a solution states: where its result stands in the text, and whether it holds."""

    start: int
    stop: int
    right: bool


@dataclass(frozen=True)
class Size:
    """A network: hidden size, layers, size of its MLP."""

    hidden: int
    layers: int
    inner: int


STUDENT, TEACHER = Size(64, 2, 192), Size(128, 3, 384)


@dataclass(frozen=True)
class Regime:
    """One row of the study; every number in it was fixed before the first method ran.

    Attributes:
        why: two lines of motivation.
        problem, write: draw a problem; write a solution as the teacher should.
        basics: writes what the start has learnt from: easy styles, clean.
        steps: the steps that a solution states.
        verified: whether traces with a wrong answer are dropped.
        start_steps: optimizer steps that make the half-trained start.
        train_problems, traces: how many problems the teacher solves, and how often each.
        epochs: over these traces, in the training that is compared.
        max_new_tokens: limit of a completion.
        test_problems: how many decide; half as many choose the learning rate.
        held_out: whether the problems of validation and test are kept from the start and the traces of a seed.
        far: whose teacher writes half of the traces of every problem.
        student: the network of the start.
        start_rate, start_batch: of the training that makes the start; a batch of 0 is that of the comparison.
    """

    name: str
    why: str
    problem: Callable[[Random], Problem]
    write: Callable[[Random, Problem], str]
    basics: Callable[[Random, Problem], str]
    steps: Callable[[Problem, str], list[Step]]
    verified: bool = True
    start_steps: int = 400
    max_new_tokens: int = 48
    train_problems: int = 1200
    traces: int = 4
    epochs: int = 2
    traces_per_step: int = 32
    test_problems: int = 200
    teacher_steps: int = 500
    held_out: bool = False
    far: Regime | None = None
    student: Size = STUDENT
    start_rate: float = 3e-3
    start_batch: int = 0


def answer_of(text: str) -> str | None:
    """What stands behind the last #."""
    _, mark, answer = text.rpartition("#")
    return answer if mark else None


def sums(terms: int) -> Callable[[Random], Problem]:
    """Problems a+b+…= of digits from one to nine; the hint holds the partial sums from left, and those of pairs."""

    def draw(rng: Random) -> Problem:
        numbers = tuple(rng.randint(1, 9) for _ in range(terms))
        partial = [sum(numbers[: i + 1]) for i in range(1, terms)]
        pairs = [sum(numbers[i : i + 2]) for i in range(2, terms, 2)]
        hint = f"[{'.'.join(map(str, partial))},{'.'.join(map(str, pairs))}]"
        return Problem("+".join(map(str, numbers)) + "=", hint, numbers, str(sum(numbers) % 10))

    return draw


def running(leap: float = 0.0, slip: float = 0.0) -> Callable[[Random, Problem], str]:
    """Adds one digit after the other.

    Args:
        leap: chance that a step adds three digits at once.
        slip: chance that a step states a wrong result; half of the slips are carried on, half are not.
    """

    def write(rng: Random, problem: Problem) -> str:
        total, rest, text = problem.numbers[0], list(problem.numbers[1:]), ""
        while rest:
            take = 3 if len(rest) > 2 and rng.random() < leap else 1
            terms, rest = rest[:take], rest[take:]
            right = said = total + sum(terms)
            if rng.random() < slip:
                said = max(1, right + rng.choice([-3, -2, -1, 1, 2, 3]))
            text += f"{total}+{'+'.join(map(str, terms))}={said};"
            total = said if rng.random() < 0.5 else right
        return f"{text}#{total % 10}"

    return write


def pairs(_: Random, problem: Problem) -> str:
    """Adds pairs first, then their sums: another way that is as easy."""
    row, text = list(problem.numbers), ""
    while len(row) > 1:
        sums = []
        for i in range(0, len(row) - 1, 2):
            sums.append(row[i] + row[i + 1])
            text += f"{row[i]}+{row[i + 1]}={sums[-1]};"
        row = sums + row[len(row) // 2 * 2 :]
    return f"{text}#{row[0] % 10}"


def at_once(_: Random, problem: Problem) -> str:
    """The answer alone: beyond a small student."""
    return f"#{problem.answer}"


def mix(*styles: Callable[[Random, Problem], str]) -> Callable[[Random, Problem], str]:
    """One of several styles, each as likely."""
    return lambda rng, problem: rng.choice(styles)(rng, problem)


def sum_steps(_: Problem, text: str) -> list[Step]:
    """Every a+b=c; of a text."""
    found = []
    for match in _STEP.finditer(text):
        terms = [int(term) for term in match[1].split("+") if term]
        found.append(Step(match.start(2), match.end(2), sum(terms) == int(match[2])))
    return found


def countdown(low: int, high: int) -> Callable[[Random], Problem]:
    """Problems n-: count down by threes; the answer is what is left."""

    def draw(rng: Random) -> Problem:
        number = rng.randint(low, high)
        return Problem(f"{number}=", "", (number,), str(number % 3))

    return draw


def counting(slip: float) -> Callable[[Random, Problem], str]:
    """A hundred steps of minus three; one in ``1 / slip`` goes wrong by one or two, and is carried on."""

    def write(rng: Random, problem: Problem) -> str:
        (number,), text = problem.numbers, ""
        while number >= 3:
            number = max(0, number - (rng.choice([1, 2, 4, 5]) if rng.random() < slip else 3))
            text += f"{number:03d}"
        return f"{text}#{number}"

    return write


def counting_steps(problem: Problem, text: str) -> list[Step]:
    """Every number, from the one before it."""
    (last,), body = problem.numbers, text.partition("#")[0]
    found = []
    for start in range(0, len(body), 3):
        said = body[start : start + 3]
        found.append(Step(start, start + len(said), said == f"{last - 3:03d}"))
        last = int(said) if said.isdigit() else last
    return found


_FOUR, _FIVE = sums(4), sums(5)

REGIMES: dict[str, Regime] = {
    regime.name: regime
    for regime in (
        Regime(
            "several_ways",
            "The teacher solves each problem in one of three styles; one of them, the answer at once, is beyond the\n"
            "student. Imitating it costs capacity and teaches guessing: weights should find what can be done.",
            _FOUR,
            mix(running(), pairs, at_once),
            mix(running(), pairs),
            sum_steps,
            start_steps=500,
        ),
        Regime(
            "leaps",
            "In long solutions a step may add three digits at once, which the student cannot compute reliably;\n"
            "after a failed leap it stands where the teacher never stood.",
            _FIVE,
            running(leap=0.3),
            running(),
            sum_steps,
            start_steps=250,
            max_new_tokens=64,
        ),
        Regime(
            "noisy",
            "Fifteen of a hundred steps of the teacher are wrong, nothing is filtered. Its slips are what it\n"
            "finds unlikely itself, so importance ratios raise them: a correction must not learn from noise.",
            _FOUR,
            running(slip=0.15),
            running(),
            sum_steps,
            verified=False,
        ),
        Regime(
            "noisy_filtered",
            "The same teacher, wrong answers dropped: slips that were not carried on stay in the traces.\n"
            "This is what filtering by the answer leaves in practice.",
            _FOUR,
            running(slip=0.15),
            running(),
            sum_steps,
        ),
        Regime(
            "long",
            "A hundred steps in one style, nothing filtered: small errors compound, and the drift between the\n"
            "states of teacher and student grows with the position.",
            countdown(300, 330),
            counting(slip=0.005),
            counting(slip=0.0),
            counting_steps,
            verified=False,
            start_steps=500,
            max_new_tokens=350,
            train_problems=240,
            traces_per_step=8,
            epochs=1,
            test_problems=40,
        ),
        Regime(
            "clean",
            "One style that the student can learn, no noise: there is nothing to correct.\n"
            "A correction must not hurt here.",
            _FOUR,
            running(),
            running(),
            sum_steps,
        ),
    )
}
