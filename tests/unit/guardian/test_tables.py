"""The fault table, row by row: what is seen, what the lamps show, whether the watchdog is fed, where the relay is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.micropython import Interpreter

WELL: dict[str, Any] = {
    "config_ok": True, "watchdog": True, "evidence": "bridge", "quiet_s": 1, "quiet_max_s": 20, "bridge": True,
    "links": {"eth0": True, "eth1": True}, "stalled": False, "beat": "alive", "attached": True, "base": 12,
    "loop": False, "enrol": "member", "update": None, "disk": "ok", "mode": "normal", "button": "",
}  # fmt: skip
CALM = {"power": "on", "line": "member", "protection": "ok", "loop": "none"}

# name: (what differs from a box that is well, lamps that differ, fed, relay)
FAULTS: dict[str, tuple[dict[str, Any], dict[str, str], bool, str | None]] = {
    "all well": ({}, {}, True, "inline"),
    "kernel moves no frame": ({"quiet_s": 21}, {"power": "restarting"}, False, "bypass"),
    "kernel slow, within the limit": ({"quiet_s": 20}, {}, True, "inline"),
    "no frame through lo either": ({"evidence": "lo", "quiet_s": 21}, {"power": "restarting"}, False, "bypass"),
    "no way to send a frame": ({"evidence": "none", "quiet_s": 9999}, {}, True, "inline"),
    "nothing known yet": ({"evidence": None, "quiet_s": None}, {}, True, "inline"),
    "one cable unplugged": ({"links": {"eth0": True, "eth1": False}}, {"line": "no-link"}, True, "inline"),
    "both cables unplugged": ({"links": {"eth0": False, "eth1": False}}, {"line": "no-link"}, True, "inline"),
    "carrier cannot be read": ({"links": {}}, {}, True, "inline"),
    "carriers never read": ({"links": None}, {}, True, "inline"),
    "silence on both cables": ({"stalled": False}, {}, True, "inline"),
    "frames come in, none goes out": ({"stalled": True}, {"line": "cut"}, True, "inline"),
    "no bridge": ({"bridge": False, "links": {}}, {"line": "cut"}, True, "bypass"),
    "no bridge yet": ({"bridge": None, "links": {}}, {}, True, None),
    "filter not seen yet": (
        {"beat": "unknown", "attached": None, "base": None, "loop": None},
        {"power": "starting", "protection": "starting"}, True, "inline",
    ),
    "filter dead": (
        {"beat": "lost", "attached": None, "base": None, "loop": None}, {"protection": "silent"}, True, "inline",
    ),
    "data path not attached": ({"attached": False}, {"protection": "detached"}, True, "inline"),
    "no base": ({"base": None}, {"protection": "no-base"}, True, "inline"),
    "base version zero": ({"base": 0}, {"protection": "no-base"}, True, "inline"),
    "loop": ({"loop": True}, {"loop": "loop"}, True, "inline"),
    "loop, but the filter is dead": ({"loop": True, "beat": "lost"}, {"protection": "silent"}, True, "inline"),
    "plain bridge": (
        {"mode": "plain", "beat": "unknown"}, {"power": "starting", "protection": "plain"}, True, "inline",
    ),
    "plain bridge, filter alive": ({"mode": "plain"}, {"protection": "plain"}, True, "inline"),
    "protection on trial": ({"mode": "trial"}, {"protection": "trial"}, True, "inline"),
    "on trial, not attached": ({"mode": "trial", "attached": False}, {"protection": "detached"}, True, "inline"),
    "on trial, filter dead": ({"mode": "trial", "beat": "lost"}, {"protection": "silent"}, True, "inline"),
    "department unknown": ({"enrol": "unknown"}, {"line": "unknown"}, True, "inline"),
    "no status of enrolment": ({"enrol": None}, {"line": "starting"}, True, "inline"),
    "a word that the legend does not have": ({"enrol": "new-word"}, {"line": "other"}, True, "inline"),
    "cable unplugged before anything of the department": (
        {"enrol": "no-internet", "links": {"eth0": False, "eth1": True}}, {"line": "no-link"}, True, "inline",
    ),
    "watchdog cannot be opened": ({"watchdog": False}, {"power": "no-watchdog"}, True, "inline"),
    "bad configuration": ({"config_ok": False}, {"power": "config"}, True, "inline"),
    "bad configuration, dead kernel": (
        {"config_ok": False, "quiet_s": 30}, {"power": "restarting"}, False, "bypass",
    ),
    "disk hangs": ({"disk": "slow"}, {"power": "disk"}, True, "inline"),
    "disk cannot be written": ({"disk": "unwritable"}, {"power": "disk"}, True, "inline"),
    "update": ({"update": "installing"}, {"power": "updating"}, True, "inline"),
    "update done": ({"update": "idle"}, {}, True, "inline"),
    "update says nonsense": ({"update": 7}, {}, True, "inline"),
    "button held": ({"button": "held"}, {"power": "held"}, True, "inline"),
    "button held long enough, dead kernel": (
        {"button": "confirmed", "quiet_s": 30}, {"power": "confirmed"}, False, "bypass",
    ),
    "everything at once": (
        {"quiet_s": 30, "bridge": False, "links": {"eth0": False}, "beat": "lost", "mode": "plain", "disk": "slow",
         "watchdog": False, "config_ok": False, "enrol": "clone"},
        {"power": "restarting", "line": "cut", "protection": "plain"}, False, "bypass",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_row_of_the_fault_table(mp: Interpreter, name: str) -> None:
    differs, lamps, fed, relay = FAULTS[name]
    see = WELL | differs

    assert mp.call("core", "lamps", see, {"$": "rows"}) == CALM | lamps
    assert mp.call("core", "feeds", see) is fed
    assert mp.call("core", "relay", see) == relay


def test_with_nothing_known_at_all(mp: Interpreter) -> None:
    """Fed, all lamps say "starting", the relay is left alone."""
    assert mp.call("core", "feeds", {}) is True
    assert mp.call("core", "relay", {}) is None
    shown = mp.call("core", "lamps", {}, {"$": "rows"})
    assert shown == {"power": "on", "line": "starting", "protection": "starting", "loop": "none"}


@pytest.mark.parametrize(
    "key", ["bridge", "links", "stalled", "beat", "attached", "base", "loop", "enrol", "update", "mode"]
)
def test_nothing_but_its_own_frames_starves_the_watchdog(mp: Interpreter, key: str) -> None:
    """Whatever the customer's network and the filter do: the box is not restarted for it."""
    for value in (None, False, True, 0, "lost", "plain", {}, {"eth0": False}):
        see = WELL | {key: value}
        assert mp.call("core", "feeds", see) is True, see
