"""Tells a web address how a run ended. A message is signed, so that its sender is certain, and sent again if need be.

A POST of one JSON object. Its headers:
  * ``X-Dcod-Event``: promoted, refused or failed;
  * ``X-Dcod-Delivery``: the same for every attempt at one message, so that none counts twice;
  * ``X-Dcod-Timestamp``: seconds since 1970; refuse what is too old;
  * ``X-Dcod-Signature``: ``sha256=`` and the HMAC-SHA256 of ``TIMESTAMP.BODY``, hexadecimal, keyed by
    ``$DCOD_WEBHOOK_SECRET``.

The address is in ``$DCOD_WEBHOOK_URL``: who knows it can write to it, so no configuration and no message holds it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from dcod.errors import AwayError, UserError
from dcod.storage import retries, web

ADDRESS = "DCOD_WEBHOOK_URL"
SECRET = "DCOD_WEBHOOK_SECRET"
ATTEMPTS = 6  # with 1, 2, 4, … seconds between: about half a minute
_TIMEOUT_S = 10.0
_MOST_BYTES = 2**20  # of an answer, which nobody reads


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of ``X-Dcod-Signature``."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def secret() -> str:
    """The key of the signature.

    Raises:
        UserError: there is none; nothing is sent unsigned.
    """
    key = os.environ.get(SECRET, "")
    if not key:
        raise UserError(f"notify.url is set, but ${SECRET} is not: messages are signed with it")
    return key


def address() -> str:
    """Where messages go.

    Raises:
        UserError: there is no address, or none that can be.
    """
    url = os.environ.get(ADDRESS, "")
    if not url.startswith(("http://", "https://")):
        what = "does not begin with http:// or https://" if url else "is not set"
        raise UserError(f"notify.url=environment, but ${ADDRESS} {what}: put the address of the webhook into it")
    return url


def send(
    url: str, event: str, message: Mapping[str, Any], key: str, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Tells the webhook; tries again while it is away or busy (no answer, or :func:`dcod.storage.retries.is_passing`).

    Raises:
        AwayError: it did not take the message in the end.
        UserError: it refuses it, or points to another place: a message is not carried there.
    """
    import httpx2

    body = json.dumps({"event": event, **message}, sort_keys=True).encode()
    delivery = hashlib.sha256(body).hexdigest()[:32]
    problem = ""
    with web.client(_TIMEOUT_S, _MOST_BYTES) as client:
        for _ in retries.Tries(ATTEMPTS, sleep=sleep):
            timestamp = str(int(time.time()))
            headers = {
                "Content-Type": "application/json",
                "X-Dcod-Event": event,
                "X-Dcod-Delivery": delivery,
                "X-Dcod-Timestamp": timestamp,
                "X-Dcod-Signature": sign(key, timestamp, body),
            }
            try:
                code = client.post(url, content=body, headers=headers).status_code
            except (web.AnswerError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
                raise UserError(f"notify.url, ${ADDRESS}: {web.reason(error)}") from None
            except (httpx2.HTTPError, OSError, ValueError) as error:
                problem = web.reason(error)
                continue
            if code < 300:
                return
            if not retries.is_passing(code):
                raise UserError(f"notify.url, ${ADDRESS}: refused ({code}); mend the receiver or its secret")
            problem = str(code)
    raise AwayError(f"notify.url, ${ADDRESS}: did not take it in {ATTEMPTS} attempts ({problem})")
