"""The table of stages, and the modules that it names."""

import ast
from pathlib import Path

import pytest

import dcod
from dcod.config import Config
from dcod.errors import UserError
from dcod.stages.catalogue import STAGES
from dcod.stages.execute import execute

FOLDER = Path(dcod.__file__).parent / "stages"


def functions(name: str) -> dict[str, list[str]]:
    """What a module offers, with the arguments, from its text: it is not loaded."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    found = {
        node.name: [arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)]
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }
    assigned = (node.targets[0] for node in tree.body if isinstance(node, ast.Assign))
    return found | {name.id: ["config"] for name in assigned if isinstance(name, ast.Name)}


@pytest.mark.parametrize("name", STAGES)
def test_a_module_has_what_its_entry_says(name: str) -> None:
    stage, offered = STAGES[name], functions(name)
    assert offered["run"][:3] == ["config", "out", "log"]
    assert ("pipeline" in offered["run"]) == stage.of_pipeline
    assert ("settle" in offered) == stage.settles
    assert ("source_digests" in offered) == stage.sources
    assert ("narrow" in offered) == bool(stage.joined_by)
    assert stage.joined_by in ("", *STAGES)
    assert set(stage.sections) <= set(Config.model_fields)
    assert {*(stage.decides or ()), *stage.carried} <= set(offered["run"])
    assert STAGES[stage.verb].sections == stage.sections  # one verb is decided by one configuration


def test_the_table_is_whole() -> None:
    assert len(STAGES) == 18
    runs = {
        path.stem for path in FOLDER.glob("*.py") if functions(path.stem).get("run", [])[:3] == ["config", "out", "log"]
    }
    assert runs - {"train_ranks"} == set(STAGES)  # what `train` itself calls


def test_an_unknown_stage_is_one_line(tmp_path: Path) -> None:
    for name in ("trian", "shards", "execute"):
        with pytest.raises(UserError, match=rf"^stage '{name}': not known; known: fetch, teach, .*, decide$"):
            execute(name, Config(), tmp_path / "out", {})


def test_components_name_stages_that_there_are() -> None:
    asked = {
        str(node.args[0].value)
        for path in (FOLDER.parent.parent / "components").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "run" and isinstance(node.args[0], ast.Constant)
    }
    assert len(asked) >= 9
    assert asked <= set(STAGES)
