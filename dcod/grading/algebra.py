"""Whether two formulas are one, by math-verify's parser and rules; the worker of :mod:`dcod.grading.equality`.

Formulas reach the parser without decimals (:func:`dcod.grading.spelling.latex`), so nothing is rounded there. What
math-verify would take for equal and is not: numbers that differ beyond its digits, equations without a solution, and an
equation for its right side, such as 2x = 5 for 5. Identities that it does not find are found by evaluating both sides.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from typing import Any

from dcod.grading import quantities
from dcod.grading.quantities import Quantity
from dcod.grading.spelling import latex

_WORD = re.compile(r"(?<![\\A-Za-z{_])[A-Za-z]{4,}")
_DIGITS = 30
_SURE = 20  # of them that agree where two values are one
_POINTS = ("3/7", "29/11", "-5/9", "-17/6")  # where identities are tried
_POSITIVE = 2  # of them; only there a difference says that two formulas are two


def compare(gold: str, answer: str, tolerance: float = 0.0) -> bool | None:
    """Whether two tidied answers are one formula or number; None where that could not be found out."""
    if Counter(_WORD.findall(latex(gold))) != Counter(_WORD.findall(latex(answer))):
        return False
    left, right = _parsed(gold, False), _parsed(answer, False)
    if left is None or right is None:
        return False
    numbers = quantities.quantity(gold), quantities.quantity(answer)
    if _same(left, right, *numbers, tolerance):
        return True
    names = [{str(one) for one in _symbols(side)} for side in (left, right)]
    if names[0] == names[1] or any(len({name.lower() for name in side}) < len(side) for side in names):
        return False
    return _same(_parsed(gold, True), _parsed(answer, True), *numbers, tolerance)  # C and c are one constant


def _parsed(text: str, lower: bool) -> Any:
    from latex2sympy2_extended import NormalizationConfig, latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from sympy import I

    rules = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
    )
    try:
        expression = latex2sympy(
            latex(text),
            is_real=True,
            normalization_config=rules,
            conversion_config=ConversionConfig(lowercase_symbols=lower),
        )
    except Exception:  # the parser raises bare ones
        return None
    imaginary = {one: I for one in _symbols(expression) if str(one) == "i"}
    return expression.subs(imaginary) if imaginary else expression


def _symbols(one: Any) -> set[Any]:
    return set(getattr(one, "free_symbols", ()))


def _same(left: Any, right: Any, gold: Quantity | None, answer: Quantity | None, tolerance: float) -> bool:
    from math_verify import verify
    from sympy import Eq, Expr, Ne, solve

    if isinstance(left, Ne) and isinstance(right, Ne):
        left, right = Eq(*left.args, evaluate=False), Eq(*right.args, evaluate=False)
    scalars = isinstance(left, Expr) and isinstance(right, Expr)
    if scalars and not _symbols(left) and not _symbols(right):
        return _same_number(left, right, gold, answer, tolerance)
    if scalars:
        identical = _identical(left, right)
        if identical is not None:
            return identical
    equations = isinstance(left, Eq), isinstance(right, Eq)
    if all(equations):
        sides = [one.lhs - one.rhs for one in (left, right)]
        if _identical(sides[0], sides[1]) or _constant(sides[0] / sides[1]):
            return True
        try:
            if _symbols(left) != _symbols(right) or not solve(left, dict=True):
                return False
        except NotImplementedError:  # no way to solve it: not seen to be the same
            return False
    if equations[1] and not equations[0] and _solvable(right):
        return False
    return bool(verify(left, right, timeout_seconds=None, raise_on_error=True))


def _solvable(equation: Any) -> bool:
    """Whether it says what its one unknown is, only not at once: 2x = 5."""
    from sympy import Symbol

    return (
        len(_symbols(equation)) == 1
        and not isinstance(equation.lhs, Symbol)
        and bool(equation.lhs.free_symbols)
        and (not equation.lhs.is_Function)
    )


def _same_number(left: Any, right: Any, gold: Quantity | None, answer: Quantity | None, tolerance: float) -> bool:
    """Numbers are one exactly, within the tolerance, or by a fair rounding of one that is written as a decimal."""
    if left == right:
        return True
    values = [one.doit().evalf(_DIGITS) for one in (left, right)]
    if not all(value.is_finite for value in values):
        return bool(values[0] == values[1])
    apart = abs((left - right).doit().evalf(_DIGITS))
    if not apart.is_Float and not apart.is_Rational:
        return False
    if apart <= abs(values[0]) / 10**_SURE:
        return True
    if not all(value.is_real for value in values):
        return False
    exact = [_exact(value) for value in values]
    sides = [
        known if known and not known.unit else Quantity(value)
        for known, value in zip((gold, answer), exact, strict=True)
    ]
    return quantities.close(sides[0], sides[1], Fraction(tolerance))


def _exact(value: Any) -> Fraction:
    from sympy import Rational

    rational = Rational(value)
    return Fraction(int(rational.p), int(rational.q))


def _identical(left: Any, right: Any) -> bool | None:
    """Whether two formulas have the same values everywhere; None where a few points do not tell."""
    known = True
    for index in range(len(_POINTS)):
        apart = _value(left - right, index)
        if apart is None:
            known = False
        elif apart and abs(apart) > (1 + abs(_value(left, index) or 0)) / 10**_SURE:
            return False if index < _POSITIVE else None
    return True if known else None


def _constant(ratio: Any) -> bool:
    values = [_value(ratio, index) for index in range(len(_POINTS))]
    return all(one is not None and abs(one - values[0]) <= abs(one) / 10**_SURE and abs(one) > 0 for one in values)


def _value(formula: Any, index: int) -> Any:
    """A formula at a point; None where it has no value there."""
    from sympy import Rational

    names = sorted(_symbols(formula), key=str)
    point = {name: Rational(_POINTS[index]) + Rational(place, 7) for place, name in enumerate(names)}
    value = formula.subs(point).doit().evalf(_DIGITS)
    known = value.is_number and not value.has(*_unevaluated()) and value.is_finite
    return value if known and (value.is_real is not None) else None


def _unevaluated() -> tuple[Any, ...]:
    from sympy import Integral, Sum, nan, zoo
    from sympy.core.function import AppliedUndef

    return Integral, Sum, AppliedUndef, nan, zoo


if __name__ == "__main__":
    from dcod.grading.worker import serve

    serve(compare, "math_verify")
