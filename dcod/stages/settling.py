"""The configuration of a pipeline run: its inputs merged into it, and whether it can run where this runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dcod.check import servers
from dcod.config import Config, parse_config
from dcod.config.inputs import INPUTS, merged, values_of
from dcod.config.reach import for_cluster, moved
from dcod.errors import UserError


def settled(text: str, inputs: Mapping[str, Any], compiled: str) -> Config:
    """The configuration that all tasks of a run take.

    Args:
        text: the configuration, JSON or YAML.
        inputs: by their names.
        compiled: see :func:`dcod.config.inputs.merged`.

    Raises:
        UserError: it cannot be; in a pod also, it names what no pod reaches, or what it needs does not answer.
    """
    config = merged_there(text, inputs, compiled)
    if not _in_pod():
        return config
    config = for_cluster(config)
    wrong = []
    for ask in (servers.tracking, servers.bucket, servers.volume, servers.traces):
        try:
            ask(config)
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        raise UserError("; ".join(wrong))
    return config


def merged_there(text: str, inputs: Mapping[str, Any], compiled: str) -> Config:
    """Merges the inputs of a run into its configuration; in a pod it names the cluster's servers, not local ones."""
    config = merged(text, inputs, compiled)
    return moved(config) if _in_pod() else config


def roughly(text: str) -> Config:
    """The configuration without its inputs, where they cannot be merged: whom to tell; the default of a broken one."""
    try:
        return merged_there(text, {}, "")
    except UserError:
        return Config()


def has_store(config: Config) -> bool:
    """Whether runs can be recorded: a pod's own file would be lost with it."""
    return config.tracking.uri.startswith("http") or not _in_pod()


def changed(text: str, config: Config) -> str:
    """What the inputs changed, in words."""
    own, now = values_of(parse_config(text)), values_of(config)
    return ", ".join(f"{each.key} {now[each.name]}" for each in INPUTS if now[each.name] != own[each.name])


def _in_pod() -> bool:
    """Whether this is a task of a cluster; not `dcod run` in somebody's own pod."""
    return "KFP_POD_NAME" in os.environ
