#!/usr/bin/env bash
# run.sh PYTHON SECONDS: every fuzzer for so long; the outcome of each in last-run.log. Fails if one found something.
set -uo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
log="$here/last-run.log" failed=0
echo "# make fuzz, $2 s a target, $(date -u +%F)" >"$log"
for target in reader extraction grading templates configuration; do
  if "$1" -m tests.fuzz.targets "$target" "$2" >"/tmp/dcod-fuzz-$$.txt" 2>&1; then outcome=sound; else outcome=FOUND; failed=1; fi
  stats="$(grep -aE '^stat::(number_of_executed_units|average_exec_per_sec|new_units_added|slowest_unit_time_sec|peak_rss_mb)' \
    "/tmp/dcod-fuzz-$$.txt" | sed 's/stat:://; s/: */=/' | tr '\n' ' ')"
  cover="$(grep -aoE 'cov: [0-9]+ ft: [0-9]+' "/tmp/dcod-fuzz-$$.txt" | tail -1)"
  echo "$target: $outcome; $cover; $stats" | tee -a "$log"
  [ $outcome = sound ] || grep -aE -A20 'Uncaught Python exception|^==[0-9]+== (ERROR|libFuzzer)' "/tmp/dcod-fuzz-$$.txt" | sed "s|$PWD/||g" | tee -a "$log"
done
rm -f "/tmp/dcod-fuzz-$$.txt"
exit $failed
