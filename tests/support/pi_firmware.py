"""How the Raspberry Pi 4's EEPROM boot loader picks a partition, as its documentation has it.

- autoboot.txt on the first FAT partition, at most 512 bytes, filters [all], [none] and [tryboot], the last line wins:
  https://www.raspberrypi.com/documentation/computers/config_txt.html#autoboot-txt
- the flag of `reboot "0 tryboot"` is cleared before anything is started, survives a warm reset, goes with the power;
  with tryboot_a_b=1 the partition's own config.txt is read, else tryboot.txt
- a partition starts when it is FAT and has start4.elf; partition 0 is the first one that does
- PARTITION_WALK=1 (the default since pieeprom-2025-08-13, complete since 2025-08-20: rpi-eeprom#736, #741): a partition
  that does not start is followed by the others in turn; autoboot.txt is not read again for that
The FAT is read by mtools, not by the box's own code.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from tests.support.pi_disk import BOOT, SECTOR, SELECT, Disk
from vigie.update.boot import Slot, autoboot

FAT_KINDS = frozenset({0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E})
FIRST, LAST = 1, 8
MOST = 512


class Firmware:
    """work: a folder of its own. Answers are remembered: cutting power a thousand times leaves few different disks."""

    def __init__(self, work: Path, *, walk: bool = True) -> None:
        self._walk = walk
        self._scratch = work / "disk.img"
        self._held = Disk(b"")
        self._files: dict[tuple[int, str, object], bytes | None] = {}

    def start(self, disk: Disk, flag: bool) -> Slot | None:
        """The slot whose firmware and command line are taken; None: nothing starts until the power goes."""
        partitions = self._partitions(disk)
        number, by_slot = self._wanted(disk, partitions, flag)
        if flag and not by_slot:
            return None  # tryboot.txt is asked for, which no partition of ours has; the next reset starts again
        every = range(FIRST, LAST + 1)
        others = [one for one in every if one != number] if self._walk else []
        for one in every if number == 0 else [number, *others]:
            if one in partitions and self._file(disk, partitions[one], "start4.elf") is not None:
                return next((slot for slot, place in BOOT.items() if place[0] == partitions[one][0]), None)
        return None

    def autoboot(self, disk: Disk) -> bytes | None:
        """What autoboot.txt holds."""
        partitions = self._partitions(disk)
        return self._file(disk, partitions[min(partitions)], "autoboot.txt") if partitions else None

    def _wanted(self, disk: Disk, partitions: dict[int, tuple[int, int]], flag: bool) -> tuple[int, bool]:
        """boot_partition and tryboot_a_b."""
        text = self._file(disk, partitions[min(partitions)], "autoboot.txt") if partitions else None
        said = {"boot_partition": "0", "tryboot_a_b": "0"}
        counts = True
        for line in (text or b"")[:MOST].decode("latin-1").splitlines():
            word = line.strip()
            if word.startswith("["):
                counts = word == "[all]" or (word == "[tryboot]" and flag)
            elif counts and "=" in word:
                name, value = word.split("=", 1)
                said[name] = value
        number = said["boot_partition"]
        return int(number) if number.isascii() and number.isdigit() else 0, said["tryboot_a_b"] == "1"

    def _partitions(self, disk: Disk) -> dict[int, tuple[int, int]]:
        table = disk.read(0, SECTOR)
        if table[510:512] != b"\x55\xaa":
            return {}
        found = {}
        for number in range(4):
            kind, start, size = struct.unpack_from("<4xB3xII", table, 446 + 16 * number)
            if kind in FAT_KINDS:
                found[number + 1] = (start * SECTOR, size * SECTOR)
        return found

    def _file(self, disk: Disk, place: tuple[int, int], name: str) -> bytes | None:
        if place == SELECT and disk.unreadable(*place):
            return None  # whichever sector it is: the file cannot be counted on
        key = (place[0], name, (id(disk.base), disk.key(place)))
        if key not in self._files:
            self._hold(disk)
            done = subprocess.run(
                ["mcopy", "-n", "-i", f"{self._scratch}@@{place[0]}", f"::{name}", "-"],
                capture_output=True, check=False, env={"PATH": "/usr/bin:/bin", "MTOOLS_SKIP_CHECK": "1"},
            )  # fmt: skip
            self._files[key] = done.stdout if done.returncode == 0 else None
        return self._files[key]

    def _hold(self, disk: Disk) -> None:
        """The scratch file as that disk."""
        if disk.base is not self._held.base:
            self._scratch.write_bytes(disk.base)
            self._held = Disk(disk.base)
        with self._scratch.open("r+b") as file:
            for number in {*disk.changed, *self._held.changed}:
                if disk.sector(number) != self._held.sector(number):
                    file.seek(number * SECTOR)
                    file.write(disk.sector(number))
        self._held = disk.copy()


def exact(text: bytes | None, slot: Slot) -> bool:
    """Whether autoboot.txt is what the box writes for that slot."""
    return text == autoboot.text(slot)
