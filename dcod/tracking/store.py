"""The tracking store seen from outside: how long it is waited for, and one kind of error for all that goes wrong there.

A server may answer 500, garbage, half a body or nothing. mlflow then lets out what requests, protobuf and SQLAlchemy
raise, so every call of :mod:`dcod.tracking` and :mod:`dcod.tracking.registry` goes through :func:`asked`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dcod.errors import AwayError, UserError, one_line

# Set before mlflow is imported; what the user has set wins. Six retries back off for about two minutes in all,
# longer than a restart of the server takes; one that hangs is given up after six. A pause that a server asks for is not
# kept: it may be of years. A redirect would carry what is recorded to another host.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "6",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class StoreError(AwayError):
    """The tracking store refuses, does not answer, or answers nonsense.

    Attributes:
        code: MLflow's own, such as RESOURCE_DOES_NOT_EXIST; empty where the answer had none.
    """

    def __init__(self, message: object, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def asked(uri: str, what: str) -> Iterator[None]:
    """What goes wrong between us and the store, as one kind of error in one line.

    Args:
        uri: of the store.
        what: the name of the call.

    Raises:
        StoreError: whatever it was.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        code = str(getattr(error, "error_code", ""))
        reason = one_line(error) or type(error).__name__
        reason = reason.rpartition("(Caused by ")[2] if "(Caused by " in reason else reason
        way = ""
        if re.search(r"error code 40[13]\b", reason):
            way = "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        elif code in ("", "INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "BAD_REQUEST"):
            remote = uri.startswith(("http://", "https://"))
            way = "; check the address and that the server runs" if remote else "; set another tracking.uri"
        raise StoreError(f"tracking.uri {uri}: cannot be used ({reason[:200]}; {what}){way}", code) from error


def through(client: Any, uri: str) -> Any:
    """A client all of whose calls go through :func:`asked`."""

    class Asking:
        def __getattr__(self, name: str) -> Any:
            found = getattr(client, name)
            if not callable(found):
                return found

            @functools.wraps(found)
            def call(*args: Any, **named: Any) -> Any:
                with asked(uri, name):
                    return found(*args, **named)

            return call

    return Asking()


@contextmanager
def hurried() -> Iterator[None]:
    """Calls that are not worth waiting for: one more try, ten seconds each. mlflow reads these anew at every call."""
    few = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    before = {name: os.environ.get(name) for name in few}
    os.environ.update(few)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def quoted(value: str) -> str:
    """A value in a query of MLflow's, which knows no escape.

    Raises:
        UserError: it holds an apostrophe.
    """
    if "'" in value:
        raise UserError(f"{value!r}: an apostrophe is not allowed here")
    return f"'{value}'"
