"""Which files of dcod a module may load, whatever it does: the closure of what they import, read from their text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

import dcod

ROOT = Path(dcod.__file__).parent


def reached(*modules: str, root: Path = ROOT) -> list[Path]:
    """The files that modules may load, themselves included.

    Lazy imports count, and strings that are the name of a module, as of one that is started by ``python -m``; of a
    folder that is looked into for modules (``iter_modules``), all. Imports for a type checker alone do not count.
    A string that is the name of a folder beside a module stands for what that folder holds and no module is: templates,
    mappings.

    Args:
        modules: full names.
        root: the folder of the package.
    """
    seen: set[Path] = set()
    waiting = [path for name in modules for path in _files(name, root)]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += _imported(path, root) if path.suffix == ".py" else ()
    return sorted(seen)


@cache
def _imported(path: Path, root: Path) -> frozenset[Path]:
    """The files of ours that one file names."""
    inside = (root.name, *path.relative_to(root).parts[:-1])
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    names = set(_names(tree, ".".join(inside), root.name))
    if None in names:
        names |= {".".join((*inside, other.stem)) for other in path.parent.iterdir()}
    return frozenset(file for name in names if name for file in _files(name, root)).union(_data(path, tree))


def _data(path: Path, tree: ast.AST) -> Iterator[Path]:
    """The files that are no modules, of the folders beside a module that it names."""
    said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for folder in path.parent.iterdir():
        if folder.name in said and folder.is_dir():
            yield from (file for file in folder.iterdir() if file.is_file() and file.suffix not in (".py", ".pyc"))


def _names(node: ast.AST, package: str, top: str) -> Iterator[str | None]:
    """Names that may be modules of ours; None where all modules of the folder are looked up."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), package)
        yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from started(node.value, top)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        yield from (name for other in node.orelse for name in _names(other, package, top))
    else:
        if "iter_modules" in (getattr(node, "attr", ""), getattr(node, "id", "")):
            yield None
        for child in ast.iter_child_nodes(node):
            yield from _names(child, package, top)


def started(text: str, top: str) -> Iterator[str]:
    """Names in a string that may be modules: the whole string, or what stands behind ``-m``."""
    for match in re.finditer(rf"(?:-m |--module[ =])({top}[.\w]+)|\A({top}[.\w]+)(?=\Z|:\w)", text):
        yield match[1] or match[2]


@cache
def _files(name: str, root: Path) -> tuple[Path, ...]:
    """The files of a module and of the packages that it lies in; of a name that is no module, those of its packages."""
    top, *parts = name.split(".")
    files = []
    if top == root.name:
        place = root
        for part in parts:
            files.append(place / "__init__.py")
            place /= part
        files += [place / "__init__.py", place.with_suffix(".py")]
    return tuple(path for path in files if path.is_file())
