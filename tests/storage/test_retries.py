"""When something is tried again: how often, after which pauses, and what is no reason to."""

from __future__ import annotations

import pytest

from dcod.storage import retries
from dcod.storage.retries import Tries, is_passing


def test_pauses_double_up_to_half_a_minute_and_end() -> None:
    pauses: list[float] = []
    assert sum(1 for _ in Tries(9, sleep=pauses.append)) == 9
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert sum(1 for _ in Tries(1, sleep=pauses.append)) == 1
    assert len(pauses) == 8


def test_together_they_take_no_longer_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(retries.time, "monotonic", lambda: now)
    assert sum(1 for _ in Tries(within_s=10, sleep=sleep)) == 4
    assert now == 7


def test_what_gets_somewhere_begins_anew() -> None:
    pauses: list[float] = []
    tries = Tries(3, first_s=1, sleep=pauses.append)
    for number, _ in enumerate(tries):
        if number in (1, 3):
            tries.moved()
    assert pauses == [1, 0.5, 1, 0.5, 1, 2]


def test_pauses_are_spread() -> None:
    pauses: list[float] = []
    assert sum(1 for _ in Tries(6, first_s=1, spread=True, sleep=pauses.append)) == 6
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, (1, 2, 4, 8, 16), strict=True))
    assert len({pause / most for pause, most in zip(pauses, (1, 2, 4, 8, 16), strict=True)}) > 1


def test_what_passes() -> None:
    assert {status for status in range(100, 600) if is_passing(status)} == {408, 425, 429, *range(500, 600)} - {
        501,
        505,
    }
