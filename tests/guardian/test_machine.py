"""The whole guardian against a real kernel: its frames, its files, its clock.

     box (a network namespace)
┌─────────────────────────────────────────────┐
│  vg0 ── vgp0 [ vgbr ] vgp1 ── vg1           │   the guardian's own frames, both ways
│  br0: eth0, eth1                            │   the customer's bridge, where a test wants one
│  watchdog0 (FIFO), LEDs, button (FIFO)      │
└─────────────────────────────────────────────┘
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guardianrig import KEY, Rig, rig
from tests.support.micropython import unix_port

pytestmark = pytest.mark.netns

RSS_LIMIT_KB = 4096


@pytest.fixture
def box() -> Iterator[Rig]:
    with rig(sys.executable) as made:
        yield made


def memory_kb(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name + ":")))


def test_it_starts_says_ready_and_feeds(box: Rig) -> None:
    box.do("prepare")
    box.start(wait=False)
    said: list[str] = []

    def ready() -> bool:
        said.extend(box.told())
        return "READY=1" in said

    box.until(ready, "READY=1")
    box.becomes("evidence", "bridge")
    box.becomes("reason", "first")
    box.fed()
    box.ticks(3)
    assert set(box.fed()) == {0}, "fed, and the letter V is never written"
    status = box.status()
    assert (status["feeding"], status["mode"], status["count"]) == (True, "normal", 0)
    assert status["watchdog"]["open"] is True
    assert box.written()["boot"] == "boot-1"


def test_it_is_small(box: Rig) -> None:
    """After many rounds, with every kind of work done."""
    box.do("prepare")
    box.beat(1)
    box.key_device()
    box.config["button"] = {"key": KEY}
    process = box.start()
    box.ticks(60)
    assert memory_kb(process.pid, "VmHWM") <= RSS_LIMIT_KB


def test_every_processor_moves_a_frame_in_each_round(box: Rig) -> None:
    box.do("prepare")
    process = box.start()
    box.becomes("evidence", "bridge")
    processors = min(os.cpu_count() or 1, 8)

    def received() -> int:
        links = {link["ifname"]: link for link in box.box.show_links()}
        return sum(int(links[name]["stats64"]["rx"]["packets"]) for name in ("vg0", "vg1"))

    before = received()
    box.ticks(11)
    assert received() - before >= 10 * processors
    allowed = Path(f"/proc/{process.pid}/status").read_text()
    assert "Cpus_allowed:" in allowed


def test_a_kernel_that_moves_no_frame_starves_the_watchdog(box: Rig) -> None:
    box.do("prepare")
    box.start()
    box.becomes("evidence", "bridge")
    box.box.run("bridge", "link", "set", "dev", "vgp0", "state", "0").require()
    box.becomes("feeding", False)
    assert box.lamp("power") == "restarting"
    box.fed()
    box.ticks(5)
    assert box.fed() == b""

    box.box.run("bridge", "link", "set", "dev", "vgp0", "state", "3").require()
    box.becomes("feeding", True)
    box.ticks(2)
    assert set(box.fed()) == {0}


def test_a_path_that_is_taken_apart_is_no_evidence_against_the_kernel(box: Rig) -> None:
    box.do("prepare")
    box.start()
    box.becomes("evidence", "bridge")
    box.box.ip("link", "set", "vgbr", "down")
    box.becomes("evidence", "lo")
    box.box.ip("link", "del", "vgbr")
    box.box.ip("link", "set", "lo", "down")
    box.becomes("evidence", "none")
    box.ticks(30)  # longer than quiet_max_s
    box.fed()
    box.ticks(3)
    assert (box.status()["feeding"], set(box.fed())) == (True, {0})
    box.box.ip("link", "set", "lo", "up")
    box.becomes("evidence", "lo")
    box.do("prepare")
    box.becomes("evidence", "bridge")
    assert box.status()["feeding"] is True


def test_preparing_twice_changes_nothing(box: Rig) -> None:
    box.do("prepare")
    before = [(link["ifname"], link.get("master")) for link in box.box.show_links()]
    assert box.do("prepare").err == ""
    assert [(link["ifname"], link.get("master")) for link in box.box.show_links()] == before
    assert not any(link.get("addr_info") for link in box.box.show_links() if link["ifname"].startswith("vg"))


def test_unplugged_cables_and_a_lost_bridge_never_starve_it(box: Rig) -> None:
    lan, wan = box.world.namespace("lan"), box.world.namespace("wan")
    box.world.cable(box.box, "eth0", lan, "eth0")
    box.world.cable(box.box, "eth1", wan, "eth0")
    box.box.bridge("br0", "eth0", "eth1")
    relay = box.led("vigie:bypass")
    box.config |= {"relay": {"led": "vigie:bypass", "inline": 1}, "bridge_gone_s": 1}
    box.do("prepare")
    box.start()
    box.becomes("links", {"eth0": True, "eth1": True})
    box.until(lambda: relay.read_text() == "255", "the relay in line")

    lan.ip("link", "set", "eth0", "down")
    box.shows("line", "no-link")
    lan.ip("link", "set", "eth0", "up")
    box.shows("line", "starting")
    box.box.ip("link", "del", "br0")
    box.shows("line", "cut")
    box.until(lambda: relay.read_text() == "0", "the relay in bypass")
    box.ticks(30)
    box.fed()
    box.ticks(2)
    assert (box.status()["feeding"], set(box.fed())) == (True, {0})


def test_a_dead_filter_costs_a_lamp_and_nothing_else(box: Rig) -> None:
    box.start()
    box.shows("protection", "starting")
    box.beat(10)
    box.shows("protection", "ok")
    box.beat(12, attached=False)
    box.shows("protection", "detached")
    box.beat(14, loop=True)
    box.shows("loop", "loop")
    box.shows("protection", "silent")  # it beats no more
    assert box.lamp("loop") == "none"
    assert box.status()["feeding"] is True
    box.beat(99)
    box.shows("protection", "ok")
    (box.folder / "heartbeat.json").write_bytes(b'\xff{"at": 1')
    box.shows("protection", "silent")


def test_enrolment_and_update_are_shown(box: Rig) -> None:
    box.start()
    (box.folder / "enrol.json").write_text('{"code": "portal"}')
    box.shows("line", "portal")
    box.beat(1)
    (box.folder / "update.json").write_text('{"state": "installing"}')
    box.shows("power", "updating")
    (box.folder / "update.json").unlink()
    box.shows("power", "on")


def test_a_disk_that_hangs_does_not_starve_the_watchdog(box: Rig) -> None:
    """A FIFO that nobody writes to holds its reader up as a dead disk does."""
    os.mkfifo(box.folder / "enrol.json")
    box.config["disk_slow_s"] = 1
    box.beat(1)
    process = box.start()
    box.becomes("disk", "slow")
    assert box.lamp("power") == "disk"
    box.fed()
    box.ticks(3)
    assert set(box.fed()) == {0}
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1, "one that waits, and no more"
    held = [str(fd.readlink()) for fd in Path(f"/proc/{children[0]}/fd").iterdir()]
    assert not any("watchdog" in path for path in held), held

    with (box.folder / "enrol.json").open("w") as fifo:
        fifo.write('{"code": "member"}')
    (box.folder / "enrol.json").unlink()
    (box.folder / "enrol.json").write_text('{"code": "member"}')
    box.becomes("disk", "ok")
    box.shows("line", "member")


def test_a_state_folder_that_cannot_be_written(box: Rig) -> None:
    box.config |= {"state": str(box.folder / "missing/guardian"), "unwritable_s": 1}
    box.start()
    box.becomes("disk", "unwritable")
    box.becomes("reason", "first")
    box.fed()
    box.ticks(2)
    assert set(box.fed()) == {0}


def test_a_watchdog_that_comes_late(box: Rig) -> None:
    path = box.folder / "watchdog0"
    hidden = box.folder / "hidden"
    path.rename(hidden)
    box.config["watchdog"] = str(box.folder / "later/watchdog0")
    box.start()
    box.beat(1)
    box.shows("power", "no-watchdog")
    (box.folder / "later").mkdir()
    hidden.rename(box.folder / "later/watchdog0")
    box.until(lambda: box.fed(), "fed")


def test_a_guardian_that_dies_is_followed_by_one_that_feeds(box: Rig) -> None:
    box.do("prepare")
    process = box.start()
    box.until(lambda: (box.state / "state.json").exists(), "the state")
    before = box.written()
    process.kill()
    box.fed()
    box.start()
    box.ticks(2)
    assert set(box.fed()) == {0}
    box.becomes("reason", "first")
    assert box.written() == before, "the same start is judged once"


def test_a_guardian_that_was_stopped_and_goes_on(box: Rig) -> None:
    """Longer than the kernel may be silent: what it did not ask for it does not miss."""
    box.do("prepare")
    process = box.start()
    box.becomes("evidence", "bridge")
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(3)
    box.fed()
    os.kill(process.pid, signal.SIGCONT)
    box.ticks(3)
    assert box.status()["feeding"] is True
    assert set(box.fed()) == {0}


def test_three_resets_make_it_a_plain_bridge_which_tries_again(box: Rig) -> None:
    plain = box.state / "plain"
    box.do("judge")
    modes = []
    for _ in range(3):
        box.reset(by_watchdog=True)
        modes.append((box.written()["mode"], box.written()["count"], plain.exists()))
    assert modes == [("normal", 1, False), ("normal", 2, False), ("plain", 3, True)]
    assert "3 resets" in plain.read_text()

    box.config |= {"retry_s": 1, "stable_s": 3600}
    box.start()
    box.until(lambda: (box.run_dir / "protect").exists(), "the request to load the data path again")
    assert not plain.exists()
    assert box.written()["mode"] == "trial", "on disk before the data path is loaded"
    box.shows("protection", "trial")

    box.reset(by_watchdog=True)
    assert (box.written()["mode"], plain.exists()) == ("plain", True)

    (box.run_dir / "protect").unlink()
    box.config["stable_s"] = 1
    box.start()
    box.until(lambda: (box.written()["mode"], box.written()["count"]) == ("normal", 0), "a trial that lasted")
    assert (plain.exists(), (box.run_dir / "protect").exists()) == (False, True)
    box.becomes("mode", "normal")


def test_power_cuts_and_ends_in_order_never_make_it_plain(box: Rig) -> None:
    box.do("judge")
    for _ in range(5):
        box.reset(by_watchdog=False)
    assert (box.written()["mode"], box.written()["reason"]) == ("normal", "unknown")
    box.reset(by_watchdog=True)
    box.do("orderly")
    box.reset(by_watchdog=True)
    assert (box.written()["count"], box.written()["reason"]) == (0, "orderly")


def test_a_restart_of_the_guardian_alone_is_no_end_in_order(box: Rig) -> None:
    box.do("judge")
    box.do("orderly")
    box.start()
    box.until(lambda: not (box.state / "orderly").exists(), "the note taken back")
    box.reset(by_watchdog=True)
    assert box.written()["reason"] == "watchdog"


def test_what_a_cm4_says_of_its_start(box: Rig) -> None:
    """PM_RSTS as the boot loader hands it over: big-endian in the device tree."""
    register = box.folder / "pm_rsts"
    box.config["pm_rsts"] = str(register)
    reasons = []
    box.do("judge")
    for bits in (0x1000, 0x20, 0x1020, 0):
        register.write_bytes(bits.to_bytes(4, "big"))
        box.reset(by_watchdog=False)
        reasons.append(box.written()["reason"])
    assert reasons == ["power", "warm", "warm", "unknown"]


@pytest.mark.parametrize("loaded", [True, False])
def test_a_start_that_is_judged_after_the_data_path_was_loaded(box: Rig, loaded: bool) -> None:
    """The disk came late: what is loaded is taken away again, what is not is left alone."""
    box.do("judge")
    for _ in range(3):
        box.reset(by_watchdog=True)
    if loaded:
        (box.folder / "early.json").write_text("{}")
    box.start()
    box.becomes("mode", "plain")
    box.ticks(3)
    assert (box.run_dir / "plain").exists() is loaded


def test_plain_without_a_disk_stays_plain(box: Rig) -> None:
    """A trial that could not be noted would be tried for ever."""
    box.config |= {"retry_s": 1, "stable_s": 3600, "unwritable_s": 1}
    box.do("judge")
    for _ in range(3):
        box.reset(by_watchdog=True)
    box.start()
    box.becomes("mode", "plain")
    moved = box.folder / "elsewhere"
    box.state.rename(moved)
    box.becomes("disk", "unwritable")
    assert box.status()["mode"] == "plain"
    assert not (box.run_dir / "protect").exists()


def test_the_button(box: Rig) -> None:
    box.config |= {"button": {"key": KEY}, "short_ms": 1000, "reset_ms": 2000, "stuck_ms": 60000}
    device = box.key_device()
    process = box.start()
    process.wait_for_line("button: ")
    box.press(device, True)
    time.sleep(0.1)
    box.press(device, False)
    box.until(lambda: (box.run_dir / "selftest").exists(), "the self-test")

    (box.folder / "pin-wanted").touch()
    box.press(device, True)
    time.sleep(0.1)
    box.press(device, False)
    box.until(lambda: (box.run_dir / "pin-window").exists(), "the PIN window")

    box.press(device, True)
    box.shows("power", "held")
    box.shows("power", "confirmed")
    assert not (box.run_dir / "reset-config").exists(), "only when it is let go"
    box.press(device, False)
    box.until(lambda: (box.run_dir / "reset-config").exists(), "the configuration reset")

    (box.run_dir / "selftest").unlink()
    (box.folder / "pin-wanted").unlink()
    os.close(device)
    process.wait_for_line("vanished")
    device = box.key_device()
    box.until(lambda: process.log.read_text().count("event3") == 2, "the device again")
    box.press(device, True)
    time.sleep(0.1)
    box.press(device, False)
    box.until(lambda: (box.run_dir / "selftest").exists(), "the self-test again")
    os.close(device)


def test_leds_that_are_there_missing_and_vanish(box: Rig) -> None:
    red, green = box.led("red"), box.led("green")
    box.config["leds"] = [
        {"lamps": ["protection"], "colours": {"red": "red", "green": "green"}},
        {"lamps": ["power"], "colours": {"green": "not-there"}},
    ]
    box.start()
    box.beat(1)
    box.shows("protection", "ok")
    box.until(lambda: (red.read_text(), green.read_text()) == ("0", "255"), "green")
    assert (red.parent / "trigger").read_text() == "none"
    (box.folder / "lamp-test").touch()
    box.until(lambda: (red.read_text(), green.read_text()) == ("255", "0"), "red of the lamp test")
    box.until(lambda: (red.read_text(), green.read_text()) == ("255", "255"), "amber of the lamp test")
    (box.folder / "lamp-test").unlink()
    shutil.rmtree(red.parent)
    box.beat(2)
    box.ticks(5)
    assert box.status()["feeding"] is True
    red = box.led("red")
    box.shows("protection", "silent")
    box.until(lambda: red.read_text() == "255", "the LED that came back")


@pytest.mark.parametrize(
    "content", ["", "{", '{"resets": 4, "leds": [{', "[]", '{"watchdog_s": "long", "leds": 5, "surprise": 1}', "\udcff"]
)
def test_a_bad_configuration_is_said_and_the_box_goes_on(box: Rig, content: str) -> None:
    """Only the commands that need no place of their own are tried here: the defaults name the real machine's."""
    argv = box.argv("check")
    (box.folder / "guardian.json").write_bytes(content.encode(errors="surrogateescape"))
    done = box.box.run(*argv)
    assert done.code == 1, done.evidence
    assert "guardian.json" in done.out, done.evidence


def test_one_bad_setting_shows_on_the_lamp(box: Rig) -> None:
    box.config["retry_s"] = "soon"
    process = box.start()
    process.wait_for_line("retry_s must be a whole number")
    box.shows("power", "config")
    box.ticks(2)
    assert set(box.fed()) == {0}


def test_its_clock_is_the_one_that_nobody_sets(box: Rig) -> None:
    """CLOCK_MONOTONIC: what the requests carry can be compared by every other process."""
    code = "import time; print(time.ticks_ms())"
    before = time.monotonic()
    said = box.box.run(*unix_port(), "-c", code).require().out
    assert before - 0.002 <= int(said) / 1000 <= time.monotonic()
