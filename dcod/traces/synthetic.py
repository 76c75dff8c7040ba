"""Problems with worked solutions from reasoning-gym: seeded, offline, named by a URI.

``reasoning-gym://TASK?problems=200&traces=2&seed=1&min_terms=3`` names a set: ``problems`` distinct problems,
``traces`` worked solutions of each, everything else goes to the task's own generator. reasoning-gym seeds
problem i with ``seed + i``, so the seeds of two sets that must not overlap lie further apart than four times their
sizes. It stays so, unlike the seeds of samples, which are hashed: a URI names the very problems that reasoning-gym
gives for its seed. Where two sets overlap, ingestion keeps a trace once and refuses problems of a benchmark, and a
problem is on the same side of gate and report in every set.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlparse

from dcod.errors import UserError
from dcod.grading import worker

SCHEME = "reasoning-gym"
PROBLEMS = 100_000  # of one set, which is held in memory; several sets have seeds of their own
_TRACES = 1000
_OPTION = 10**9  # the highest number that goes to a task
_SURE = 1000  # an option up to this is believed: no generator takes long with it
_SLOW = "one problem with these options takes over 5 s or 2 GB; give smaller numbers"


@dataclass(frozen=True)
class SyntheticProblem:
    """One generated problem; ``entry`` is reasoning-gym's own row, which its scorer wants back."""

    id: str
    task: str
    question: str
    answer: str
    entry: dict[str, Any]


@dataclass(frozen=True)
class SetName:
    """A parsed URI."""

    task: str
    problems: int
    traces: int
    seed: int
    options: tuple[tuple[str, int | float | str], ...]


def is_synthetic(uri: str) -> bool:
    """Whether a source is a reasoning-gym URI."""
    return uri.startswith(f"{SCHEME}://")


def parse(uri: str) -> SetName:
    """Reads a URI.

    Raises:
        UserError: the task or an option is unknown, or a number is none.
    """
    from reasoning_gym.factory import DATASETS

    parsed = urlparse(uri)
    task = parsed.netloc
    if task not in DATASETS:
        raise UserError(f"{uri}: reasoning-gym has no task {task!r}; known: {', '.join(sorted(DATASETS))}")
    options = {key: _number(value) for key, value in parse_qsl(parsed.query)}
    own = {name: options.pop(name, default) for name, default in (("problems", 100), ("traces", 1), ("seed", 0))}
    known = [name for name in DATASETS[task][1].__dataclass_fields__ if name not in ("seed", "size")]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(
            f"{uri}: unknown option {', '.join(unknown)}; known: problems, traces, seed, {', '.join(known)}"
        )
    for name, value in own.items():
        if not isinstance(value, int) or value < (0 if name == "seed" else 1):
            raise UserError(f"{uri}: {name}={value} is not a whole number above 0")
    bounds = {"problems": PROBLEMS, "traces": _TRACES, "seed": 2**63 - 1, **dict.fromkeys(options, _OPTION)}
    for name, value in {**own, **options}.items():
        if not isinstance(value, str) and not abs(value) <= bounds[name]:
            raise UserError(f"{uri}: {name}={value!r:.40} is too large; at most {bounds[name]}, or several sources")
    problems, traces, seed = (int(value) for value in own.values())
    return SetName(task, problems, traces, seed, tuple(sorted(options.items())))


def problems(uri: str) -> list[SyntheticProblem]:
    """The distinct problems of a set, in a fixed order.

    Raises:
        UserError: the URI is wrong, or the task has not so many different problems.
    """
    import reasoning_gym

    name = parse(uri)
    large = any(not isinstance(value, str) and abs(value) > _SURE for _, value in name.options)
    if large and not worker.ask("dcod.traces.synthetic", [name.task, name.seed, dict(name.options)]):
        raise UserError(f"{uri}: {_SLOW}")
    by_question: dict[str, SyntheticProblem] = {}
    try:
        rows = reasoning_gym.create_dataset(name.task, size=4 * name.problems, seed=name.seed, **dict(name.options))
    except (AssertionError, ValueError, TypeError) as error:
        raise UserError(f"{uri}: the task refuses these options ({error})") from None
    for entry in rows:
        question = str(entry["question"])
        if question not in by_question:
            identity = hashlib.sha256(f"{name.task}\x1f{question}".encode()).hexdigest()[:16]
            by_question[question] = SyntheticProblem(identity, name.task, question, str(entry["answer"]), entry)
        if len(by_question) == name.problems:
            return list(by_question.values())
    raise UserError(f"{uri}: only {len(by_question)} different problems with these options, {name.problems} asked for")


