#!/usr/bin/env bash
# Fixes what the images and the overlays are made of to digests: a tag moves, a digest does not. Run it with Docker's buildx
# and a way to the registries, read the difference, commit it. Run again it asks for the tags anew.
#     docker/pin.sh
set -euo pipefail
cd "$(dirname "$0")/.."

digest() { # the digest of an image's index, so that every platform has its own below it
  local found
  found=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1")
  [[ $found =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "$1: no digest, but: $found" >&2; exit 1; }
  echo "$found"
}

base=$(sed -nE 's/^ARG PYTHON_IMAGE=([^@]*).*/\1/p' docker/Dockerfile)
pin=$(digest "$base")
sed -i -E "s#^(ARG PYTHON_IMAGE=).*#\\1$base@$pin#" docker/Dockerfile
echo "$base@$pin"

# In an overlay a name has its tag in a comment, and its digest where kustomize reads it. Our own images have none yet.
for overlay in k8s/overlays/*/kustomization.yaml; do
  while read -r name tag; do
    [[ $name == docker.io/* ]] || continue
    pin=$(digest "$name:$tag")
    sed -i -E "\\#newName: $name\$#{n;s#^(\s*)(newTag|digest):.*#\\1digest: $pin  \# $tag#}" "$overlay"
    echo "$overlay: $name:$tag@$pin"
  done < <(sed -nE '/newName:/{s/.*newName: *//;N;s/\n *newTag: *"?([^"]*)"?/ \1/;s/\n *digest: [^#]*# */ /;p}' "$overlay")
done
