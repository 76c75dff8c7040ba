#!/usr/bin/env bash
# Builds the images with Docker's buildx: dcod, dcod:…-gpu, dcod:…-vllm, dcod-mlflow.
#     docker/build.sh [REGISTRY/] [BUILDX-OPTION…]
# PLATFORMS (linux/amd64) also takes linux/arm64 for `cpu` and `mlflow`, whose locks hold the hashes of all platforms.
set -euo pipefail
cd "$(dirname "$0")/.."

registry=
if [[ $# -gt 0 && $1 != -* ]]; then
  registry=$1
  shift
fi
version=$(sed -nE 's/^__version__ = "(.*)"/\1/p' dcod/__init__.py)
for image in ${IMAGES:-cpu gpu vllm mlflow}; do
  case $image in
  cpu) name=dcod:$version ;;
  mlflow) name=dcod-mlflow:$version ;;
  *) name=dcod:$version-$image ;;
  esac
  platforms=${PLATFORMS:-linux/amd64}
  [[ $image == gpu || $image == vllm ]] && platforms=linux/amd64
  docker buildx build --file docker/Dockerfile --target "$image" --platform "$platforms" \
    --build-arg VERSION="$version" --build-arg REVISION="$(git rev-parse HEAD)" --tag "$registry$name" "$@" .
done
