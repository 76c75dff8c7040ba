"""Cron expressions: five fields as everyone writes them, six as Kubeflow takes them, words as people read them.

Read, explained and gone on with by cronsim. A day of the month and a day of the week mean either of them, but both
where one begins with a star, in Kubeflow's scheduler (robfig/cron 1.2) as in cronsim.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from itertools import islice

_SHORT = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}
_FIELDS = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, as many as a month has",
    "month": "1 to 12 or JAN to DEC",
    "day-of-week": "0 to 7 or SUN to SAT",
}
_NAMES = re.compile(r"\b(?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC|SUN|MON|TUE|WED|THU|FRI|SAT)\b")
_ONE = re.compile(r"\b(\w{1,9})-\1/\d{1,9}\b")  # cronsim takes 6-6/2 for 6/2, which goes on to the end; Kubeflow for 6


@dataclass(frozen=True)
class Cron:
    """A parsed expression.

    Attributes:
        text: its five fields.
        kubeflow: six, seconds first, with numbers for names and no 7 for Sunday.
        words: in English.
    """

    text: str
    kubeflow: str
    words: str

    def following(self, after: dt.datetime, count: int) -> list[dt.datetime]:
        """The next times, strictly later than ``after``, in its time zone."""
        from cronsim import CronSim

        return list(islice(CronSim(self.text, after), count))


def parse(text: str) -> Cron:
    """Reads five fields, or @hourly, @daily, @weekly, @monthly.

    Raises:
        UserError: what is wrong, in which field, and what would be right.
    """
    from cronsim import CronSim, CronSimError

    from dcod.errors import UserError

    parts = _ONE.sub(r"\1", _SHORT.get(text.strip().lower(), text).upper()).split()
    if len(parts) != 5:
        hint = "; leave the seconds out, dcod adds them" if len(parts) == 6 else ""
        raise UserError(
            f"cron {text!r}: {len(parts)} fields, expected 5: minute hour day-of-month month day-of-week, "
            f"such as '30 2 * * 1-5'{hint}"
        )
    written = dict(zip(_FIELDS, parts, strict=True))
    for name, part in written.items():
        if re.search("[LW#]", _NAMES.sub("", part)):
            raise UserError(f"cron {text!r}: {name} {part!r}: L, W and # are not known to Kubeflow; write the days out")
        if "," in part and "*" in part:
            raise UserError(f"cron {text!r}: {name} {part!r}: a star in a list makes no sense; leave the rest out")
    try:
        read = CronSim(" ".join(parts), dt.datetime(2028, 1, 1, tzinfo=dt.UTC))
        next(read)
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")
        raise UserError(
            f"cron {text!r}: {name} {written[name]!r}: expected {_FIELDS[name]}, such as * or */2, 5, 1-5, or a list"
        ) from None
    except StopIteration:
        raise UserError(f"cron {text!r}: never happens") from None
    week = {number % 7 for number in read.weekdays if isinstance(number, int)}  # Kubeflow knows Sunday as 0 alone
    sets = (read.minutes, read.hours, read.days, read.months, week)
    fields = [
        part if re.fullmatch(r"[\d*/,-]+", part) and not (name == "day-of-week" and "7" in part) else _numbers(allowed)
        for (name, part), allowed in zip(written.items(), sets, strict=True)
    ]
    return Cron(" ".join(parts), " ".join(["0", *fields]), read.explain())


def _numbers(allowed: set[int]) -> str:
    return ",".join(map(str, sorted(allowed)))
