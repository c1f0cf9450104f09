"""Finding the one disk that may be written: the eMMC of a CM4 that rpiboot turned into a USB disk.

Two gadgets exist (raspberrypi/usbboot): the one on Linux (`mass-storage-gadget64`, USB 0a5c:0104, SCSI vendor
`mmcblk0` for the eMMC and something else for other disks of the board; serial number of the processor, 16 digits) and
the older one (`msd`, 0a5c:0001, SCSI vendor `RPi-MSD-`, 8 digits). Before rpiboot ran, the boot ROM shows itself as
0a5c:2711.
What is not exactly that is never written, whatever the operator says: there is no option to name a device.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vigie_provisioning.errors import ProvisioningError
from vigie_provisioning.files import read_bounded

VENDOR: Final = "0a5c"
GADGETS: Final = {("0104", "mmcblk0"), ("0001", "RPi-MSD-")}
BOOT_ROM: Final = "2711"
LARGEST: Final = 130 * 10**9
"""A CM4's eMMC has 8, 16 or 32 GB; anything beyond 128 GB is somebody's disk."""
_SERIAL: Final = re.compile(r"[0-9a-f]{8,16}")


class DiskError(ProvisioningError):
    """There is no disk that may be written, or it may not be written now. The message says what to do."""

    code = "disk"


@dataclass(slots=True, frozen=True)
class Disk:
    """An eMMC over USB. usb: place of the connector (`1-2.3`); chip: last 8 digits of the processor's number."""

    name: str
    node: Path
    size: int
    usb: str
    chip: str
    number: str


class Disks:
    """What the kernel shows. sys, dev, proc: roots, for tests. any_file: a regular file may stand for the device."""

    def __init__(
        self,
        sys: Path = Path("/sys"),
        dev: Path = Path("/dev"),
        proc: Path = Path("/proc"),
        *,
        any_file: bool = False,
    ) -> None:
        self.sys = sys
        self.dev = dev
        self.proc = proc
        self.any_file = any_file

    def gadgets(self, usb: str = "") -> list[Disk]:
        """Every eMMC over USB, of one connector when `usb` says which, by its place."""
        found = [disk for disk in self._all() if not usb or disk.usb == usb]
        return sorted(found, key=lambda disk: disk.usb)

    def boot_roms(self, usb: str = "") -> list[str]:
        """Connectors where a CM4 waits for rpiboot."""
        found = []
        for folder in self._entries("bus/usb/devices"):
            if _text(folder / "idVendor") == VENDOR and _text(folder / "idProduct") == BOOT_ROM:
                found.append(folder.name)
        return sorted(place for place in found if not usb or place == usb)

    def prove(self, disk: Disk, least: int) -> None:
        """DiskError unless the disk, looked at again now, may be written with `least` bytes."""
        if disk not in self.gadgets():
            raise DiskError(f"{disk.name}: is not there any more, or is another disk now; plug the board in again")
        if not least <= disk.size <= LARGEST:
            room = f"{disk.size / 1e9:.1f} GB"
            raise DiskError(f"{disk.name}: {room}; a CM4's eMMC has between {least / 1e9:.1f} and 128 GB")
        block = self.sys / "block" / disk.name
        if _text(block / "ro") != "0":
            raise DiskError(f"{disk.name}: is read-only; take off the write protection")
        numbers = {disk.number} | {_text(part / "dev") for part in _parts(block)}
        for part in (block, *_parts(block)):
            users = [user.name for user in (part / "holders").iterdir()] if (part / "holders").is_dir() else []
            if users:
                raise DiskError(f"{part.name}: is in use by {', '.join(users)}; the station only writes unused disks")
        for number, point in self._mounted():
            if number in numbers:
                raise DiskError(
                    f"{disk.name}: mounted at {point}; unmount it (umount {point}), automounting must be off"
                )
        for name in self._swaps():
            if Path(name).name.startswith(disk.name):
                raise DiskError(f"{disk.name}: {name} is used as swap space: this is no board")

    def open(self, disk: Disk) -> int:
        """A descriptor that nobody else has (O_EXCL: the kernel refuses while a part of it is mounted). DiskError.

        What was opened is compared with what was proved: a name may have passed to another disk meanwhile.
        """
        try:
            fd = os.open(disk.node, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        except OSError as e:
            raise DiskError(f"{disk.node}: cannot be opened ({e.strerror}); is it mounted, are you root?") from e
        try:
            status = os.fstat(fd)
            if stat.S_ISBLK(status.st_mode):
                number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
                if number != disk.number:
                    raise DiskError(f"{disk.node}: is {number} now and was {disk.number}; plug the board in again")
            elif not self.any_file:
                raise DiskError(f"{disk.node}: not a block device")
            if os.lseek(fd, 0, os.SEEK_END) != disk.size:
                raise DiskError(f"{disk.node}: another size than the kernel said; plug the board in again")
        except BaseException:
            os.close(fd)
            raise
        return fd

    # -- sysfs

    def _all(self) -> Iterator[Disk]:
        for entry in self._entries("block"):
            usb = _usb_parent(entry.resolve())
            if usb is None or _text(usb / "idVendor") != VENDOR:
                continue
            if (_text(usb / "idProduct"), _text(entry / "device/vendor")) not in GADGETS:
                continue
            serial = _text(usb / "serial").lower()
            size = _text(entry / "size")
            if _SERIAL.fullmatch(serial) and size.isdigit() and int(size):
                node = self.dev / entry.name
                yield Disk(entry.name, node, int(size) * 512, usb.name, serial[-8:], _text(entry / "dev"))

    def _entries(self, folder: str) -> list[Path]:
        try:
            return sorted((self.sys / folder).iterdir())
        except FileNotFoundError:
            return []

    def _mounted(self) -> Iterator[tuple[str, str]]:
        """(major:minor, mount point) of everything that is mounted."""
        for line in read_bounded(self.proc / "self/mountinfo").decode("utf-8", "replace").splitlines():
            words = line.split()
            if len(words) > 4:
                yield words[2], words[4]

    def _swaps(self) -> list[str]:
        lines = read_bounded(self.proc / "swaps").decode("utf-8", "replace").splitlines()
        return [line.split()[0] for line in lines[1:] if line.split()]


def _usb_parent(path: Path) -> Path | None:
    """The USB device that a disk hangs on."""
    for folder in path.parents:
        if (folder / "idVendor").exists():
            return folder
    return None


def _parts(block: Path) -> list[Path]:
    return [path for path in block.iterdir() if path.name.startswith(block.name) and (path / "partition").exists()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
