"""The tracking store seen from outside: how long it is waited for, and one kind of error for all that goes wrong there.

A server may answer 500, garbage, half a body or nothing. mlflow then lets out what requests, protobuf and SQLAlchemy
raise, so every call of :mod:`dcod.tracking` and :mod:`dcod.tracking.registry` goes through :func:`asked`.
"""

from __future__ import annotations

import functools
import getpass
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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

_log = logging.getLogger(__name__)
_PAUSE_S = 60.0  # before a store that was away is asked for what can wait
_WAITS = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR")
_LONG = ("log_artifact", "log_model_artifact", "download_artifact")  # may carry any size, so may take any time


class StoreError(AwayError):
    """The tracking store refuses, does not answer, or answers nonsense.

    Attributes:
        code: MLflow's own, such as RESOURCE_DOES_NOT_EXIST; empty where the answer had none.
    """

    def __init__(self, message: object, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def user(tag: str) -> dict[str, str]:
    """Who we are to the store, as a tag: who logs in there, else the system's user; a container's may have no name."""
    try:
        return {tag: os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()}
    except (KeyError, OSError):
        return {}


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
    remote = uri.startswith(("http://", "https://"))

    class Asking:
        def __getattr__(self, name: str) -> Any:
            attribute = getattr(client, name)
            if not callable(attribute):
                return attribute
            bounded = remote and not name.startswith(_LONG)

            @functools.wraps(attribute)
            def call(*args: Any, **named: Any) -> Any:
                with asked(uri, name):
                    return _within(_limit(), attribute, args, named) if bounded else attribute(*args, **named)

            return call

    return Asking()


def _limit() -> float:
    """Seconds that a call may take with all of its tries, and as many again."""
    tries, wait, factor = (float(os.environ.get(name) or ENVIRONMENT[name]) for name in _WAITS)
    return 2 * (tries + 1) * wait + factor * 2**tries


def _within(seconds: float, function: Any, args: Any, named: Any) -> Any:
    """Calls a function, and leaves it alone when it takes too long.

    A time-out of requests begins anew with every byte, so a server that sends one now and then is never given up.
    """
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.extend((function(*args, **named), None))
        except BaseException as error:
            outcome.extend((None, error))

    thread = threading.Thread(target=work, daemon=True)  # nobody waits for it at the end
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no whole answer within {seconds:.0f} s")
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


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


def pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """What a search finds, page by page.

    Args:
        ask: gives the page of a token, the first one of None.
    """
    token: str | None = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def quoted(value: str) -> str:
    """A value in a query of MLflow's, which knows no escape.

    Raises:
        UserError: it holds an apostrophe.
    """
    if "'" in value:
        raise UserError(f"{value!r}: an apostrophe is not allowed here")
    return f"'{value}'"


class Outbox:
    """Artifacts of a run on their way: while the store is away they are kept, and the stage goes on without it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._waiting: list[tuple[str, Callable[[], object], bool]] = []
        self._sending = threading.Lock()
        self._away_until = 0.0

    def send(self, name: str, send: Callable[[], object], *, needed: bool) -> None:
        """Sends an artifact, after those that wait.

        Args:
            name: of the artifact.
            send: sends it; raises AwayError where the store does not take it.
            needed: in the end it is sent, or the stage fails.
        """
        with self._sending:
            self._waiting.append((name, send, needed))
            if time.monotonic() < self._away_until:
                return
            try:
                while self._waiting:
                    self._waiting[0][1]()
                    del self._waiting[0]
            except AwayError as error:
                name = self._waiting[0][0]
                _log.warning("%s of run %s is held back: %s", name, self.run_id, one_line(error)[:200])
                self._away_until = time.monotonic() + _PAUSE_S

    def close(self) -> None:
        """Sends all that waits; what is not needed may be lost, in one line.

        Raises:
            AwayError: what is needed cannot be sent.
        """
        with self._sending, ExitStack() as stack:
            while self._waiting:
                name, send, needed = self._waiting[0]
                try:
                    send()
                except AwayError as error:
                    if needed:
                        raise
                    _log.warning("%s of run %s is lost: %s", name, self.run_id, one_line(error)[:200])
                    stack.enter_context(hurried())
                del self._waiting[0]
