"""The board tries itself: each test is a generator that says how far it is and returns an Outcome.

Between two steps the program listens to its line. A test never takes more than it says: `steps` bounds all of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from vigie.contract.bench import Code, Outcome, Test
from vigie.factory.errors import FactoryError
from vigie.factory.keeping import Keeping
from vigie.factory.machine import Machine

Progress = tuple[int, int]
Running = Generator[Progress, None, Outcome]

FRAMES: Final = 200
SPEED: Final = 1000
TRIAL: Final = 8 << 20
BUTTON_S: Final = 60.0
LEDS_S: Final = 1.0
ROUNDS: Final = 3
STEP_S: Final = 0.1
WATCHDOG_S: Final = 10
CELSIUS: Final = (2.0, 75.0)
LIFE_MOST: Final = 3
"""Of 11 classes of 10 % of the life that the maker estimates (JEDEC 84-B51, EXT_CSD 268, 269): up to 30 % used."""
_UNDERVOLTAGE: Final = 0x10001


@dataclass(frozen=True, slots=True)
class Bench:
    """What the tests work on. data: a folder on the large partition; leds: names in /sys/class/leds, in their order on
    the case; bridge: of the two ports; wait: pauses between two looks at the button or two LEDs."""

    machine: Machine
    keeping: Keeping
    data: Path
    leds: tuple[str, ...]
    wait: Callable[[float], None]
    bridge: str = "br0"
    watchdog_s: int = WATCHDOG_S


def temperature(bench: Bench) -> Running:
    """Of the processor; and whether its supply ever sagged."""
    yield 0, 1
    text = bench.machine.read("sys/class/thermal/thermal_zone0/temp")
    if not text.lstrip("-").isdigit():
        return Outcome(False, Code.NO_SENSOR, "thermal_zone0 does not answer")
    celsius = int(text) / 1000
    throttled = bench.machine.read("sys/devices/platform/soc/soc:firmware/get_throttled")
    figures = {"celsius": celsius, "throttled": throttled}
    low, high = CELSIUS
    if not low <= celsius <= high:
        return Outcome(False, Code.HOT if celsius > high else Code.COLD, f"{celsius:.1f} °C", figures)
    if throttled and int(throttled, 16) & _UNDERVOLTAGE:
        return Outcome(False, Code.UNDERVOLTAGE, f"get_throttled {throttled}", figures)
    return Outcome(True, figures=figures)


def emmc(bench: Bench) -> Running:
    """The wear that the eMMC admits, and 8 MiB written and read back from the disk."""
    yield 0, 3
    read = bench.machine.read
    base = "sys/block/mmcblk0/device"
    name = read(f"{base}/name")
    if not name:
        return Outcome(False, Code.EMMC_NONE, "mmcblk0 is not there")
    life = [int(word, 16) for word in read(f"{base}/life_time").split()]
    end = int(read(f"{base}/pre_eol_info") or "0", 16)
    sectors = read("sys/block/mmcblk0/size")
    figures = {
        "name": name,
        "firmware": read(f"{base}/fwrev"),
        "made": read(f"{base}/date"),
        "life": life,
        "pre_eol": end,
        "bytes": int(sectors or 0) * 512,
    }
    if end > 1 or any(used > LIFE_MOST for used in life):
        return Outcome(False, Code.EMMC_WORN, f"life {life}, pre-EOL {end}", figures)
    yield 1, 3
    mounts = [line.split() for line in read("proc/mounts").splitlines()]
    if not any(words[1:2] == ["/data"] and words[0].startswith("/dev/") for words in mounts):
        return Outcome(False, Code.DISK, "/data is not a partition of the eMMC", figures)
    file = bench.data / "factory-trial"
    content = os.urandom(TRIAL)
    try:
        _write(file, content)
        yield 2, 3
        same = hashlib.sha256(_read(file)).digest() == hashlib.sha256(content).digest()
    except OSError as e:
        full = e.errno in (28, 122)
        return Outcome(False, Code.DISK_FULL if full else Code.DISK, f"{file}: {e.strerror}", figures)
    finally:
        file.unlink(missing_ok=True)
    return Outcome(same, "" if same else Code.EMMC_READ_BACK, "", figures)


def nics(bench: Bench) -> Running:
    """Frames over the loop cable, both ways, none lost, at full speed."""
    yield 0, 3
    ports = bench.machine.ports()
    figures: dict[str, object] = {"ports": [[p.name, p.mac, p.speed] for p in ports]}
    if len(ports) != 2:
        return Outcome(False, Code.PORTS_COUNT, f"{len(ports)} Ethernet ports, 2 are expected", figures)
    for port in ports:
        if not port.carrier:
            return Outcome(False, Code.PORT_NO_LINK, f"{port.name}: no cable", figures)
    one, other = ports
    bench.machine.quiet(bench.bridge, True)
    try:
        for step, (sender, receiver) in enumerate(((one, other), (other, one)), 1):
            yield step, 3
            came = bench.machine.exchange(sender.name, receiver.name, FRAMES)
            figures[f"{sender.name}>{receiver.name}"] = came
            if came != FRAMES:
                detail = f"{came} of {FRAMES} frames from {sender.name} reached {receiver.name}"
                return Outcome(False, Code.FRAMES_LOST, detail, figures)
    finally:
        bench.machine.quiet(bench.bridge, False)
    for port in ports:
        if port.speed < SPEED:
            return Outcome(False, Code.PORT_SLOW, f"{port.name}: {port.speed} Mb/s", figures)
    return Outcome(True, figures=figures)


def leds(bench: Bench) -> Running:
    """One after the other, three rounds. Whether they shone is for the person at the station to say."""
    if not bench.leds:
        return Outcome(False, Code.LEDS_NONE, "the board's configuration names no LED")
    steps = ROUNDS * len(bench.leds)
    try:
        for name in bench.leds:
            bench.machine.set_led(name, False)
        for step in range(steps):
            yield step, steps
            name = bench.leds[step % len(bench.leds)]
            bench.machine.set_led(name, True)
            bench.wait(LEDS_S)
            bench.machine.set_led(name, False)
    except FactoryError as e:
        return Outcome(False, e.code, str(e))
    return Outcome(True, figures={"leds": list(bench.leds)})


def button(bench: Bench) -> Running:
    """Pressed and let go within a minute."""
    steps = int(BUTTON_S / STEP_S)
    try:
        down = bench.machine.pressed()
        if down is None:
            return Outcome(False, Code.BUTTON_NONE, "the board's configuration names no button")
        begun_down, was_down = down, False
        for step in range(steps):
            yield step, steps
            down = bool(bench.machine.pressed())
            begun_down = begun_down and down
            if down and not begun_down:
                was_down = True
            if was_down and not down:
                return Outcome(True, figures={"seconds": round(step * STEP_S, 1)})
            bench.wait(STEP_S)
    except FactoryError as e:
        return Outcome(False, e.code, str(e))
    stuck = begun_down or was_down
    return Outcome(False, Code.BUTTON_STUCK if stuck else Code.BUTTON_SILENT, f"{BUTTON_S:.0f} s")


def watchdog(bench: Bench) -> Running:
    """Armed and not fed. The answer says so; that the board is reset shows in its next hello."""
    yield 0, 1
    boot = bench.machine.boot_id()
    bench.keeping.arm(boot)
    try:
        bench.machine.arm_watchdog(bench.watchdog_s)
    except FactoryError as e:
        bench.keeping.disarm()
        return Outcome(False, e.code, str(e))
    return Outcome(True, figures={"boot": boot, "seconds": bench.watchdog_s})


TESTS: Final[Mapping[Test, Callable[[Bench], Running]]] = MappingProxyType(
    {
        Test.TEMPERATURE: temperature,
        Test.EMMC: emmc,
        Test.NICS: nics,
        Test.LEDS: leds,
        Test.BUTTON: button,
        Test.WATCHDOG: watchdog,
    }
)


def _write(file: Path, content: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return stream.read(TRIAL + 1)
