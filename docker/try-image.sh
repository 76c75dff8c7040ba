#!/usr/bin/env bash
# Builds the cpu image without a Docker daemon and runs two stages in it, as the image's own user. As root, on Debian,
# with buildah and debootstrap (apt-get install buildah debootstrap): about 4 minutes and 12 GB of scratch space.
#     docker/try-image.sh STUDENT [SCRATCH]
# STUDENT is a model folder. Where the base image cannot be pulled, one is made from Debian's packages, which is not the
# one of docker/Dockerfile: the build is the same, the base is not. PIP_CONF, if set, is the pip configuration to use.
set -euo pipefail
cd "$(dirname "$0")/.."

student=$(realpath "$1")
scratch=$(realpath -m "${2:-build/image}")
base=docker.io/library/python:3.11-slim-bookworm
image=dcod:try
export BUILDAH_ISOLATION=chroot
mkdir -p "$scratch"
driver=${STORAGE_DRIVER:-overlay} # vfs where overlay cannot be mounted; slower, and three times the space
run() { buildah --root "$scratch/store" --runroot "$scratch/run" --storage-driver "$driver" "$@"; }

if ! run inspect --type image "$base" >/dev/null 2>&1 && ! run pull --quiet "$base" 2>/dev/null; then
  echo "$base cannot be pulled: a base from Debian's packages"
  [[ -e $scratch/rootfs/usr/bin/python3 ]] || debootstrap --variant=minbase \
    --include=ca-certificates,python3,python3-dev,python3-venv,python3-pip,python-is-python3 \
    bookworm "$scratch/rootfs" >"$scratch/debootstrap.log"
  container=$(run from scratch)
  run add --quiet "$container" "$scratch/rootfs" /
  run config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  run commit --quiet "$container" "$base"
  run rm "$container" >/dev/null
fi

# The CPU build of torch as this machine's pip finds it, behind an index of one package.
torch=$(grep '^torch==' docker/cpu.lock)
mkdir -p "$scratch/index/torch"
python3 -m pip download --quiet --no-deps --dest "$scratch/index/torch" "$torch"
(cd "$scratch/index/torch" && printf '<a href="%s">%s</a>\n' $(for file in *.whl; do echo "$file" "$file"; done) >index.html)

arguments=(--volume "$scratch/index:/index:ro" --build-arg TORCH_CPU_INDEX=file:///index)
arguments+=(--volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro)
conf=${PIP_CONF:-/etc/pip.conf}
[[ -e $conf ]] && arguments+=(--volume "$conf:/etc/pip.conf:ro")
version=$(sed -nE 's/^__version__ = "(.*)"/\1/p' dcod/__init__.py)
time run build --quiet --pull=never --format docker --file docker/Dockerfile --target cpu "${arguments[@]}" \
  --build-arg VERSION="$version" --build-arg REVISION="$(git rev-parse HEAD)" --tag "$image" .

container=$(run from --pull-never "localhost/$image")
trap 'run rm "$container" >/dev/null' EXIT
rm -rf "$scratch/work" && mkdir "$scratch/work" && chmod 777 "$scratch/work"
inside() {
  run run --user 10001:10001 --volume "$scratch/work:/scratch:rw" --volume "$student:/student:ro" "$container" -- "$@"
}
[[ $(inside dcod --version) == "dcod $version" ]]
[[ $(inside id -u) == 10001 ]]
if inside touch /opt/dcod/x 2>/dev/null || inside sh -c 'command -v gcc' >/dev/null; then
  echo "the image's own user can write to it, or it carries a compiler" >&2
  exit 1
fi
inside dcod ingest --no-track --student /student --out /scratch/traces \
  --traces 'reasoning-gym://chain_sum?problems=20&seed=1'
inside dcod score --no-track --student /student --traces /scratch/traces --out /scratch/scores
inside dcod compile --out /scratch/distill.yaml
run images "localhost/$image"
du -sh "$scratch/work"
