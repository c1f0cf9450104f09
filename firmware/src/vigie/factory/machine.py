"""The board as the factory sees it: files of sysfs and proc below a root, and the few things that are not files.

The paths are those of the kernel's documentation (Documentation/ABI: sysfs-class-led, sysfs-class-net, thermal) and,
for the processor's number and the reset register, of Raspberry Pi's device tree (chosen/bootloader).
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import subprocess
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from typing import Final, Protocol

from vigie.contract.bench import Code
from vigie.errors import HostError
from vigie.factory import frames
from vigie.factory.errors import FactoryError
from vigie.host.files import read_small

_WDIOC_SETTIMEOUT: Final = 0xC0045706
_HELD_S: Final = 30
_POWER_ON_RESET: Final = 0x1000  # PM_RSTS.HADPOR
_SMALL_FILE: Final = 64 * 1024
_KEY_BYTES: Final = 96  # KEY_MAX is 0x2ff
_EVIOCGKEY: Final = 0x80000000 | _KEY_BYTES << 16 | 0x4518


@dataclass(frozen=True, slots=True)
class Port:
    """An Ethernet port. speed: Mb/s, 0 when unknown."""

    name: str
    carrier: bool
    speed: int
    mac: str


class Machine(Protocol):
    """What the tests and the report need. `Board` is the real one."""

    root: Path

    def read(self, path: str) -> str:
        """A small file without its end, "" when there is none."""

    def boot_id(self) -> str:
        """Changes with each start."""

    def chip(self) -> str:
        """Last 8 hex digits of the processor's serial number."""

    def power_on(self) -> bool | None:
        """Whether this start followed a loss of power; None where the board does not say."""

    def ports(self) -> list[Port]:
        """The Ethernet ports, in the order of their places."""

    def exchange(self, sender: str, receiver: str, count: int) -> int:
        """Sends `count` frames out of one port; how many came in at the other, unchanged."""

    def quiet(self, bridge: str, on: bool) -> None:
        """Takes the bridge down while frames are counted, and up again."""

    def feed_watchdog(self) -> None:
        """Holds the watchdog and feeds it, until it is armed: the kernel resets a board where nobody ever opens it."""

    def arm_watchdog(self, seconds: int) -> None:
        """Never feeds the watchdog again. FactoryError."""

    def pressed(self) -> bool | None:
        """Whether the button is down; None without a button."""

    def set_led(self, name: str, on: bool) -> None:
        """Lights an LED. FactoryError."""

    def restart(self) -> None:
        """Restarts the board in an orderly way."""


