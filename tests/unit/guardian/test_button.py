"""One button: a press, a hold, a stuck key."""

from __future__ import annotations

import pytest

from tests.support.micropython import Interpreter

TIMES = [2000, 10000, 20000]

HOLDS = [
    (0, "short", "both edges read at once"),
    (400, "short", "a press"),
    (2000, "short", "a slow press"),
    (2001, None, "held, and let go in time"),
    (9999, None, "held, and let go in time"),
    (10000, "reset-config", "held long enough"),
    (19999, "reset-config", "held long enough"),
    (20000, None, "thought better of it"),
    (3_600_000, None, "stuck"),
]


@pytest.mark.parametrize(("held", "happened", "why"), HOLDS)
def test_what_a_hold_means_when_it_ends(mp: Interpreter, held: int, happened: str | None, why: str) -> None:
    calls = ("change", [True, 5000]), ("change", [False, 5000 + held])
    assert mp.steps("button", "Button", TIMES, *calls) == [None, happened], why


@pytest.mark.parametrize(
    ("held", "shown"),
    [(0, ""), (2000, ""), (2001, "held"), (9999, "held"), (10000, "confirmed"), (19999, "confirmed"), (20000, "")],
)
def test_what_the_lamp_says_meanwhile(mp: Interpreter, held: int, shown: str) -> None:
    assert mp.steps("button", "Button", TIMES, ("change", [True, 7]), ("look", [7 + held]))[1] == shown


def test_a_press_that_began_before_we_looked_means_nothing(mp: Interpreter) -> None:
    assert mp.steps("button", "Button", TIMES, ("change", [False, 100]), ("look", [200])) == [None, ""]


def test_a_second_down_does_not_begin_again(mp: Interpreter) -> None:
    calls = ("change", [True, 0]), ("change", [True, 9000]), ("change", [False, 10000])
    assert mp.steps("button", "Button", TIMES, *calls)[2] == "reset-config"


def test_a_device_that_vanishes_ends_the_press(mp: Interpreter) -> None:
    calls = ("change", [True, 0]), ("lost", []), ("look", [11000]), ("change", [False, 11000])
    assert mp.steps("button", "Button", TIMES, *calls)[2:] == ["", None]


@pytest.mark.parametrize(
    ("happened", "wanted", "name"),
    [("short", False, "selftest"), ("short", True, "pin-window"), ("reset-config", True, "reset-config")],
)
def test_the_request(mp: Interpreter, happened: str, wanted: bool, name: str) -> None:
    assert mp.call("button", "request", happened, wanted) == name


@pytest.mark.parametrize(
    ("bitmap", "key", "has"),
    [("0 0 1", 0, True), ("1000000 0", 88, True), ("1000000 0", 24, False), ("", 88, False), ("0", 700, False),
     ("zz 0", 64, False), ("10000000000 0 0 0 0 0", 360, True)],
)  # fmt: skip
def test_the_kernels_bitmap_of_keys(mp: Interpreter, bitmap: str, key: int, has: bool) -> None:
    """As a 64-bit kernel prints it."""
    assert mp.call("keys", "has_key", bitmap, key, 64) is has
