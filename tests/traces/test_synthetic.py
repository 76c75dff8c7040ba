"""Synthetic sets: what the worked solutions say is true, sets are fixed by their name, and names are checked."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable

import pytest

from dcod import grading
from dcod.errors import UserError
from dcod.traces import synthetic
from dcod.traces.synthetic import SyntheticProblem

CHAIN = "reasoning-gym://chain_sum?problems=60&seed=5&min_terms=2&max_terms=5&min_digits=1&max_digits=3"
LEGS = "reasoning-gym://leg_counting?problems=40&seed=5"
SYMBOLIC = "reasoning-gym://gsm_symbolic?problems=20&seed=5"
NEGATIVE = "reasoning-gym://chain_sum?problems=40&seed=5&min_terms=2&max_terms=4&allow_negation=1"
OPERATIONS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def value(expression: str) -> int:
    """The value of a sum, difference or product of whole numbers."""

    def walk(node: ast.AST) -> int:
        if isinstance(node, ast.BinOp):
            return OPERATIONS[type(node.op)](walk(node.left), walk(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -walk(node.operand)
        assert isinstance(node, ast.Constant)
        assert type(node.value) is int
        return node.value

    return walk(ast.parse(expression, mode="eval").body)


def equations(solution: str) -> list[tuple[str, str]]:
    """Every `expression = number` of a solution."""
    return re.findall(r"([-\d][-+*\d ]*?) = (-?\d+)", solution)


@pytest.mark.parametrize("uri", [CHAIN, NEGATIVE])
def test_every_line_of_a_worked_sum_holds(uri: str) -> None:
    checked = 0
    for problem in synthetic.problems(uri):
        for solution in synthetic.worked(problem, 3, seed=0):
            *lines, last = solution.splitlines()
            assert last == f"#### {problem.answer}"
            for line in lines:
                left, right = line.split(" = ")
                assert value(left) == int(right), solution
                checked += 1
            assert int(lines[-1].split(" = ")[1]) == int(problem.answer)
    assert checked > 150


def test_every_line_of_a_worked_leg_count_holds() -> None:
    for problem in synthetic.problems(LEGS):
        [solution] = synthetic.worked(problem, 3, seed=0)
        *lines, last = solution.splitlines()
        total = 0
        for line in lines:
            [(left, right)] = equations(line)
            assert value(left) == int(right)
            total += int(right)
            assert line.endswith(f"total {total}")
        assert last == f"#### {total}"


def test_own_solutions_end_in_one_answer() -> None:
    for problem in synthetic.problems(SYMBOLIC):
        [solution] = synthetic.worked(problem, 3, seed=0)
        assert solution.count("####") == 1
        assert solution.splitlines()[-1] == f"#### {problem.answer}"


@pytest.mark.parametrize("uri", [CHAIN, LEGS, SYMBOLIC])
def test_worked_solutions_are_graded_right(uri: str) -> None:
    for problem in synthetic.problems(uri):
        for solution in synthetic.worked(problem, 3, seed=0):
            assert grading.grade(solution, problem.answer).outcome == "correct"
        assert synthetic.score(problem, problem.answer)
        assert not synthetic.score(problem, "no number")


def test_solutions_of_a_problem_differ_and_styles_are_mixed() -> None:
    problems = synthetic.problems(CHAIN)
    firsts = set()
    for problem in problems:
        solutions = synthetic.worked(problem, 3, seed=0)
        assert len(set(solutions)) == len(solutions) <= 3
        firsts.add(_style(problem, solutions[0]))
    assert len(firsts) > 1
    assert any(synthetic.worked(p, 1, seed=0) != synthetic.worked(p, 1, seed=1) for p in problems)
    assert all(synthetic.worked(p, 2, seed=0) == synthetic.worked(p, 3, seed=0)[:2] for p in problems)


def _style(problem: SyntheticProblem, solution: str) -> str:
    names = [write.__name__ for write in synthetic.WRITERS["chain_sum"] if write(problem) in solution]
    return names[-1]


def test_a_set_is_distinct_and_fixed_by_its_name() -> None:
    first, again = synthetic.problems(CHAIN), synthetic.problems(CHAIN)
    assert [(p.id, p.question, p.answer) for p in first] == [(p.id, p.question, p.answer) for p in again]
    assert len({p.question for p in first}) == len({p.id for p in first}) == 60
    other = synthetic.problems(CHAIN.replace("seed=5", "seed=6"))
    assert [p.id for p in first] != [p.id for p in other]


def test_sets_of_far_seeds_share_no_problem() -> None:
    options = "problems=150&min_terms=3&max_terms=4&min_digits=2&max_digits=2"
    sets = [{p.id for p in synthetic.problems(f"reasoning-gym://chain_sum?{options}&seed={s}")} for s in (1, 100_001)]
    assert len(sets[0]) == len(sets[1]) == 150
    assert not sets[0] & sets[1]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("chain_sums", r"no task 'chain_sums'; known: .*chain_sum"),
        ("", r"no task ''; known: "),
        ("chain_sum?problem=3", r"unknown option problem; known: problems, traces, seed, .*min_terms"),
        ("chain_sum?size=3", r"unknown option size"),
        ("chain_sum?problems=0", r"problems=0 is not a whole number above 0"),
        ("chain_sum?problems=many", r"problems=many is not a whole number"),
        ("chain_sum?traces=1.5", r"traces=1.5 is not a whole number"),
        ("chain_sum?seed=-1", r"seed=-1 is not a whole number"),
        ("chain_sum?min_terms=9&max_terms=2", r"the task refuses these options"),
        ("chain_sum?min_terms=two", r"the task refuses these options"),
        (
            "chain_sum?problems=500&min_terms=2&max_terms=2&min_digits=1&max_digits=1",
            r"only \d+ different problems with these options, 500 asked for",
        ),
    ],
)
def test_a_wrong_name_says_what_is_allowed(query: str, message: str) -> None:
    uri = f"reasoning-gym://{query}"
    with pytest.raises(UserError, match=message) as caught:
        synthetic.problems(uri)
    assert str(caught.value).startswith(f"{uri}: ")


def test_a_task_without_worked_solutions() -> None:
    [problem] = synthetic.problems("reasoning-gym://basic_arithmetic?problems=1")
    with pytest.raises(UserError, match=r"basic_arithmetic: no worked solutions; there are for chain_sum, "):
        synthetic.worked(problem, 1, seed=0)
