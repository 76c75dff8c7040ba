"""Every regular expression takes time in proportion to its text, whatever the text: else a trace can hang a run.

Expressions are found in the syntax tree. Each is tried the way it is used; one whose use does not show is tried in
every way. This is the one place where tests look at a clock: processor time, at one length and at four times it.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from tests import growth

ROOT = Path(__file__).parent.parent
METHODS = ("match", "fullmatch", "search", "finditer", "findall", "sub", "subn", "split")
COUNT = 264


class Expression(NamedTuple):
    """One expression: where, what, and how it is used (no way: every way)."""

    place: str
    pattern: re.Pattern[str]
    used: frozenset[str]


def modules() -> Iterator[tuple[ModuleType, ast.Module]]:
    for path in sorted((ROOT / "dcod").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.Attribute) and _is_re(node.value) for node in ast.walk(tree)):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield importlib.import_module(name), tree


def _is_re(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("re", "re2")


def _value(node: ast.expr, module: ModuleType) -> object:
    """What a pattern's expression is; where a part of it is known only later, a word stands for that."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
        return "".join(str(_value(part, module)) for part in parts)
    try:
        return eval(compile(ast.Expression(node), "pattern", "eval"), {**vars(module)})
    except NameError:
        return "word"


def _uses() -> dict[str, set[str]]:
    """The methods that are called on a name, anywhere."""
    found: dict[str, set[str]] = defaultdict(set)
    for _, tree in modules():
        called = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in METHODS:
                owner = node.value
                name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
                found[name].add(node.attr)
                called.add(id(owner))
        for node in ast.walk(tree):  # handed on: used in any way
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in called:
                found[node.id].update(METHODS)
    return found


def expressions() -> list[Expression]:
    found, uses = [], _uses()
    for module, tree in modules():
        names = {
            id(node.value): target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_re(node.func.value)):
                continue
            if node.func.attr not in ("compile", *METHODS):
                continue
            pattern = _value(node.args[0], module)
            flags = [_value(arg, module) for arg in node.args[1:]] + [_value(k.value, module) for k in node.keywords]
            if isinstance(pattern, bytes):
                pattern = pattern.decode("latin-1")
            assert isinstance(pattern, str)
            compiled = re.compile(pattern, next((int(f) for f in flags if isinstance(f, re.RegexFlag)), 0))
            used = uses[names[id(node)]] if id(node) in names else set(METHODS)
            used = {node.func.attr} if node.func.attr in METHODS else used
            found.append(Expression(f"{module.__name__}:{node.lineno}", compiled, frozenset(used)))
    return found


FOUND = expressions()


def test_all_are_found() -> None:
    assert len(FOUND) == COUNT
    for module, tree in modules():  # and nobody calls the module by another name
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "re":
                raise AssertionError(f"{module.__name__}: from re import …")


def slow(found: Expression, size: int = 3000) -> str:
    """A text whose time grows faster than its length; empty where there is none."""
    ways = growth.ways(found.pattern)
    for call in {ways[name] for name in found.used or METHODS}:
        for head, pump, tail in growth.adversaries(found.pattern.pattern, found.pattern.flags):
            grown = growth.grows(call, growth.text(head, pump, tail), size)
            if grown:
                return f"{head!r} + n * {pump!r} + {tail!r}: {grown}"
    return ""


@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.place)
def test_time_grows_with_the_text(found: Expression) -> None:
    assert not slow(found), found.pattern.pattern