class Board:
    """The machine that this program runs on. root: "/" but for tests. button: its key code (linux/input.h), or None."""

    def __init__(self, root: Path = Path("/"), button: int | None = None) -> None:
        self.root = root
        self._button = button
        self._keys: int | None = None
        self._watchdog: int | None = None
        self._armed = False

    def read(self, path: str) -> str:
        """A small file without its end, "" when there is none or it cannot be read."""
        with contextlib.suppress(HostError):
            data = read_small(self.root / path, _SMALL_FILE)
            return (data or b"").decode("utf-8", "replace").rstrip("\0\n ")
        return ""

    def boot_id(self) -> str:
        """The kernel's random number of this start."""
        return self.read("proc/sys/kernel/random/boot_id").replace("-", "").lower()[:32] or "00000000"

    def chip(self) -> str:
        """Of the device tree; on a machine without one, of the firmware's tables, else zeros."""
        for path in ("proc/device-tree/serial-number", "sys/class/dmi/id/product_serial"):
            digits = re.sub(r"[^0-9a-f]", "", self.read(path).lower())
            if len(digits) >= 8:
                return digits[-8:]
        return "00000000"

    def power_on(self) -> bool | None:
        """Of the reset register, which the boot loader leaves in the device tree (a big-endian word)."""
        for name in ("rsts", "pm_rsts"):
            with contextlib.suppress(HostError):
                data = read_small(self.root / "proc/device-tree/chosen/bootloader" / name)
                if data is not None and len(data) == 4:
                    return bool(struct.unpack(">I", data)[0] & _POWER_ON_RESET)
        return None

    def ports(self) -> list[Port]:
        """Interfaces with a device of their own, Ethernet, not wireless, sorted by the place of the device."""
        found = []
        folder = self.root / "sys/class/net"
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        for name in names:
            base = f"sys/class/net/{name}"
            here = self.root / base
            if not (here / "device").exists() or self.read(f"{base}/type") != "1" or (here / "wireless").exists():
                continue
            speed = self.read(f"{base}/speed")
            port = Port(
                name,
                self.read(f"{base}/carrier") == "1",
                int(speed) if speed.isdigit() else 0,
                self.read(f"{base}/address"),
            )
            found.append((str((here / "device").resolve()), port))
        return [port for _place, port in sorted(found, key=lambda item: item[0])]

    def exchange(self, sender: str, receiver: str, count: int) -> int:
        """Over packet sockets, which see a frame before the bridge does."""
        return frames.exchange(sender, receiver, count)

    def quiet(self, bridge: str, on: bool) -> None:
        """The ports stay up."""
        if (self.root / "sys/class/net" / bridge).exists():
            frames.set_up(bridge, not on)

    def feed_watchdog(self) -> None:
        """In the factory the guardian does not run. Without a watchdog nothing happens; its test says so."""
        if self._armed:
            return
        with contextlib.suppress(OSError):
            if self._watchdog is None:
                self._watchdog = self._open_watchdog(_HELD_S)
            os.write(self._watchdog, b"\0")

    def _open_watchdog(self, seconds: int) -> int:
        fd = os.open(self.root / "dev/watchdog", os.O_WRONLY | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # another timeout than asked for is a watchdog all the same
            ioctl(fd, _WDIOC_SETTIMEOUT, struct.pack("i", seconds))
        return fd

    def arm_watchdog(self, seconds: int) -> None:
        """The file stays open until the reset: closing it could stop the watchdog."""
        try:
            if self._watchdog is None:
                self._watchdog = self._open_watchdog(seconds)
            ioctl(self._watchdog, _WDIOC_SETTIMEOUT, struct.pack("i", seconds))
            self._armed = True
        except FileNotFoundError as e:
            raise FactoryError(Code.WATCHDOG_NONE, f"{e.filename}: there is none") from e
        except OSError as e:
            code = Code.WATCHDOG_BUSY if e.errno == 16 else Code.WATCHDOG_NONE
            raise FactoryError(code, f"watchdog: {e.strerror}") from e

    def pressed(self) -> bool | None:
        """The key's state as the kernel has it now."""
        if self._button is None:
            return None
        try:
            if self._keys is None:
                device = _find_key(self.root, self._button)
                if device is None:
                    raise FactoryError(Code.BUTTON_NONE, f"no input device has the key {self._button}")
                self._keys = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
            state = bytearray(_KEY_BYTES)
            ioctl(self._keys, _EVIOCGKEY, state)
            return bool(state[self._button // 8] >> self._button % 8 & 1)
        except OSError as e:
            raise FactoryError(Code.BUTTON_NONE, f"key {self._button}: {e.strerror}") from e

    def set_led(self, name: str, on: bool) -> None:
        """Its trigger is taken off first: the kernel would blink it otherwise."""
        folder = self.root / "sys/class/leds" / name
        try:
            most = (folder / "max_brightness").read_text().strip() or "1"
            if (folder / "trigger").exists():
                (folder / "trigger").write_text("none")
            (folder / "brightness").write_text(most if on else "0")
        except OSError as e:
            raise FactoryError(Code.LEDS_NONE, f"{folder}: {e.strerror}") from e

    def restart(self) -> None:
        """By systemd, so that the file systems are clean. HostError when it refuses: somebody must cut the power."""
        os.sync()
        try:
            done = subprocess.run(["systemctl", "reboot"], check=False, capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired) as e:
            raise HostError(f"systemctl reboot: {e}; switch the board off and on") from e
        if done.returncode != 0:
            raise HostError(f"systemctl reboot: {done.stderr.strip()[:200]}; switch the board off and on")


def _find_key(root: Path, code: int) -> Path | None:
    """The input device that has a key (capabilities/key: words of 64 bits in hex, the highest first)."""
    for device in sorted((root / "sys/class/input").glob("event*")):
        with contextlib.suppress(OSError, ValueError):
            words = (device / "device/capabilities/key").read_text().split()
            bits = sum(int(word, 16) << (64 * place) for place, word in enumerate(reversed(words)))
            if bits >> code & 1:
                return root / "dev/input" / device.name
    return None
