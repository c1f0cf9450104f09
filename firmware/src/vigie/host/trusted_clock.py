"""What time it is, for a box whose own clock may say 1970, or what a lying NTP server told it.

Two things are kept. The **floor** (`state/clock/floor`, on disk): the last time that the department signed, never
lower than the image's build time; the present cannot be before it. The **anchor** (`run/enrol/clock.json`, gone at a
reboot): a signed time and the value of CLOCK_BOOTTIME when it came, which no clock setting moves. From it:

* with an anchor of this boot, now = signed time + what CLOCK_BOOTTIME counted since: word `signed`;
* without, now = the system clock, or the floor where the system clock is before it: word `ntp` when the kernel says
  that its clock is synchronised and it is not before the floor, else `floor`;
* `unset` while nothing has ever looked at the clock (no floor on disk, no build time).

Decisions are functions; `TrustedClock` is the shell around them. Readers (link, update) call `now()` each time they
need it; only `vigie enrol` writes.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from vigie.errors import HostError
from vigie.host.boxconfig import BoxConfig
from vigie.host.files import read_json, write_json

log = logging.getLogger("vigie.clock")

Word = Literal["unset", "floor", "signed", "ntp"]
"""How much the time is worth, as envelopes say it."""

BUILD_TIME_FILE: Final = "build-time"
"""In the trust bundle: Unix seconds, written when the image is built."""
EARLIEST: Final = 1_735_689_600
"""2025-01-01: nothing of Vigie is older. The floor of a trust bundle without a build time."""
LATEST: Final = 4_102_444_800
"""2100-01-01: a time beyond it is nobody's."""
SET_TOLERANCE_S: Final = 2.0
"""The system clock is left alone when it is this close to the signed time (NTP is the better clock then)."""
_ADJTIMEX_UNSYNC: Final = 0x0040
_ADJTIMEX_ERROR: Final = 5


@dataclass(frozen=True, slots=True)
class Anchor:
    """A signed time (Unix seconds) and CLOCK_BOOTTIME (seconds) when it was received, in the boot named."""

    unix_s: float
    boottime_s: float
    boot: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The machine's clocks at one instant. synchronised: the kernel's word about NTP."""

    system_s: float
    boottime_s: float
    boot: str
    synchronised: bool


@dataclass(frozen=True, slots=True)
class Time:
    """Unix seconds and what they are worth."""

    unix_s: float
    word: Word

    @property
    def known(self) -> bool:
        """True when it may decide that something is not valid yet; a floor only decides that something has expired."""
        return self.word == "signed"


def judge(reading: Reading, floor: float, anchor: Anchor | None) -> Time:
    """The time to believe. floor 0: nobody has looked yet."""
    if anchor is not None and anchor.boot == reading.boot and reading.boottime_s >= anchor.boottime_s:
        return Time(max(floor, anchor.unix_s + reading.boottime_s - anchor.boottime_s), "signed")
    if floor <= 0:
        return Time(reading.system_s, "unset")
    if reading.system_s < floor:
        return Time(floor, "floor")
    return Time(reading.system_s, "ntp" if reading.synchronised else "floor")


def floor_at_boot(build_time: float, saved: float) -> float:
    """max(build time, last signed time saved), whatever nonsense was saved."""
    return max(build_time, saved if EARLIEST <= saved < LATEST else 0.0)


def to_set_at_boot(system_s: float, floor: float) -> float | None:
    """What to set the system clock to at boot; None to leave it."""
    return floor if system_s < floor else None


def plausible(signed_s: float, floor: float) -> bool:
    """A signed time before the floor is a department whose clock is wrong, or an old key in a thief's hands."""
    return floor <= signed_s < LATEST


def to_set_after_signed(system_s: float, signed_s: float) -> float | None:
    """What to set the system clock to when a signed time came; None to leave it."""
    return signed_s if abs(system_s - signed_s) > SET_TOLERANCE_S else None


class Machine(Protocol):
    """The clocks of a machine; `Kernel` is the real one."""

    def read(self) -> Reading:
        """All clocks at once."""

    def set_system(self, unix_s: float) -> None:
        """Sets the system clock. HostError when that is not allowed."""


class Kernel:
    """This machine's clocks."""

    def read(self) -> Reading:
        """All clocks at once."""
        return Reading(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), boot_id(), _synchronised())

    def set_system(self, unix_s: float) -> None:
        """Sets CLOCK_REALTIME (CAP_SYS_TIME)."""
        try:
            time.clock_settime(time.CLOCK_REALTIME, unix_s)
        except OSError as e:
            raise HostError(f"system clock: cannot be set ({e.strerror}); CAP_SYS_TIME is needed") from e


