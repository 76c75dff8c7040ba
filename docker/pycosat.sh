#!/usr/bin/env bash
# pycosat, which reasoning-gym imports, has no wheel. Without a C compiler a stand-in takes its place:
# everything works but the one generator that calls it, which then says so.
#     pycosat.sh PIP [OPTIONS] REQUIREMENT
set -euo pipefail

if "${@:1:$#-1}" install --quiet --no-deps "${@: -1}" 2>/dev/null; then
  exit 0
fi
echo "no C compiler here: a stand-in for pycosat, which only logic puzzles of reasoning-gym use"
python=$(dirname "$1")/python
cat >"$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pycosat.py" <<'EOF'
"""Stands in for pycosat, which was not built: there was no C compiler."""


def __getattr__(name):
    raise ImportError("pycosat was not built: install a C compiler, then `make clean setup`")
EOF
