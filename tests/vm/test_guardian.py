"""The guardian on a whole board: arm64, systemd, a watchdog that resets.

The tests that reset the board come last and leave it as it was.
"""

from __future__ import annotations

from typing import Any

import pytest

from vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

STATUS = "cat /run/vigie-guardian/status.json"
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
RSS_LIMIT_KB = 4096
WAIT_S = 600.0
"""how long anything here may take, a reset and an emulated start included, before it counts as hung"""
BLOCK = "bridge link set dev vgp0 state 0"
CONFIG = "/etc/vigie/guardian.json"


def pid(board: Machine) -> int:
    return int(board.shell("systemctl show -P MainPID vigie-guardian").require().out)


def status(board: Machine) -> dict[str, Any]:
    found: dict[str, Any] = board.shell(STATUS).json
    return found


def shows(board: Machine, lamp: str, *states: str) -> None:
    """Until the lamp shows one of these."""
    lamps = 'json.load(open("/run/vigie-guardian/status.json"))["lamps"]'
    code = f'import json, sys; sys.exit({lamps}["{lamp}"]["state"] not in "{" ".join(states)}".split())'
    board.wait(f"python3 -c '{code}'", WAIT_S)


def test_it_runs_small_and_alone_with_the_watchdog(board: Machine) -> None:
    board.wait("systemctl is-active vigie-guardian", WAIT_S)
    number = pid(board)
    peak = board.shell(f"grep VmHWM /proc/{number}/status").require().out
    assert int(peak.split()[1]) <= RSS_LIMIT_KB, peak
    program = board.shell(f"readlink /proc/{number}/exe").require().out
    assert program.strip().endswith("/micropython")

    owners = board.shell("ls -l /proc/[0-9]*/fd/* 2>/dev/null | grep -o '/proc/[0-9]*/.*watchdog0'").out.splitlines()
    assert len(owners) == 1 and owners[0].startswith(f"/proc/{number}/"), owners
    assert board.shell("cat /sys/class/watchdog/watchdog0/state").require().out.strip() == "active"
    assert board.shell("cat /sys/class/watchdog/watchdog0/timeout").require().out.strip() == "30"
    assert board.shell("systemctl show -P RuntimeWatchdogUSec").require().out.strip() in ("0", "infinity")


def test_its_frames_cross_the_private_bridge(board: Machine) -> None:
    board.wait(f'{STATUS} | grep \'"evidence": "bridge"\'', WAIT_S)
    now = status(board)
    assert (now["feeding"], now["mode"], now["bridge"]) == (True, "normal", True), now
    assert now["watchdog"] == {"device": "/dev/watchdog0", "open": True, "timeout_s": 30}
    assert set(now["links"].values()) == {True}
    inside = board.shell("ls /sys/class/net/br0/brif").require().out.split()
    assert not [name for name in inside if name.startswith("vg")]


def test_a_stopped_filter_costs_a_lamp(board: Machine) -> None:
    board.wait("test -e /run/vigie/heartbeat.json", WAIT_S)
    shows(board, "protection", "ok", "no-base")
    board.shell("systemctl stop vigie-filter").require()
    shows(board, "protection", "silent")
    assert status(board)["feeding"] is True
    board.shell("systemctl start vigie-filter").require()
    shows(board, "protection", "ok", "no-base")


def test_an_unplugged_cable_is_shown(board: Machine) -> None:
    board.cable(0, False)
    try:
        shows(board, "line", "no-link")
        assert status(board)["feeding"] is True
    finally:
        board.cable(0, True)
    board.wait(f"! {STATUS} | grep -q no-link", WAIT_S)


def test_a_press_asks_for_a_self_test(board: Machine) -> None:
    board.wait("journalctl -b -u vigie-guardian | grep 'button: '", WAIT_S)
    board.press("f12", True)
    board.press("f12", False)
    board.wait("journalctl -b -u vigie-guardian | grep 'request: selftest'", WAIT_S)
    board.wait("test -e /run/vigie-answers/selftest.json", WAIT_S)


def test_a_guardian_that_hangs_is_started_again_without_a_reset(board: Machine) -> None:
    boot, number = board.shell(BOOT_ID).out, pid(board)
    board.shell(f"kill -STOP {number}").require()
    board.wait(f'p=$(systemctl show -P MainPID vigie-guardian); test "$p" != 0 && test "$p" != {number}', WAIT_S)
    board.wait("systemctl is-active vigie-guardian", WAIT_S)
    assert board.shell(BOOT_ID).out == boot


def reset_by(board: Machine, command: str) -> None:
    """Does something that the hardware answers; until the board is up again."""
    before = board.shell(BOOT_ID).require().out
    board.shell(command).require()
    board.wait_shell(WAIT_S)
    assert board.shell(BOOT_ID).require().out != before
    board.wait("systemctl is-active vigie-guardian", WAIT_S)


def test_three_resets_make_it_a_plain_bridge_and_it_tries_again(board: Machine) -> None:
    """Stopped without systemd's help; frames that no longer move; stopped again."""
    stop = "systemctl service-watchdogs no; kill -STOP $(systemctl show -P MainPID vigie-guardian)"
    seen = []
    for command in (stop, BLOCK, stop):
        reset_by(board, command)
        board.wait(f'{STATUS} | grep \'"reason": "watchdog"\'', WAIT_S)
        now = status(board)
        seen.append((now["count"], now["mode"]))
    assert seen == [(1, "normal"), (2, "normal"), (3, "plain")]

    shows(board, "protection", "plain")
    board.shell("test -e /data/guardian/plain").require()
    board.wait("! systemctl is-active -q vigie-early && ! systemctl is-active -q vigie-filter", WAIT_S)
    board.wait(f"{STATUS} | grep '\"bridge\": true'", WAIT_S)

    # An hour is a setting: five seconds, for this start.
    board.shell(f"sed '1s/{{/{{\"retry_s\": 5,/' {CONFIG} > /run/guardian.json").require()
    board.shell(f"mount --bind /run/guardian.json {CONFIG}").require()
    board.shell("systemctl restart vigie-guardian").require()
    board.wait("systemctl is-active -q vigie-early && systemctl is-active -q vigie-filter", WAIT_S)
    board.shell("test ! -e /data/guardian/plain").require()
    assert status(board)["mode"] == "trial"

    # As it was: no state, an end in order.
    before = board.shell(BOOT_ID).out
    board.shell("rm -f /data/guardian/state.json; systemctl --no-block reboot").require()
    board.wait_shell(WAIT_S)
    assert board.shell(BOOT_ID).out != before
    board.wait(f'{STATUS} | grep \'"mode": "normal"\'', WAIT_S)
