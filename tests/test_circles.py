"""No files import each other in a circle; the rule is that of CONTRIBUTING.md."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.test_structure import PACKAGES, ROOT, files, imports

# The one circle: the stage `train` starts ranks, and each of them runs the stage again, in a process of its own. To cut
# it, what a rank runs would have to leave the file that is the stage.
AGAIN = ("dcod.stages.train_ranks", "dcod.stages.train_node")


def circles(root: Path, but: tuple[str, str] = ("", "")) -> list[str]:
    """Circles of files, lazy imports and those for types alone included; ``but`` is an import that does not count."""
    graph: dict[str, set[str]] = {}
    for file in files(root, PACKAGES):
        name = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {item.module for item in imports(root, file) if item.top in PACKAGES} - {name}
        graph[name] -= {but[1]} if name == but[0] else set()
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


def test_no_files_import_each_other_in_a_circle(tmp_path: Path) -> None:
    assert circles(ROOT, AGAIN) == []
    assert circles(ROOT) != [], "the circle is cut: AGAIN can go"
    (tmp_path / "dcod").mkdir()
    (tmp_path / "dcod/a.py").write_text("def f():\n    from dcod import b\n")
    for back in ("def f():\n    from dcod import a\n", "COMMAND = [python, '-m', 'dcod.a']\n"):
        (tmp_path / "dcod/b.py").write_text(back)
        assert circles(tmp_path) != []
    (tmp_path / "dcod/b.py").write_text('"""dcod.a"""\n\nITSELF = "dcod.b"\n')
    assert circles(tmp_path) == []
