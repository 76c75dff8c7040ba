"""Cron: what is read, how Kubeflow gets it, what it is in words, and when it happens."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcod.errors import UserError
from dcod_pipelines.cron import parse

NOON = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)  # a Tuesday


@pytest.mark.parametrize(
    ("text", "kubeflow", "words", "next_time"),
    [
        ("30 2 * * *", "0 30 2 * * *", "At 02:30 every day", "2026-11-25 02:30"),
        ("*/15 * * * *", "0 */15 * * * *", "Every 15th minute of every hour", "2026-11-24 12:15"),
        ("0 9 * * MON,wed", "0 0 9 * * 1,3", "At 09:00 on Monday and Wednesday", "2026-11-25 09:00"),
        ("0 4 * * 7", "0 0 4 * * 0", "At 04:00 on Sunday", "2026-11-29 04:00"),
        ("0 4 * * 6-7", "0 0 4 * * 0,6", "At 04:00 on Saturday and Sunday", "2026-11-28 04:00"),
        ("0 0 1 JAN,JUL *", "0 0 0 1 1,7 *", "At 00:00 on the first day of January and July", "2027-01-01 00:00"),
        ("0 6 1 * 5", "0 0 6 1 * 5", "At 06:00 on the first day of month and on Friday", "2026-11-27 06:00"),
        ("0 0 29 2 *", "0 0 0 29 2 *", "At 00:00 on February 29", "2028-02-29 00:00"),
        ("@weekly", "0 0 0 * * 0", "At 00:00 on Sunday", "2026-11-29 00:00"),
        ("10,50 * * * *", "0 10,50 * * * *", "At minutes 10 and 50 of every hour", "2026-11-24 12:10"),
        # Where a day field begins with a star both must match, in Kubeflow's scheduler as well.
        (
            "30 2 10 * */2",
            "0 30 2 10 * */2",
            "At 02:30 on the 10th day of month if it's on every second day of week",
            "2026-12-10 02:30",
        ),
        ("0 0 1 6-6/2 *", "0 0 0 1 6 *", "At 00:00 on June 1", "2027-06-01 00:00"),
    ],
)
def test_read_translated_explained(text: str, kubeflow: str, words: str, next_time: str) -> None:
    cron = parse(text)
    assert (cron.kubeflow, cron.words) == (kubeflow, words)
    assert f"{cron.following(NOON, 1)[0]:%Y-%m-%d %H:%M}" == next_time


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 2 * *", "4 fields, expected 5"),
        ("0 30 2 * * *", "leave the seconds out"),
        ("61 * * * *", "minute '61': expected 0 to 59"),
        ("0 24 * * *", "hour '24': expected 0 to 23"),
        ("0 0 0 * *", "day-of-month '0': expected 1 to 31"),
        ("0 0 * FOO *", "month 'FOO': expected 1 to 12 or JAN to DEC"),
        ("0 0 * * 8", "day-of-week '8': expected 0 to 7 or SUN to SAT"),
        ("0 22-6 * * *", "hour '22-6': expected 0 to 23"),
        ("*/0 * * * *", "minute '*/0': expected 0 to 59"),
        ("0 0 30 2 *", "day-of-month '30': expected 1 to 31, as many as a month has"),
        ("0 0 L * *", "day-of-month 'L': L, W and # are not known to Kubeflow"),
        ("0 0 * JUL 5#2", "day-of-week '5#2': L, W and #"),
        ("0 0 1,* * 1", "a star in a list makes no sense"),
        ("x y z", "3 fields"),
    ],
)
def test_refused_with_the_field_and_what_is_right(text: str, said: str) -> None:
    with pytest.raises(UserError, match=f"^cron .*{said.replace('*', '.')}"):
        parse(text)


def _item(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    spread = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    return st.one_of(st.just("*"), number.map(str), spread, st.integers(1, min(most, 20)).map(lambda n: f"*/{n}"))


@settings(max_examples=25, deadline=None)
@given(_item(0, 59), _item(0, 23), st.sampled_from(["*", "1", "13", "28", "*/2"]), _item(1, 12), _item(0, 7))
def test_the_next_time_is_the_first_minute_that_matches(m: str, h: str, d: str, month: str, w: str) -> None:
    """Against counting minutes by hand, with a matcher of one line a field."""

    def values(part: str, least: int, most: int) -> set[int]:
        head, _, step = part.partition("/")
        low, _, high = (f"{least}-{most}" if head == "*" else head).partition("-")
        return set(range(int(low), int(high or low) + 1, int(step or 1)))

    cron = parse(f"{m} {h} {d} {month} {w}")
    week = {value % 7 for value in values(w, 0, 6 if w.startswith("*") else 7)}
    at = NOON
    for _ in range(60 * 24 * 3):
        at += dt.timedelta(minutes=1)
        in_month, in_week = at.day in values(d, 1, 31), at.isoweekday() % 7 in week
        on = (in_month or in_week) if d[0] != "*" and w[0] != "*" else (in_month and in_week)
        if on and at.minute in values(m, 0, 59) and at.hour in values(h, 0, 23) and at.month in values(month, 1, 12):
            assert cron.following(NOON, 1) == [at]
            return
    assert not [found for found in cron.following(NOON, 1) if found <= at]
