"""The one exception that means "the user can fix this".

The command line prints it as a single line and exits with code 2. Library code raises it (or a plain
``ValueError``) for anything a user can mend; ``assert`` is for invariants of ours.
"""

from __future__ import annotations

import signal

from dcod.addresses import hidden


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
