"""Figures of the last retrain in Prometheus' text format, and their way to a Pushgateway."""

from __future__ import annotations

import re
import urllib.parse
import urllib.request
from collections.abc import Mapping

from dcod.errors import AwayError

PREFIX = "dcod_retrain"
_NAME = re.compile(r"[^a-zA-Z0-9_]")
_HELP = {
    "last_run_timestamp_seconds": "When the newest run began.",
    "last_success_timestamp_seconds": "When the newest run began that came to its end.",
    "failed": "1 if the newest run failed or was killed.",
    "go": "1 if the newest decision was to train.",
    "warnings": "Monitors beyond their limits at the newest decision.",
    "champion_version": "Version of the champion in the registry.",
}


def exposition(figures: Mapping[str, float], schedule: str) -> str:
    """One gauge a figure, labelled with the schedule's name; the text ends with a line break, as the format wants."""
    value_of = schedule.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    lines = []
    for key, value in sorted(figures.items()):
        name = f"{PREFIX}_{_NAME.sub('_', key)}"
        lines.append(f"# HELP {name} {_HELP.get(key, 'A monitor of the newest decision; see docs/operations.md.')}")
        lines.append(f"# TYPE {name} gauge")
        lines.append(f'{name}{{schedule="{value_of}"}} {value!r}')
    return "\n".join(lines) + "\n"


def push(text: str, gateway: str, schedule: str) -> None:
    """Replaces the schedule's group on a Pushgateway.

    Raises:
        AwayError: it does not take it.
    """
    group = urllib.parse.quote(schedule, safe="")
    url = f"{gateway.rstrip('/')}/metrics/job/dcod/schedule/{group}"
    headers = {"Content-Type": "text/plain; version=0.0.4"}
    try:
        request = urllib.request.Request(url, text.encode(), headers, method="PUT")  # noqa: S310
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 (an address that the user gave)
    except (OSError, ValueError) as error:
        raise AwayError(f"--push {gateway}: {error}; such as http://pushgateway.monitoring:9091") from None
