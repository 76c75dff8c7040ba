"""What a user is told when something is wrong: one line that says the way out, without a password or a key.

:class:`UserError` means "the user can fix this": the command line prints it and exits with code 2. Library code raises
it (or a plain ``ValueError``) for anything a user can mend; ``assert`` is for invariants of ours.

Passwords and keys in addresses, in the environment, and what looks like a key are hidden by one function,
:func:`hidden`. Every error goes through it, and whatever is kept of an error or an address in MLflow. A configuration
would be kept as it is, so there they are refused.
"""

from __future__ import annotations

import os
import re
import signal

MASK = "***"
_LEAST = 8  # characters of a variable's value that is looked for in texts: shorter ones are words
# One slash is what a path makes of two. All bounded, and none looks ahead or back: time is linear in the text.
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})(:/{1,2})([^\s/?#]{1,512})@")
_RAW = re.compile(r"://[^\s/?#@:\[\]]{0,256}:([^\s@]{1,512})@")  # a password that holds a raw slash
_PORT = re.compile(r"\d{1,5}(?:[/?#]|$)")
_NAMED = re.compile(
    r"(^|[?&;#\s])((?:[\w.-]{0,64})(?:token|secret|password|passwd|passphrase|pwd|signature|credentials?|api[_-]?key"
    r"|access[_-]?key(?:[_-]?id)?))=([^\s&;#]{1,4096})",
    re.IGNORECASE,
)
_SHORT = re.compile(r"([?&])(key|sig|auth|jwt)=([^\s&;#]{1,4096})", re.IGNORECASE)
_KEYS = re.compile(
    r"\b(?:sk-[\w-]{20,400}|hf_[A-Za-z0-9]{20,100}|gh[pousr]_[A-Za-z0-9]{20,300}|github_pat_\w{20,300}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|xox[a-z]-[A-Za-z0-9-]{10,300}|glpat-[\w-]{20,300}|AIza[\w-]{30,60}"
    r"|eyJ[\w-]{8,999}\.eyJ[\w-]{8,999}\.[\w-]{0,999})"
)
_SENT = re.compile(r"\b(Bearer|Basic)(\s{1,4})[\w.~+/=-]{8,999}")
_VARIABLE = re.compile(r"(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY|WEBHOOK_URL)$")


class UserError(ValueError):
    """A mistake of the user. The message names the value, what is allowed, and the way out; never a password or key."""

    def __init__(self, message: object = "") -> None:
        super().__init__(hidden(str(message)))


class AwayError(UserError):
    """A service does not answer now; it may later."""


class PreemptedError(Exception):
    """Asked to stop (SIGTERM) in the middle of training; what was done is kept, and the same run goes on from there."""


class StoppedError(BaseException):
    """A signal asked this process to end: everything on the way out is closed and cleaned up.

    No Exception, so that nothing takes it for a failure of its own and goes on.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def one_line(error: object) -> str:
    """A message without line breaks, passwords and keys."""
    return hidden(" ".join(str(error).split()))


def hidden(text: str) -> str:
    """A text without passwords and keys: three stars stand for each.

    They are the user information of addresses, parameters such as ``token`` and ``X-Amz-Signature``, values of
    variables of the environment whose names say that they are secret, and what has the form of a well-known key.
    """
    for value in _secrets():
        text = text.replace(value, MASK)
    return _plain(text)


def holds_secret(text: str) -> bool:
    """Whether :func:`hidden` would change a text, whatever the environment holds."""
    return _plain(text) != text


def _plain(text: str) -> str:
    if "@" in text:
        text = _USER.sub(_user, text)
        text = _RAW.sub(lambda match: match[0] if _PORT.match(match[1]) else f"://{MASK}@", text)
    if "=" in text:
        text = _NAMED.sub(rf"\1\2={MASK}", text)
        text = _SHORT.sub(rf"\1\2={MASK}", text)
    return _SENT.sub(rf"\1\2{MASK}", _KEYS.sub(MASK, text))


def _user(match: re.Match[str]) -> str:
    """A name alone is no secret but on the web, where it may be a token."""
    secret = ":" in match[3] or match[1].lower() in ("http", "https")
    return f"{match[1]}{match[2]}{MASK}@" if secret else match[0]


def _secrets() -> list[str]:
    """Values of variables that are secret, the longest first: one may hold another."""
    secrets = {value for name, value in os.environ.items() if len(value) >= _LEAST and _VARIABLE.search(name.upper())}
    return sorted(secrets, key=len, reverse=True)