def possible(task: str, seed: int, options: dict[str, Any]) -> bool:
    """Makes one problem, in a worker that may take too long with it; a refusal is told by who asks for all."""
    import reasoning_gym

    with contextlib.suppress(AssertionError, ValueError, TypeError):
        reasoning_gym.create_dataset(task, size=1, seed=seed, **options)[0]
    return True


def score(problem: SyntheticProblem, answer: str) -> bool:
    """Whether the task's own scorer takes an answer as fully right."""
    import reasoning_gym

    dataset = reasoning_gym.create_dataset(problem.task, size=1, seed=0)
    return bool(dataset.score_answer(answer, problem.entry) >= 1.0)


def worked(problem: SyntheticProblem, count: int, seed: int) -> list[str]:
    """Up to ``count`` different worked solutions of a problem, each ending in a line ``#### answer``.

    The styles are drawn by seed and problem, so that a set mixes them.

    Raises:
        UserError: nobody has written solutions for this task.
    """
    writers = WRITERS.get(problem.task)
    if writers is None:
        raise UserError(f"reasoning-gym task {problem.task}: no worked solutions; there are for {', '.join(WRITERS)}")
    order = random.Random(f"{seed}:{problem.id}").sample(writers, len(writers))
    texts = dict.fromkeys(f"{write(problem)}\n#### {problem.answer}".lstrip("\n") for write in order)
    return list(texts)[:count]


def _running_total(problem: SyntheticProblem) -> str:
    """34 + 58 - 17: from left to right, one operation a line."""
    return "\n".join(_steps(_signed_terms(problem)))


def _signs_apart(problem: SyntheticProblem) -> str:
    """What is added first, then what is taken away, then the difference."""
    terms = _signed_terms(problem)
    plus, minus = [t for t in terms if t >= 0], [-t for t in terms if t < 0]
    lines = [*_steps(plus), *_steps(minus)]
    if minus:
        lines.append(f"{sum(plus)} - {sum(minus)} = {sum(terms)}")
    return "\n".join(lines)


def _steps(terms: list[int]) -> list[str]:
    """A sum from left to right, one operation a line; nothing for a single term."""
    total, lines = (terms or [0])[0], []
    for term in terms[1:]:
        before, total = total, total + term
        lines.append(f"{before} {_sign(term)} {abs(term)} = {total}")
    return lines


def _leap(problem: SyntheticProblem) -> str:
    """The whole expression at once: a single step that a small student can hardly carry out."""
    return f"{problem.entry['metadata']['expression']} = {problem.answer}"


def _signed_terms(problem: SyntheticProblem) -> list[int]:
    terms, sign = [], 1
    for token in str(problem.entry["metadata"]["expression"]).split():
        if token in "+-":
            sign = -1 if token == "-" else 1
        else:
            terms.append(sign * int(token))
    return terms


def _sign(term: int) -> str:
    return "-" if term < 0 else "+"


def _own_solution(problem: SyntheticProblem) -> str:
    return str(problem.entry["metadata"]["answer_cot"]).partition("####")[0].strip()


def _legs(problem: SyntheticProblem) -> str:
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    total, lines = 0, []
    for animal, count in problem.entry["metadata"]["animals"].items():
        legs = ANIMALS[animal] * count
        lines.append(f"{count} {animal}: {count} * {ANIMALS[animal]} = {legs}, total {total + legs}")
        total += legs
    return "\n".join(lines)


WRITERS: dict[str, list[Callable[[SyntheticProblem], str]]] = {
    "chain_sum": [_running_total, _signs_apart, _leap],
    "gsm_symbolic": [_own_solution],
    "leg_counting": [_legs],
}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


if __name__ == "__main__":
    worker.serve(possible, "reasoning_gym")
