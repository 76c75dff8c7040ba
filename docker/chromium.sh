#!/usr/bin/env bash
# Chromium for the tests of the pages: what is here, else from the distribution's packages (as root).
set -euo pipefail

if command -v chromium >/dev/null; then
  exit 0
fi
if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "the tests of the pages need Chromium (chromium); install it, for example: apt-get install chromium" >&2
  exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium </dev/null
