"""Why a box started, and what that means for protection."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.micropython import Interpreter

FACTS: dict[str, Any] = {
    "boot": "now", "previous": "before", "orderly": None, "cardreset": False, "panic": False, "power": False,
    "warm": False,
}  # fmt: skip

REASONS: dict[str, tuple[dict[str, Any], str]] = {
    "no state on disk": ({"previous": ""}, "first"),
    "judged already": ({"previous": "now", "cardreset": True}, "same"),
    "ended in order": ({"orderly": "before"}, "orderly"),
    "ended in order, and the driver says reset (the way down hung)": (
        {"orderly": "before", "cardreset": True},
        "orderly",
    ),
    "an older end in order": ({"orderly": "long ago", "cardreset": True}, "watchdog"),
    "the driver says reset": ({"cardreset": True}, "watchdog"),
    "the kernel left a record": ({"panic": True}, "panic"),
    "a panic that the watchdog ended": ({"panic": True, "cardreset": True}, "panic"),
    "power came on": ({"power": True}, "power"),
    "reset with power on": ({"warm": True}, "warm"),
    "a board that cannot tell": ({}, "unknown"),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_of_a_start(mp: Interpreter, name: str) -> None:
    differs, reason = REASONS[name]
    assert mp.call("policy", "reason", FACTS | differs) == reason


BAD = {"watchdog": {"cardreset": True}, "panic": {"panic": True}, "warm": {"warm": True}}
CALM = {"power": {"power": True}, "unknown": {}, "orderly": {"orderly": "before"}}

# (mode and count before, reason) -> mode and count after
STARTS = [
    *[(("normal", 0), why, ("normal", 1)) for why in BAD],
    *[(("normal", 1), why, ("normal", 2)) for why in BAD],
    *[(("normal", 2), why, ("plain", 3)) for why in BAD],
    (("normal", 2), "power", ("normal", 2)),
    (("normal", 2), "unknown", ("normal", 2)),
    (("normal", 2), "orderly", ("normal", 0)),
    *[(("plain", 3), why, ("plain", 4)) for why in BAD],
    *[(("plain", 3), why, ("plain", 3)) for why in CALM],
    *[(("trial", 3), why, ("plain", 4)) for why in BAD],
    *[(("trial", 3), why, ("trial", 3)) for why in CALM],
]


@pytest.mark.parametrize(("before", "why", "after"), STARTS)
def test_a_row_of_the_starts(mp: Interpreter, before: tuple[str, int], why: str, after: tuple[str, int]) -> None:
    state = {"mode": before[0], "count": before[1], "boot": "before", "recent": ["power"]}
    told = mp.call("policy", "start", state, FACTS | {**BAD, **CALM}[why], 3)
    assert (told["mode"], told["count"]) == after
    assert (told["boot"], told["reason"], told["recent"]) == ("now", why, ["power", why])


def test_the_same_start_is_judged_once(mp: Interpreter) -> None:
    state = mp.call("policy", "clean", {"mode": "normal", "count": 2, "boot": "now"})
    assert mp.call("policy", "start", state, FACTS | {"previous": "now", "cardreset": True}, 3) == state


def test_three_power_cuts_in_a_row_change_nothing(mp: Interpreter) -> None:
    state: dict[str, Any] = {"mode": "normal", "count": 0, "boot": "0"}
    for number in range(1, 7):
        facts = FACTS | {"previous": str(number - 1), "boot": str(number), "power": True}
        state = mp.call("policy", "start", state, facts, 3)
    assert (state["mode"], state["count"]) == ("normal", 0)


def test_a_person_who_pulls_the_plug_between_two_resets_does_not_hide_them(mp: Interpreter) -> None:
    state: dict[str, Any] = {"mode": "normal", "count": 0, "boot": "0"}
    modes = []
    for number, why in enumerate(("watchdog", "power", "panic", "power", "warm"), 1):
        facts = FACTS | {"previous": str(number - 1), "boot": str(number)} | {**BAD, **CALM}[why]
        state = mp.call("policy", "start", state, facts, 3)
        modes.append(state["mode"])
    assert modes == ["normal", "normal", "normal", "normal", "plain"]


@pytest.mark.parametrize(
    ("mode", "count", "after_s", "expected"),
    [
        ("normal", 0, 10**9, ("normal", 0, False)),
        ("normal", 2, 21599, ("normal", 2, False)),
        ("normal", 2, 21600, ("normal", 0, True)),
        ("plain", 3, 3599, ("plain", 3, False)),
        ("plain", 3, 3600, ("trial", 3, True)),
        ("trial", 3, 21599, ("trial", 3, False)),
        ("trial", 3, 21600, ("normal", 0, True)),
    ],
)
def test_what_time_changes(
    mp: Interpreter, mode: str, count: int, after_s: int, expected: tuple[str, int, bool]
) -> None:
    state, changed = mp.call("policy", "later", {"mode": mode, "count": count}, after_s, 3600, 21600)
    assert (state["mode"], state["count"], changed) == expected


@pytest.mark.parametrize(
    "written",
    [None, 7, "", [], {}, {"mode": "other", "count": -1}, {"count": "3", "boot": 5, "recent": "x", "reason": []},
     {"count": 10**7, "recent": [1, None, {}]}],
)  # fmt: skip
def test_a_state_file_with_anything_in_it_is_a_normal_box(mp: Interpreter, written: object) -> None:
    state = mp.call("policy", "clean", written)
    assert state == {"v": 1, "mode": "normal", "count": 0, "boot": "", "reason": "", "recent": []}


def test_only_the_last_reasons_are_kept(mp: Interpreter) -> None:
    state: dict[str, Any] = {}
    for number in range(40):
        state = mp.call("policy", "start", state, FACTS | {"previous": state.get("boot", ""), "boot": str(number)}, 3)
    assert state["recent"] == ["unknown"] * 12