def boot_id() -> str:
    """The kernel's name for this boot; "" where there is none."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _synchronised() -> bool:
    """True when the kernel's clock is disciplined by NTP (adjtimex(2), mode 0: reading only)."""
    buffer = ctypes.create_string_buffer(256)  # struct timex has 208 bytes on 64-bit machines; modes = 0 at offset 0
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return False
    # struct timex on 64 bits: int modes; long offset, freq, maxerror, esterror; int status
    status = int.from_bytes(buffer.raw[40:44], "little")
    return 0 <= state < _ADJTIMEX_ERROR and not status & _ADJTIMEX_UNSYNC


class ClockReader:
    """The trusted clock, to read. state: the box's state folder; run: its folder of this boot; trust: its bundle.

    Never raises: what cannot be read counts as not there.
    """

    def __init__(self, state: Path, run: Path, trust: Path, machine: Machine | None = None) -> None:
        self._floor_path = state / "clock" / "floor"
        self._anchor_path = run / "enrol" / "clock.json"
        self._build_path = trust / BUILD_TIME_FILE
        self._machine = machine or Kernel()

    def time(self) -> Time:
        """The time and its worth."""
        return judge(self._machine.read(), self.floor(), self._anchor())

    def now(self) -> float:
        """Unix seconds to judge expiries by."""
        return self.time().unix_s

    def word(self) -> Word:
        """The word for envelopes."""
        return self.time().word

    def floor(self) -> float:
        """Unix seconds before which nothing can be; 0 when nobody has looked yet."""
        return floor_at_boot(self._build_time(), self._saved())

    def _saved(self) -> float:
        value = _json(self._floor_path).get("floor", 0)
        return float(value) if isinstance(value, int) and EARLIEST <= value < LATEST else 0.0

    def _anchor(self) -> Anchor | None:
        value = _json(self._anchor_path)
        unix_s, boottime_s, boot = value.get("unix_s"), value.get("boottime_s"), value.get("boot")
        if isinstance(unix_s, int | float) and isinstance(boottime_s, int | float) and isinstance(boot, str) and boot:
            return Anchor(float(unix_s), float(boottime_s), boot)
        return None

    def _build_time(self) -> float:
        with contextlib.suppress(OSError, ValueError):
            value = int(self._build_path.read_bytes()[:32])
            return float(value) if EARLIEST <= value < LATEST else 0.0
        return 0.0


class TrustedClock(ClockReader):
    """The trusted clock of the box with this configuration. `boot` and `adopt` are for `vigie enrol` alone."""

    def __init__(self, config: BoxConfig, machine: Machine | None = None) -> None:
        super().__init__(config.paths.state, config.paths.run, config.paths.trust, machine)
        self._set_clock = config.set_clock

    def boot(self) -> Time:
        """At the start of `vigie enrol`: the floor in force, the system clock not before it. A clock that may not be
        set is no error: services use `now()`. HostError when the floor cannot be kept."""
        floor = floor_at_boot(self._build_time() or EARLIEST, self._saved())
        if floor > self._saved():
            self._save(floor)
        wanted = to_set_at_boot(self._machine.read().system_s, floor)
        if wanted is not None:
            self._set(wanted)
        return self.time()

    def adopt(self, signed_s: float) -> None:
        """A time whose signature was verified and that answers a nonce of ours: anchor, floor, system clock.

        Raises ClockError when it is before the floor. The caller has checked that it lies within the validity of the
        certificate that signed it: a department whose clock says 2040 cannot push the floor there.
        """
        floor = self.floor()
        if not plausible(signed_s, floor):
            raise ClockError(
                f"signed time {signed_s:.0f} is before {floor:.0f}, the latest this box knows: the authority's "
                "clock is wrong, or this is not the authority"
            )
        reading = self._machine.read()
        anchor = {"unix_s": signed_s, "boottime_s": reading.boottime_s, "boot": reading.boot}
        write_json(self._anchor_path, anchor)
        self._save(signed_s)
        wanted = to_set_after_signed(reading.system_s, signed_s)
        if wanted is not None:
            self._set(wanted)

    def _set(self, unix_s: float) -> None:
        if not self._set_clock:
            return
        try:
            self._machine.set_system(unix_s)
            log.warning("system clock set to %d", unix_s)
        except HostError as e:
            log.error("%s", e)

    def _save(self, floor: float) -> None:
        write_json(self._floor_path, {"floor": int(floor)})


class ClockError(HostError):
    """A signed time that cannot be the present."""


def _json(path: Path) -> dict[str, object]:
    with contextlib.suppress(HostError):
        return read_json(path) or {}
    return {}
