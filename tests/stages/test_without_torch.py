"""What does not compute with torch does without it: a pod that only keeps books starts in a moment, and is small."""

import subprocess
import sys

MODULES = (
    "dcod.stages.component",
    "dcod.stages.fetch",
    "dcod.stages.ingest",
    "dcod.stages.examine",
    "dcod.stages.join",
    "dcod.stages.teach",
    "dcod.stages.evaluate",
    "dcod.stages.gate",
    "dcod.stages.halve",
    "dcod.stages.choose",
    "dcod.stages.seeds",
    "dcod.stages.promote",
    "dcod.cli.command",
    "dcod.tracking.lineage",
    "dcod.tracking.export",
    "dcod.cluster.prometheus",
    "dcod.retrain.history",
    "dcod.reports.report",
)
SCRIPT = """
import importlib, sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("no torch here")

sys.meta_path.insert(0, Without())
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error)
"""


def without_torch(*modules: str) -> str:
    command = [sys.executable, "-c", SCRIPT, *modules]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_stages_and_commands_that_keep_books_load_no_torch() -> None:
    assert without_torch(*MODULES) == ""


def test_one_that_computes_is_noticed() -> None:
    assert without_torch("dcod.stages.train") == "dcod.stages.train no torch here\n"
