"""The trusted clock: the floor, signed time, and machines whose own clock is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.errors import HostError
from vigie.host.boxconfig import BoxConfig, Paths
from vigie.host.trusted_clock import (
    EARLIEST,
    LATEST,
    Anchor,
    ClockError,
    Kernel,
    Reading,
    Time,
    TrustedClock,
    floor_at_boot,
    judge,
    plausible,
    to_set_after_signed,
    to_set_at_boot,
)

BUILT = 1_780_000_000
Y2040 = 2_208_988_800.0
DAY = 86_400.0


class Clocks:
    """Clocks that a test moves; `may_set` False: setting needs a privilege that is not there."""

    def __init__(self, system_s: float, may_set: bool = True) -> None:
        self.now = Reading(system_s, 10.0, "boot-1", False)
        self.may_set = may_set

    def read(self) -> Reading:
        return self.now

    def set_system(self, unix_s: float) -> None:
        if not self.may_set:
            raise HostError("system clock: cannot be set (Operation not permitted); CAP_SYS_TIME is needed")
        self.now = replace(self.now, system_s=unix_s)

    def advance(self, seconds: float) -> None:
        self.now = replace(self.now, system_s=self.now.system_s + seconds, boottime_s=self.now.boottime_s + seconds)

    def reboot(self, system_s: float) -> None:
        self.now = Reading(system_s, 10.0, self.now.boot + "+", False)


def _box(folder: Path, clocks: Clocks, set_clock: bool = True, built: int | None = BUILT) -> TrustedClock:
    trust = folder / "trust"
    trust.mkdir(exist_ok=True)
    if built is not None:
        (trust / "build-time").write_text(f"{built}\n")
    paths = Paths(trust=trust, state=folder / "state", run=folder / "run")
    return TrustedClock(BoxConfig("vigie.lab", set_clock=set_clock, paths=paths), clocks)


def _reboot(clock: TrustedClock, clocks: Clocks, system_s: float) -> Time:
    clocks.reboot(system_s)
    return clock.boot()


def test_a_machine_at_1970_starts_at_the_build_time(tmp_path: Path) -> None:
    clocks = Clocks(0.0)
    clock = _box(tmp_path, clocks)
    assert clock.boot() == Time(BUILT, "floor")
    assert clocks.now.system_s == BUILT
    clocks.advance(100)
    assert clock.now() == BUILT + 100


def test_signed_time_wins_over_1970_and_is_the_floor_after_a_reboot(tmp_path: Path) -> None:
    clocks = Clocks(0.0)
    clock = _box(tmp_path, clocks)
    clock.boot()
    clock.adopt(BUILT + 30 * DAY)
    assert clock.time() == Time(BUILT + 30 * DAY, "signed") and clocks.now.system_s == BUILT + 30 * DAY
    clocks.advance(60)
    assert clock.time() == Time(BUILT + 30 * DAY + 60, "signed")
    assert _reboot(clock, clocks, 0.0) == Time(BUILT + 30 * DAY, "floor")


def test_ntp_that_says_2040_once_is_corrected_and_leaves_no_trace(tmp_path: Path) -> None:
    clocks = Clocks(BUILT + DAY)
    clock = _box(tmp_path, clocks)
    clock.boot()
    clocks.now = replace(clocks.now, system_s=Y2040, synchronised=True)
    assert clock.time() == Time(Y2040, "ntp")
    assert clock.floor() == BUILT  # only signed time moves it
    clock.adopt(BUILT + 2 * DAY)
    assert clock.time() == Time(BUILT + 2 * DAY, "signed") and clocks.now.system_s == BUILT + 2 * DAY
    clocks.now = replace(clocks.now, system_s=Y2040)  # it lies again: signed time goes on counting
    clocks.now = replace(clocks.now, boottime_s=clocks.now.boottime_s + 5)
    assert clock.time() == Time(BUILT + 2 * DAY + 5, "signed")
    assert _reboot(clock, clocks, BUILT + 3 * DAY) == Time(BUILT + 3 * DAY, "floor")


def test_where_the_clock_may_not_be_set_services_use_the_computed_time(tmp_path: Path) -> None:
    """The lab, and a box without CAP_SYS_TIME: the machine stays at 1970, `now()` is right."""
    for number, (set_clock, may_set) in enumerate([(False, True), (True, False)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        clocks = Clocks(0.0, may_set)
        clock = _box(folder, clocks, set_clock)
        assert clock.boot() == Time(BUILT, "floor")
        clock.adopt(BUILT + DAY)
        clocks.advance(7)
        assert clocks.now.system_s == 7.0
        assert clock.time() == Time(BUILT + DAY + 7, "signed")


def test_signed_time_before_the_floor_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    clocks = Clocks(BUILT + DAY)
    clock = _box(tmp_path, clocks)
    clock.boot()
    clock.adopt(BUILT + 10 * DAY)
    with pytest.raises(ClockError, match="before"):
        clock.adopt(BUILT + 9 * DAY)
    with pytest.raises(ClockError):
        clock.adopt(LATEST + 1)
    assert clock.time() == Time(BUILT + 10 * DAY, "signed") and clock.floor() == BUILT + 10 * DAY


def test_a_new_image_lifts_the_floor(tmp_path: Path) -> None:
    clocks = Clocks(0.0)
    _box(tmp_path, clocks).boot()
    later = _box(tmp_path, clocks, built=BUILT + 100)
    assert _reboot(later, clocks, 0.0) == Time(BUILT + 100, "floor")


def test_nobody_has_looked_is_unset_and_a_bundle_without_build_time_has_a_floor(tmp_path: Path) -> None:
    clocks = Clocks(12.0)
    clock = _box(tmp_path, clocks, built=None)
    assert clock.time() == Time(12.0, "unset") and clock.floor() == 0
    assert clock.boot() == Time(EARLIEST, "floor")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"floor": "x"}', '{"floor": -1}', '{"floor": 1e300}', "\xff\xff"])
def test_spoilt_files_count_as_none(tmp_path: Path, text: str) -> None:
    clocks = Clocks(0.0)
    clock = _box(tmp_path, clocks)
    clock.boot()
    (tmp_path / "state" / "clock" / "floor").write_text(text)
    (tmp_path / "run" / "enrol").mkdir(parents=True, exist_ok=True)
    (tmp_path / "run" / "enrol" / "clock.json").write_text(text)
    assert clock.floor() == BUILT
    assert clock.boot() == Time(BUILT, "floor")


def test_the_kernel_can_be_read() -> None:
    reading = Kernel().read()
    assert reading.system_s > EARLIEST and reading.boottime_s > 0 and len(reading.boot) == 36, reading


times = st.floats(0, 2 * LATEST, allow_nan=False)


@given(times, times, st.floats(0, 1e8), st.floats(0, 1e8), times, st.booleans(), st.booleans())
def test_never_before_the_floor_and_signed_never_looks_at_the_system_clock(
    system_s: float, floor: float, at: float, boottime: float, signed: float, synced: bool, same: bool
) -> None:
    anchor = Anchor(signed, at, "b" if same else "a")
    found = judge(Reading(system_s, boottime, "b", synced), floor, anchor)
    if floor > 0:
        assert found.unix_s >= floor
    if found.word == "signed":
        assert same and boottime >= at
        assert found == judge(Reading(0.0, boottime, "b", not synced), floor, anchor)
    elif floor > 0:
        assert found.unix_s == max(system_s, floor)


@given(times, times, times)
def test_the_pure_decisions_agree(build: float, saved: float, system_s: float) -> None:
    floor = floor_at_boot(build, saved)
    assert floor >= build and floor in (build, saved)
    assert (to_set_at_boot(system_s, floor) or system_s) >= floor
    assert plausible(saved, floor) == (floor <= saved < LATEST)
    assert to_set_after_signed(system_s, saved) in (None, saved)
