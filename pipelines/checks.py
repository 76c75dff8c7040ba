"""What the checks before a run share: how each ends, and the Kubernetes API, where it can be asked from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dcod.cluster.kubernetes import Kube
    from dcod.config import Config


@dataclass(frozen=True)
class Check:
    """One check: ``ok``, ``failed``, ``warning`` or ``unchecked``, and a sentence that has the way out in it."""

    name: str
    state: Literal["ok", "failed", "warning", "unchecked"]
    text: str


class UncheckedError(Exception):
    """It cannot be looked at from here."""


def kube(config: Config, namespace: str = "") -> Kube:
    """The Kubernetes API.

    Args:
        config: its cluster.
        namespace: other than that of the runs.

    Raises:
        UncheckedError: there is no way to it from here.
    """
    from dcod.cluster.kubernetes import Kube
    from dcod.errors import UserError

    try:
        return Kube(namespace or config.cluster.namespace, patience_s=5)
    except UserError as error:
        raise UncheckedError(str(error)) from None
