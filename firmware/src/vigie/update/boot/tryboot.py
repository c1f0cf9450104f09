"""The Raspberry Pi's firmware: autoboot.txt on partition 1, and a one-shot flag that a restart carries.

A commit is one write of one sector, straight to the disk: the file's two digits change places. Nothing of the FAT is
touched, so nothing of it can be torn. docs/adr/0022 has the other ways that were measured, with counts of power cuts.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from . import autoboot, fat
from .chain import BootError, Slot, other
from .storage import SECTOR, Storage

ARGUMENT: Final = "0 tryboot"
"""of reboot(2): the default partition, with the flag"""
FALLS_TO: Final[Slot] = "A"
"""what the firmware takes when partition 1 tells it nothing: the first partition that can be started"""


class Tryboot:
    """device: partition 1."""

    def __init__(self, device: Path, storage: Storage) -> None:
        self._device = device
        self._storage = storage

    def committed(self, running: Slot) -> Slot:
        try:
            return autoboot.ordinary(self._content()) or FALLS_TO
        except fat.NotFound:
            return FALLS_TO

    def commit(self, slot: Slot, fallback: bool) -> None:
        """fallback: the firmware counts no starts, and takes what it finds."""
        wanted = autoboot.text(slot)
        if self._has(wanted):
            return
        try:
            place = fat.find(self._read)
            if place.length < len(wanted):
                raise fat.NotFound("an autoboot.txt that is too short")
            writes = [(place.offset, wanted.ljust(place.length, b"\n").ljust(SECTOR, b"\0"))]
        except fat.NotFound:
            writes = fat.blank(wanted)
        for offset, data in writes:
            self._write(offset, data)
        if not self._has(wanted):
            raise BootError(f"{self._device}: reads back otherwise than it was written; the flash may be worn out")

    def arm(self, slot: Slot) -> str:
        self.commit(other(slot), fallback=False)  # writes only what is damaged
        return ARGUMENT

    def _has(self, wanted: bytes) -> bool:
        try:
            return self._content().rstrip(b"\n") == wanted.rstrip(b"\n")
        except fat.NotFound:
            return False

    def _content(self) -> bytes:
        place = fat.find(self._read)
        return self._read(place.offset, SECTOR)[: place.length]

    def _read(self, offset: int, length: int) -> bytes:
        try:
            return self._storage.read_sectors(self._device, offset, length)
        except OSError as error:
            if error.errno == errno.EIO:  # a sector that was torn: neither the firmware can read it
                raise fat.NotFound("a sector that cannot be read") from error
            raise BootError(f"{self._device}: cannot be read ({error.strerror})") from error

    def _write(self, offset: int, data: bytes) -> None:
        try:
            self._storage.write_sectors(self._device, offset, data)
        except OSError as error:
            raise BootError(f"{self._device}: cannot be written ({error.strerror})") from error
