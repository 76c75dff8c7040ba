"""Who may import whom, read from the syntax trees, and the few other rules that hold for every file.

The rules are those of CONTRIBUTING.md. Each check runs on the repository and on planted files that break it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dcod.stages.imports import started

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"dcod": "dcod", "dcod_components": "components", "dcod_pipelines": "pipelines"}  # by the name of the package
PACKAGES = tuple(FOLDERS)
CODE = (*PACKAGES, "bench", "examples", "docs", "tests", "docker", ".ci")
MAX_LINES = 400
MAX_FUNCTION = 60  # lines of a function of ours, signature and docstring included
MAX_PARAMETERS = 7  # of a function of the gate

# Never at the top level of the library.
LAZY = {"mlflow", "boto3", "botocore", "vllm", "kfp", "kfp_kubernetes", "kubernetes", "kubeflow_trainer_api"}
# Each may import what stands before it. A room is a folder of dcod, or a file at its root.
ORDER = (
    *("errors", "progress", "config", "storage", "grading", "objective", "traces", "cluster", "benchmarks", "models"),
    *("tracking", "engines", "ingest", "train", "score", "teach", "evaluate", "promote", "reports", "retrain", "check"),
    *("stages", "api", "dcod_components", "dcod_pipelines", "cli", "__main__"),
)
OWNERS = {
    "mlflow": "dcod/tracking/",
    "boto3": "dcod/storage/",
    "botocore": "dcod/storage/",
    "vllm": "dcod/engines/vllm.py",
    "kubernetes": "dcod/cluster/",
    "kubeflow_trainer_api": "dcod/cluster/",
}
OF_THEIR_OWN = ("tests/killed_training.py", "tests/retrain/nights.py")  # processes that change what they like
MAY_ASK = (  # whether a name is a bucket's
    "dcod/storage/",
    *("dcod/traces/sources.py", "dcod/models/loading.py"),  # one of several kinds of names
    *("dcod/check/", "dcod_pipelines/preflight.py"),  # what is tried, and told, of a bucket is not that of a volume
    "dcod/stages/train_node.py",  # a shared volume is read where it is
)
PURE = "dcod/objective/"
PURE_MAY = {"torch", "numpy"}
TORCH = tuple(f"dcod/{room}/" for room in ("objective", "models", "engines", "train", "score"))  # load it, if need be


@dataclass(frozen=True)
class Import:
    """One imported module: where, whether when the file is loaded, and whether only for a type checker."""

    file: str
    line: int
    module: str
    on_load: bool
    for_types: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports(root: Path, file: Path) -> Iterator[Import]:
    """All imports of a file; `from a import b` is a.b where that is a module, and relative ones are made absolute.

    A string that is the name of a module of ours counts as well: who holds it starts the module in another process.
    """
    name = file.relative_to(root).as_posix()

    def is_module(module: str) -> bool:
        place = root / module.replace(".", "/")
        return place.is_dir() or place.with_suffix(".py").is_file()

    def resolve(node: ast.ImportFrom) -> Iterator[str]:
        package = file.relative_to(root).with_suffix("").parts
        start = ".".join(package[: len(package) - node.level]) if node.level else ""
        base = ".".join(part for part in (start, node.module) if part)
        for alias in node.names:
            yield inner if is_module(inner := f"{base}.{alias.name}") else base

    def walk(node: ast.AST, on_load: bool, for_types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            modules: list[str] = []
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue  # a docstring
            if isinstance(child, ast.Import):
                modules = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                modules = list(resolve(child))
            elif isinstance(child, ast.Call) and ast.unparse(child.func).endswith(("import_module", "__import__")):
                first = child.args[0] if child.args else None
                modules = [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
            elif isinstance(child, ast.Constant) and isinstance(child.value, str):
                modules = [module for module in started(child.value, "dcod") if is_module(module)]
            for module in modules:
                yield Import(name, child.lineno, module, on_load, for_types)
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            yield from walk(child, on_load and not inside, for_types or types)

    yield from walk(ast.parse(file.read_text(encoding="utf-8"), str(file)), True, False)


def room(module: str) -> str:
    """The room of a module of ours; of dcod itself, which holds its version alone, none."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] if top == "dcod" else top


