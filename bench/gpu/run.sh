#!/usr/bin/env bash
# Everything that wants a GPU, in at most eight minutes, on a host without a network: `bench/gpu/run.sh --out FOLDER`.
# `--device cpu --quick` rehearses it on a machine without a GPU. `make gpu-pack` gathers the wheels the host lacks.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
wheels=build/gpu-pack/wheels  # in a checkout
[ -d "$wheels" ] || wheels=../wheels  # in the pack
if [ -d "$wheels" ] && [ -z "${GPU_PACK_INSTALLED:-}" ]; then
  "$python" bench/gpu/wheels.py "$wheels"
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
    --target "$site" "$wheels"/*.whl
  export PYTHONPATH="$site:$PWD${PYTHONPATH:+:$PYTHONPATH}" GPU_PACK_INSTALLED=$site
else
  export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export CUBLAS_WORKSPACE_CONFIG=:4096:8  # else nothing is deterministic on a GPU
"$python" -m bench.gpu "$@"
