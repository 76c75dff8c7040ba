"""`python -m bench.sweep`: every causal architecture that transformers lists, as a tiny random model (make sweep).

Each type is built small, in one process a processor, scored, trained for a step, saved and loaded, and generated with;
dcod's numbers are held against the model's own. Writes bench/results/sweep.json, a row a type, and the table of
docs/students.md from it. Names of types: those alone. `--table`: the table alone.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

import transformers

from bench.sweep import build, table, trials


def main(words: list[str]) -> int:
    """Runs the sweep; 1 where a number was wrong."""
    kinds = [word for word in words if not word.startswith("-")] or build.types()
    golden = table.read()
    rows = golden["types"] if golden.get("transformers") == transformers.__version__ else {}
    if "--table" not in words:
        with ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn")) as pool:
            for kind, seconds, row in pool.map(trials.timed, kinds):
                print(f"{kind:<24} {seconds:5.1f} s  {json.dumps(row)}", flush=True)
                rows[kind] = row
                table.write({kind: rows[kind] for kind in build.types() if kind in rows})
    table.into_docs()
    wrong = [kind for kind, row in rows.items() if row["result"] == "wrong"]
    print(f"{len(rows)} types; wrong: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