def offence(item: Import) -> str | None:
    """Why an import is not allowed; None when it is."""
    file, top = item.file, item.top
    ours = top in PACKAGES
    standard = top in sys.stdlib_module_names
    if top in OWNERS and not file.startswith(OWNERS[top]):
        return f"only {OWNERS[top]} may import {top}"
    mine = room(file.removesuffix(".py").replace("/", "."))
    if ours and (other := room(item.module)) not in ("", "__init__"):
        if other not in ORDER:
            return f"{other} is no room of ORDER"
        if ORDER.index(other) > ORDER.index(mine):
            return f"{other} stands behind {mine} in ORDER"
    if file.startswith("dcod/"):
        if top in {"kfp", "kfp_kubernetes", *PACKAGES[1:]} and (mine != "cli" or item.on_load):
            return "the library does not know Kubeflow; dcod/cli may, inside functions"
        if top in LAZY and item.on_load and not item.for_types:
            return f"{top} is heavy: import it inside the function that needs it"
        if top == "torch" and item.on_load and not item.for_types and not file.startswith(TORCH):
            return f"only {', '.join(TORCH)} load torch; import it inside the function that needs it"
        if file.startswith(PURE) and not (standard or top in PURE_MAY or room(item.module) in ("config", "objective")):
            return "the method imports torch, numpy and dcod.config"
        return None
    if not (file.startswith(("dcod_components/", "dcod_pipelines/")) and (ours or not standard)):
        return None
    if file.startswith("dcod_components/") and top == "dcod" and room(item.module) != "stages":
        return "a component makes one call into dcod.stages"
    allowed = {"kfp", "dcod_components"} if mine == "dcod_components" else {"kfp", "kfp_kubernetes", *PACKAGES[1:]}
    if item.on_load and not item.for_types and top not in allowed:
        return f"the top level imports the standard library and {', '.join(sorted(allowed))}"
    return None


def files(root: Path, folders: tuple[str, ...]) -> list[Path]:
    return sorted(path for folder in folders for path in (root / folder).rglob("*.py"))


def import_offences(root: Path) -> list[str]:
    found = (item for file in files(root, PACKAGES) for item in imports(root, file))
    return [f"{i.file}:{i.line}: import of {i.module}: {reason}" for i in found if (reason := offence(i))]


def line_offences(root: Path) -> list[str]:
    counts = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files(root, CODE)}
    return [f"{file.relative_to(root)}: {count} lines" for file, count in counts.items() if count > MAX_LINES]


def function_offences(root: Path) -> list[str]:
    """Functions that nobody reads at once; those of tests may be longer."""
    return [
        f"{file.relative_to(root)}:{node.lineno}: {node.name} has {length} lines"
        for file in files(root, PACKAGES)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION
    ]


def parameter_offences(root: Path) -> list[str]:
    """Functions of the gate that take more than a reader keeps in mind: objects go down there, not their parts."""
    return [
        f"{file.relative_to(root)}:{node.lineno}: {node.name} has {count} parameters"
        for file in files(root, ("dcod/promote",))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (count := sum(isinstance(part, ast.arg) for part in ast.walk(node.args))) > MAX_PARAMETERS
    ]


def unsafe_offences(root: Path) -> list[str]:
    """Ways in which a model folder could run code."""
    found = []
    for file in files(root, (*PACKAGES, "bench", "examples")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            trusting = isinstance(node, ast.keyword) and node.arg == "trust_remote_code"
            if trusting and not (isinstance(node.value, ast.Constant) and node.value.value is False):
                found.append(f"{file.relative_to(root)}:{node.value.lineno}: trust_remote_code")
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.save"):
                found.append(f"{file.relative_to(root)}:{node.lineno}: {ast.unparse(node)}")
            names = {name.name for name in node.names} if isinstance(node, ast.Import | ast.ImportFrom) else set()
            of_joblib = getattr(node, "module", None) == "joblib"
            if "joblib" in names or (of_joblib and names != {"cpu_count"}):  # whose load() reads pickles
                found.append(f"{file.relative_to(root)}:{node.lineno}: joblib")
        for item in imports(root, file):
            if item.top in {"pickle", "cloudpickle", "dill", "shelve", "marshal"}:
                found.append(f"{item.file}:{item.line}: {item.module}")
    return found


def name_offences(root: Path) -> list[str]:
    """Imports by the name of a folder, which an installed dcod does not have, and a checkout would load twice."""
    bare = {folder: package for package, folder in FOLDERS.items() if package != folder}
    found = (item for file in files(root, CODE) for item in imports(root, file) if item.top in bare)
    return [f"{item.file}:{item.line}: {item.top} is imported as {bare[item.top]}" for item in found]


def package_offences(root: Path) -> list[str]:
    """docker/ and k8s/ hold no package: setuptools and pytest must not take them for one."""
    return [str(path.relative_to(root)) for top in ("docker", "k8s") for path in (root / top).rglob("__init__.py")]


def door_offences(root: Path) -> list[str]:
    """A package's ``__init__`` says what lives there and names it; it holds no code."""
    found = []
    for path in files(root, ("dcod",)):
        if path.name != "__init__.py" or path.parent == root / "dcod":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        code = [
            node
            for node in tree.body[1:]
            if not isinstance(node, ast.ImportFrom)
            and not (isinstance(node, ast.Assign) and "__all__" in ast.unparse(node))
        ]
        if code or not ast.get_docstring(tree):
            found.append(str(path.relative_to(root)))
    return found


def patching_offences(root: Path) -> list[str]:
    """A test that sets a name of one of our modules by hand leaves it so for all tests after it in its process."""
    found = []
    for file in files(root, ("tests",)):
        if file.relative_to(root).as_posix() in OF_THEIR_OWN:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        modules = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
            if (isinstance(node, ast.Import) or (node.module or "").partition(".")[0] in (*PACKAGES, "bench"))
        }
        found += [
            f"{file.relative_to(root)}:{node.lineno}: {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) in modules
        ]
    return found


