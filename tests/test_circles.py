"""No files import each other in a circle; the rule is that of CONTRIBUTING.md."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.test_structure import PACKAGES, ROOT, files, imports


def circles(root: Path) -> list[str]:
    """Circles of files; lazy imports, those for types alone and modules that are started by their name included."""
    graph: dict[str, set[str]] = {}
    for file in files(root, PACKAGES):
        name = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {item.module for item in imports(root, file) if item.top in PACKAGES} - {name}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


def test_no_files_import_each_other_in_a_circle(tmp_path: Path) -> None:
    assert circles(ROOT) == []
    (tmp_path / "dcod").mkdir()
    (tmp_path / "dcod/a.py").write_text("def f():\n    from dcod import b\n")
    for back in ("def f():\n    from dcod import a\n", "COMMAND = [python, '-m', 'dcod.a']\n"):
        (tmp_path / "dcod/b.py").write_text(back)
        assert circles(tmp_path) != []
    (tmp_path / "dcod/b.py").write_text('"""dcod.a"""\n\nITSELF = "dcod.b"\n')
    assert circles(tmp_path) == []
