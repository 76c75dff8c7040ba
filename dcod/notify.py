"""A webhook: who is told how a run ended. Signed, so that the receiver can tell it is ours; repeated until it arrives.

A POST of one JSON object. Its headers:
  * ``X-Dcod-Event``: promoted, refused or failed;
  * ``X-Dcod-Delivery``: the same for every attempt at one message, so that none counts twice;
  * ``X-Dcod-Timestamp``: seconds since 1970; refuse what is too old;
  * ``X-Dcod-Signature``: ``sha256=`` and the HMAC-SHA256 of ``TIMESTAMP.BODY``, hexadecimal, keyed by
    ``$DCOD_WEBHOOK_SECRET``.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from dcod.errors import AwayError, UserError

SECRET = "DCOD_WEBHOOK_SECRET"
ATTEMPTS = 6  # with 1, 2, 4, … seconds between: about half a minute
_TIMEOUT_S = 10.0
_PASSING = (408, 425, 429)


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of ``X-Dcod-Signature``."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def secret() -> str:
    """The key of the signature.

    Raises:
        UserError: there is none; nothing is sent unsigned.
    """
    found = os.environ.get(SECRET, "")
    if not found:
        raise UserError(f"notify.url is set, but ${SECRET} is not: messages are signed with it")
    return found


def send(
    url: str, event: str, message: Mapping[str, Any], key: str, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Tells the webhook; tries again while it is away or busy (no answer, 5xx, 408, 425, 429).

    Raises:
        AwayError: it did not take the message in the end.
        UserError: it refuses it.
    """
    body = json.dumps({"event": event, **message}, sort_keys=True).encode()
    delivery = hashlib.sha256(body).hexdigest()[:32]
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(2.0 ** (attempt - 1))
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "dcod",
            "X-Dcod-Event": event,
            "X-Dcod-Delivery": delivery,
            "X-Dcod-Timestamp": timestamp,
            "X-Dcod-Signature": sign(key, timestamp, body),
        }
        request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 (http and https only)
        try:
            urllib.request.urlopen(request, timeout=_TIMEOUT_S).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in _PASSING:
                raise UserError(f"notify.url {url}: refused ({error.code}); mend the receiver or its secret") from None
            problem = str(error.code)
        except (OSError, http.client.HTTPException) as error:
            problem = str(error)
        else:
            return
    raise AwayError(f"notify.url {url}: did not take it in {ATTEMPTS} attempts ({problem})")