def flattening_offences(root: Path) -> list[str]:
    """Texts of others made one line by hand: :func:`dcod.errors.one_line` hides passwords and keys as well."""
    return [
        f"{file.relative_to(root)}:{node.lineno}: {ast.unparse(node)}: call one_line of dcod.errors"
        for file in files(root, (*PACKAGES, "bench", "examples"))
        if file != root / "dcod/errors.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node).startswith("' '.join(str(")
    ]


def bucket_offences(root: Path) -> list[str]:
    """Code that goes another way for a bucket: storage hides it behind ``Parts``, ``fetch``, ``lease``, ``entries``."""
    names = {file: file.relative_to(root).as_posix() for file in files(root, PACKAGES)}
    asking = (file for file in names if "is_s3" in file.read_text(encoding="utf-8"))
    return [f"{names[file]}: is_s3" for file in asking if not names[file].startswith(MAY_ASK)]


CHECKS: dict[Callable[[Path], list[str]], dict[str, str]] = {
    import_offences: {
        "dcod/storage/planted.py": "import kfp\n",
        "dcod/objective/losses.py": "import torch\nfrom dcod import storage\n",
        "dcod/objective/corrections.py": "def f():\n    import transformers\n",
        "dcod/tracking/runs.py": "import mlflow\n",
        "dcod/stages/planted.py": "def f():\n    from mlflow import MlflowClient\n",
        "dcod/engines/transformers.py": "def f():\n    import vllm\n",
        "dcod/evaluate/statistics.py": "from ..stages import train\n",
        "dcod/config/schema.py": "from dcod.tracking import Tracker\n",
        "dcod/traces/schema.py": "import importlib\n\nboto = importlib.import_module('boto3')\n",
        "dcod/traces/turns.py": "def f():\n    from dcod.ingest import examine\n",
        "dcod/ingest/examine.py": "import torch\n",
        "dcod/tracking/cards.py": "from dcod.reports import model_card\n",
        "dcod/errors.py": "from dcod.helpers import cut\n",
        "dcod/cluster/planted.py": "ARGS = ['torchrun', '--module', 'dcod.stages.train']\n",
        "dcod/grading/planted.py": "def f():\n    run(f'{python} -m dcod.stages.train --fast')\n",
        "dcod/cli/cluster.py": "from dcod_pipelines import distill\n",
        "dcod_components/planted.py": "from dcod import storage\n",
        "dcod_components/train.py": "def f():\n    from dcod.tracking import Tracker\n",
        "dcod_components/score.py": "def f():\n    from dcod_pipelines import distill\n",
        "dcod_pipelines/planted.py": "import yaml\n",
    },
    door_offences: {
        "dcod/promote/__init__.py": '"""The gate."""\n\nWORDS = 3\n',
        "dcod/retrain/__init__.py": "from dcod.retrain.decide import decide\n",
    },
    line_offences: {"tests/planted.py": "x = 1\n" * (MAX_LINES + 1)},
    function_offences: {
        "dcod/planted.py": "def f():\n" + "    x = 1\n" * MAX_FUNCTION,
        "dcod_pipelines/planted.py": "class C:\n    async def f():\n" + "        x = 1\n" * MAX_FUNCTION,
    },
    parameter_offences: {
        "dcod/promote/planted.py": "def f(a, b, c, d, /, e, *rest, g, **more):\n    pass\n",
        "dcod/promote/other.py": "class C:\n    async def f(self, a, b, c, d, e, f, g):\n        pass\n",
    },
    unsafe_offences: {
        "dcod/planted.py": "import pickle\n",
        "dcod/other.py": "import torch\n\ntorch.load('x')\n",
        "bench/planted.py": "load(trust_remote_code=True)\n",
        "dcod_components/planted.py": "load(trust_remote_code=trust)\n",
    },
    patching_offences: {
        "tests/fuzz/targets.py": "from dcod.grading import equality\n\nequality.ask = None\n",
        "tests/planted.py": "import time\n\n\ndef f():\n    time.sleep = print\n",
    },
    name_offences: {
        "dcod_pipelines/planted.py": "from components import train\n",
        "tests/planted.py": "def f():\n    import pipelines.local\n",
    },
    flattening_offences: {
        "dcod/planted.py": "def f(e):\n    return ' '.join(str(e).split())\n",
        "dcod_pipelines/planted.py": "def f(e):\n    return f\"refused ({' '.join(str(e.body or e).split())[:9]})\"\n",
        "bench/planted.py": "def f(e):\n    return \" \".join(str(e).split()) or 'nothing'\n",
    },
    bucket_offences: {"dcod/teach/planted.py": "from dcod.storage import is_s3\n"},
    package_offences: {"docker/__init__.py": "", "k8s/base/__init__.py": ""},
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_repository_keeps_the_rule(check: Callable[[Path], list[str]]) -> None:
    assert check(ROOT) == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_planted_violation_is_caught(check: Callable[[Path], list[str]], tmp_path: Path) -> None:
    stubs = ("dcod/tracking/runs.py", "dcod/stages/train.py", "dcod/storage/__init__.py", "dcod/reports/model_card.py")
    for stub in (*stubs, "dcod/ingest/examine.py", "dcod/helpers.py", "dcod_pipelines/distill.py"):
        (tmp_path / stub).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / stub).write_text("" if not stub.endswith("__init__.py") else '"""A door."""\n')
    assert check(tmp_path) == []
    for name, text in CHECKS[check].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    caught = {line.partition(":")[0] for line in check(tmp_path)}
    assert caught == set(CHECKS[check])


def test_allowed_imports_are_not_caught(tmp_path: Path) -> None:
    allowed = {
        "dcod/cli/cluster.py": "def compile():\n    from kfp import compiler\n    from dcod_pipelines import distill\n",
        "dcod/tracking/runs.py": "if typing.TYPE_CHECKING:\n    from mlflow import MlflowClient\n",
        "dcod/storage/s3.py": "from dcod.errors import UserError\n\n\ndef f():\n    import boto3\n",
        "dcod/objective/losses.py": "import torch\n\nfrom dcod.config import LossConfig\n",
        "dcod/models/batches.py": "import math\n\nimport torch\n\nfrom dcod.objective.corrections import StepScores\n",
        "dcod_components/train.py": "from kfp import dsl\n\n\ndef f():\n    from dcod.stages.component import run\n",
        "dcod_pipelines/distill.py": "from kfp import dsl, kubernetes\n\nfrom dcod_components.train import train\n",
        "dcod/objective/corrections.py": "",
        "dcod/config/__init__.py": "",
        "dcod/stages/component.py": "",
        "dcod/errors.py": "",
    }
    for name, text in allowed.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert import_offences(tmp_path) == []


def test_discovery_found_the_repository() -> None:
    seen = files(ROOT, PACKAGES)
    assert len(seen) >= 50
    for package, least in (("dcod", 35), ("dcod_components", 8), ("dcod_pipelines", 4)):
        assert (ROOT / package).resolve() == ROOT / FOLDERS[package]
        assert sum(path.is_relative_to(ROOT / package) for path in seen) >= least
    rooms = {path.relative_to(ROOT).parts[1].removesuffix(".py") for path in seen if path.is_relative_to(ROOT / "dcod")}
    assert rooms == {*ORDER, "__init__"} - {*PACKAGES}
    found = [item for file in seen for item in imports(ROOT, file)]
    assert len(found) >= 300
    for top in OWNERS:
        assert any(item.top == top for item in found), top
