"""The hub, asked once: `dcod check` has its answer in seconds where there is no network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 5.0  # seconds until the hub has answered


@contextmanager
def reached(name: str) -> Iterator[None]:
    """Asks the hub for a data set; where it does not answer, what follows takes it from the cache or fails at once.

    Without that, each request is tried six times, with a line each and half a minute of waiting.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    before = constants.HF_HUB_OFFLINE
    try:
        HfApi().dataset_info(name, timeout=PATIENCE)
    except HfHubHTTPError:  # it did: whoever loads the set says what is wrong
        pass
    except Exception:  # whatever a network does
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
