"""Figures of the last retrain in Prometheus' text format, and their way to a Pushgateway."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING

from dcod.errors import AwayError, UserError, holds_secret, one_line

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

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
    from prometheus_client import generate_latest

    return generate_latest(_registry(figures, schedule)).decode()


def push(figures: Mapping[str, float], gateway: str, schedule: str) -> None:
    """Replaces the schedule's group on a Pushgateway.

    Raises:
        AwayError: it does not take it.
        UserError: its address holds a password, which is not sent, and would stand in messages.
    """
    if holds_secret(gateway):
        raise UserError(
            f"--push {gateway}: no password or key belongs in it; such as http://pushgateway.monitoring:9091"
        )
    from prometheus_client import push_to_gateway

    registry, group = _registry(figures, schedule), {"schedule": schedule}
    try:
        push_to_gateway(gateway, "dcod", registry, group, timeout=10)
    except (OSError, ValueError, HTTPException) as error:
        raise AwayError(
            f"--push {gateway}: {one_line(error) or type(error).__name__}; such as http://pushgateway.monitoring:9091"
        ) from None


def _registry(figures: Mapping[str, float], schedule: str) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()
    for key, value in sorted(figures.items()):
        text = _HELP.get(key, "A monitor of the newest decision; see docs/operations.md.")
        gauge = Gauge(f"{PREFIX}_{_NAME.sub('_', key)}", text, ["schedule"], registry=registry)
        gauge.labels(schedule).set(value)
    return registry
