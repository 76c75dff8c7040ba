"""Cron expressions: five fields as everyone writes them, six as Kubeflow takes them, words as people read them."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_MONTH_WORDS = [
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
]  # fmt: skip
_DAY_WORDS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
# name, least, most, names that stand for numbers, the number of the first name
_FIELDS = (
    ("minute", 0, 59, (), 0),
    ("hour", 0, 23, (), 0),
    ("day of the month", 1, 31, (), 0),
    ("month", 1, 12, tuple(MONTHS), 1),
    ("day of the week", 0, 7, tuple(DAYS), 0),
)
_SHORT = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}
_FAR_DAYS = 366 * 8  # 29 February may be eight years away


@dataclass(frozen=True)
class Cron:
    """A parsed expression.

    Attributes:
        fields: the five fields, numbers only.
        sets: what each field allows; Sunday is 0.
    """

    fields: tuple[str, str, str, str, str]
    sets: tuple[frozenset[int], ...]

    @property
    def kubeflow(self) -> str:
        """With seconds first, and no 7 for Sunday."""
        return " ".join(("0", *self.fields))

    @property
    def words(self) -> str:
        """In English."""
        return f"{self._time()} {self._days()}"

    def following(self, after: dt.datetime, count: int) -> list[dt.datetime]:
        """The next times, strictly later than ``after``, in its time zone."""
        found: list[dt.datetime] = []
        first = after.replace(second=0, microsecond=0) + dt.timedelta(minutes=1)
        for offset in range(_FAR_DAYS):
            day = first + dt.timedelta(days=offset)
            if not self._on(day.date()):
                continue
            for hour in sorted(self.sets[1]):
                for minute in sorted(self.sets[0]):
                    at = day.replace(hour=hour, minute=minute)
                    if at >= first:
                        found.append(at)
                    if len(found) == count:
                        return found
        return found

    def _on(self, day: dt.date) -> bool:
        """Both day fields given means either of them, as in every cron."""
        if day.month not in self.sets[3]:
            return False
        in_month, in_week = day.day in self.sets[2], day.isoweekday() % 7 in self.sets[4]
        if self.fields[2] != "*" and self.fields[4] != "*":
            return in_month or in_week
        return in_month and in_week

    def _time(self) -> str:
        minute, hour = self.fields[:2]
        minutes, hours = sorted(self.sets[0]), sorted(self.sets[1])
        if len(minutes) * len(hours) <= 4:
            return "at " + _listed([f"{h:02d}:{m:02d}" for h in hours for m in minutes])
        within = "" if hour == "*" else f" of the hours {_listed([f'{h:02d}' for h in hours])}"
        if minute == "*":
            return f"every minute{within}"
        step = re.fullmatch(r"\*/(\d+)", minute)
        if step and 60 % int(step[1]) == 0:
            return f"every {step[1]} minutes{within}"
        past = f"at minute {_listed([str(m) for m in minutes])}"
        return f"{past} of every hour" if hour == "*" else f"{past}{within}"

    def _days(self) -> str:
        _, _, in_month, month, in_week = self.fields
        months = "" if month == "*" else " in " + _listed([_MONTH_WORDS[m - 1] for m in sorted(self.sets[3])])
        dates = "on day " + _listed([str(d) for d in sorted(self.sets[2])]) + " of the month"
        week = "on " + _listed([_DAY_WORDS[d] for d in sorted(self.sets[4], key=lambda d: (d + 6) % 7)])
        if in_month == "*" and in_week == "*":
            return f"every day{months}"
        if in_week == "*":
            return dates + months
        return (week if in_month == "*" else f"{dates}, and also {week}") + months


def parse(text: str) -> Cron:
    """Reads five fields, or @hourly, @daily, @weekly, @monthly.

    Raises:
        UserError: what is wrong, in which field, and what would be right.
    """
    from dcod.errors import UserError

    parts = _SHORT.get(text.strip().lower(), text).split()
    if len(parts) != 5:
        hint = "; leave the seconds out, dcod adds them" if len(parts) == 6 else ""
        raise UserError(
            f"cron {text!r}: {len(parts)} fields, expected 5: minute hour day-of-month month day-of-week, "
            f"such as '30 2 * * 1-5'{hint}"
        )
    written, sets = [], []
    for part, (name, least, most, names, first) in zip(parts, _FIELDS, strict=True):
        try:
            plain, allowed = _field(part, least, most, names, first)
        except ValueError as error:
            raise UserError(f"cron {text!r}: {name} {part!r}: {error}") from None
        written.append(plain)
        sets.append(allowed)
    if written[2].startswith("*/") and written[4] != "*":
        raise UserError(
            f"cron {text!r}: a step in the day of the month beside a day of the week means one thing in one cron and "
            "another in the next; write the days out"
        )
    cron = Cron(tuple(written), tuple(sets))  # type: ignore[arg-type]
    if not cron.following(dt.datetime(2028, 1, 1, tzinfo=dt.UTC), 1):
        raise UserError(f"cron {text!r}: never happens")
    return cron


def _field(part: str, least: int, most: int, names: tuple[str, ...], first: int) -> tuple[str, frozenset[int]]:
    """A field with numbers for names and 0 for Sunday, and what it allows."""
    allowed: set[int] = set()
    written: list[str] = []
    for item in part.upper().split(","):
        match = re.fullmatch(r"(\*|[A-Z0-9]+)(?:-([A-Z0-9]+))?(?:/(\d+))?", item)
        if not match:
            raise ValueError("expected *, a number, a range such as 1-5, a list, or a step such as */15")
        low, high, step = match.groups()
        if low == "*":
            if high:
                raise ValueError("a range from * makes no sense")
            begin, end = least, min(most, 6) if names == tuple(DAYS) else most
        else:
            begin = _number(low, least, most, names, first)
            end = _number(high, least, most, names, first) if high else (most if step else begin)
        if end < begin:
            raise ValueError(f"the range {low}-{high} goes backwards; write it as two")
        if step and not 1 <= int(step) <= most:
            raise ValueError(f"the step must be 1 to {most}")
        values = range(begin, end + 1, int(step or 1))
        allowed |= set(values)
        sunday_last = names == tuple(DAYS) and 7 in values
        if sunday_last:  # Kubeflow's cron knows Sunday as 0 only
            written.append(",".join(str(value % 7) for value in values))
        elif low == "*":
            written.append("*" + (f"/{step}" if step else ""))
        else:
            written.append(str(begin) + (f"-{end}" if high or step else "") + (f"/{step}" if step else ""))
    if names == tuple(DAYS):
        allowed = {value % 7 for value in allowed}
    return ",".join(written), frozenset(allowed)


def _number(text: str, least: int, most: int, names: tuple[str, ...], first: int) -> int:
    if text in names:
        return names.index(text) + first
    if not text.isdigit() or not least <= int(text) <= most:
        also = f" or {names[0]} to {names[-1]}" if names else ""
        raise ValueError(f"must be {least} to {most}{also}")
    return int(text)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
