#!/usr/bin/env bash
# PostgreSQL for the tests with real servers: what is here, else from the distribution's packages (as root).
set -euo pipefail

if command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
  exit 0
fi
if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "the tests with real servers need PostgreSQL (initdb); install it, for example: apt-get install postgresql" >&2
  exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends postgresql </dev/null
