"""A CM4's flash in little: MBR, partition 1 as board/common makes it, two boot partitions, two root partitions.

Contents of two releases are known byte for byte, so that "wholly old or wholly new" is a comparison.
"""

from __future__ import annotations

import random
import struct
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from vigie.update.boot import Slot, autoboot

SECTOR = 512
PAGE = 4096
KIB = 1024
SELECT = (1024 * KIB, 16384 * KIB)
BOOT: dict[Slot, tuple[int, int]] = {"A": (17408 * KIB, 256 * KIB), "B": (17664 * KIB, 256 * KIB)}
ROOT: dict[Slot, tuple[int, int]] = {"A": (18432 * KIB, 128 * KIB), "B": (18560 * KIB, 128 * KIB)}
SIZE = 19 * 1024 * KIB
OLD, NEW = 1, 2
SIGNATURE = 0x76696769


@dataclass
class Disk:
    """Sectors over an image that never changes. bad: those that a torn write left unreadable."""

    base: bytes
    changed: dict[int, bytes] = field(default_factory=dict)
    bad: set[int] = field(default_factory=set)

    def copy(self) -> Disk:
        return Disk(self.base, dict(self.changed), set(self.bad))

    def sector(self, number: int) -> bytes:
        return self.changed.get(number) or self.base[number * SECTOR : (number + 1) * SECTOR]

    def read(self, offset: int, length: int) -> bytes:
        """Whole sectors, bad ones as they may be: who cares looks at `bad` first."""
        first, count = offset // SECTOR, length // SECTOR
        data = bytearray(self.base[offset : offset + length])
        for number in range(first, first + count):
            if number in self.changed:
                at = (number - first) * SECTOR
                data[at : at + SECTOR] = self.changed[number]
        return bytes(data)

    def write(self, offset: int, data: bytes) -> None:
        """Whole sectors."""
        for at in range(0, len(data), SECTOR):
            number = (offset + at) // SECTOR
            self.changed[number] = data[at : at + SECTOR]
            self.bad.discard(number)

    def unreadable(self, offset: int, length: int) -> bool:
        return any(offset <= number * SECTOR < offset + length for number in self.bad)

    def key(self, place: tuple[int, int]) -> frozenset[tuple[int, bytes]]:
        """Equal for equal contents of a partition, as a rule; different for different ones, always."""
        first, last = place[0] // SECTOR, (place[0] + place[1]) // SECTOR
        return frozenset((number, data) for number, data in self.changed.items() if first <= number < last)


@cache
def release(version: int) -> tuple[bytes, bytes]:
    """Boot partition and root file system of a release, as its bundle carries them."""
    chance = random.Random(version)
    root = chance.randbytes(ROOT["A"][1])
    files = {
        "start4.elf": chance.randbytes(40 * KIB), "fixup4.dat": chance.randbytes(KIB),
        "Image": chance.randbytes(99 * KIB),
        "config.txt": b"arm_64bit=1\n", "cmdline-A.txt": b"rauc.slot=A\n", "cmdline-B.txt": b"rauc.slot=B\n",
    }  # fmt: skip
    return file_system(BOOT["A"][1], 12, files), root


def file_system(size: int, bits: int, files: dict[str, bytes]) -> bytes:
    """A FAT made by mkfs.fat and mtools, as the image's are."""
    with TemporaryDirectory() as name:
        image = Path(name) / "image"
        image.write_bytes(bytes(size))
        command(["mkfs.fat", "--invariant", "-F", str(bits), "-n", "VIGIE", str(image)])
        for file, content in files.items():
            (Path(name) / "file").write_bytes(content)
            command(["mcopy", "-i", str(image), str(Path(name) / "file"), f"::{file}"])
        return image.read_bytes()


def command(argv: list[str]) -> bytes:
    return subprocess.run(argv, capture_output=True, check=True).stdout


@cache
def _flashed(committed: Slot, select: bytes | None) -> bytes:
    disk = bytearray(SIZE)
    kinds = ((0x0E, SELECT), (0x0C, BOOT["A"]), (0x0C, BOOT["B"]), (0x05, (18176 * KIB, SIZE - 18176 * KIB)))
    struct.pack_into("<I", disk, 440, SIGNATURE)
    for number, (kind, (start, size)) in enumerate(kinds):
        struct.pack_into("<B3xB3xII", disk, 446 + 16 * number, 0, kind, start // SECTOR, size // SECTOR)
    disk[510:512] = b"\x55\xaa"
    select = select or file_system(SELECT[1], 16, {"autoboot.txt": autoboot.text(committed)})
    boot, root = release(OLD)
    for place, data in (
        (SELECT, select),
        *((BOOT[slot], boot) for slot in BOOT),
        *((ROOT[slot], root) for slot in ROOT),
    ):
        disk[place[0] : place[0] + place[1]] = data
    return bytes(disk)


def flashed(committed: Slot = "A", select: bytes | None = None) -> Disk:
    """Both slots hold the old release. select: another partition 1."""
    return Disk(_flashed(committed, select))


def version(disk: Disk, slot: Slot) -> int | None:
    """Of the release that a slot holds, whole; None when it holds none."""
    held = disk.read(*BOOT[slot]), disk.read(*ROOT[slot])
    if any(disk.unreadable(*place) for place in (BOOT[slot], ROOT[slot])):
        return None
    return next((number for number in (OLD, NEW) if held == release(number)), None)
