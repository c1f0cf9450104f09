"""Just enough of FAT16 to find one file of one sector, and to make its partition anew when that cannot be found.

Partition 1 is never mounted for writing: a mount alone rewrites its first sector (docs/adr/0022).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .storage import SECTOR

NAME: Final = b"AUTOBOOTTXT"
ENTRY: Final = 32
DIRECTORY_OR_LABEL: Final = 0x18
LAST: Final = 0xFFF8
"""and above: the cluster is the last one of its file"""
# As board/common makes partition 1; `blank` writes the same.
SECTORS: Final = 32768
RESERVED, CLUSTER, FATS, ROOT_ENTRIES, FAT_SECTORS, MEDIA = 4, 4, 2, 512, 32, 0xF8
LABEL: Final = b"VIGIE-SEL  "

Read = Callable[[int, int], bytes]
"""offset and length in bytes, whole sectors"""


class NotFound(Exception):
    """No such file system, or no such file in it. The text says which."""


@dataclass(frozen=True, slots=True)
class Place:
    """Of the file's only sector, in bytes from the start of the partition; `length` of the file."""

    offset: int
    length: int


def find(read: Read) -> Place:
    """autoboot.txt in the root folder. Raises NotFound, and what `read` raises.

    All of the FAT that a boot loader might look at is read, so that a sector that cannot be read is met here.
    """
    first = read(0, SECTOR)
    size, cluster, reserved, fats, entries, _, _, fat = struct.unpack_from("<HBHBHHBH", first, 11)
    if first[510:512] != b"\x55\xaa" or size != SECTOR or cluster == 0 or fats == 0 or entries == 0 or fat == 0:
        raise NotFound("no FAT16")
    root = (reserved + fats * fat) * SECTOR
    data = root + -(-entries * ENTRY // SECTOR) * SECTOR
    if data > SECTORS * SECTOR:
        raise NotFound("no FAT16 of that size")
    head = read(0, data)
    start, length = _entry(head[root:])
    place = data + (start - 2) * cluster * SECTOR
    if start < 2 or not 0 < length <= SECTOR or place >= SECTORS * SECTOR:
        raise NotFound("autoboot.txt lies nowhere")
    for table in range(reserved * SECTOR, root, fat * SECTOR):
        (after,) = struct.unpack_from("<H", head, table + 2 * start)
        if after < LAST:
            raise NotFound("autoboot.txt does not end where it begins")
    read(place, cluster * SECTOR)
    return Place(place, length)


def _entry(folder: bytes) -> tuple[int, int]:
    """First cluster and length."""
    for at in range(0, len(folder), ENTRY):
        entry = folder[at : at + ENTRY]
        if entry[0] == 0:
            break
        if entry[:11] == NAME and not entry[11] & DIRECTORY_OR_LABEL:
            start, length = struct.unpack_from("<HI", entry, 26)
            return start, length
    raise NotFound("no autoboot.txt")


def blank(content: bytes) -> list[tuple[int, bytes]]:
    """Offset and bytes of a new file system with `content` as its autoboot.txt: in this order."""
    first = bytearray(SECTOR)
    first[:11] = b"\xeb\x3c\x90mkfs.fat"
    shape = (SECTOR, CLUSTER, RESERVED, FATS, ROOT_ENTRIES, SECTORS, MEDIA, FAT_SECTORS, 32, 2, 0, 0)
    struct.pack_into("<HBHBHHBHHHII", first, 11, *shape)
    first[36:39] = b"\x80\x00\x29"
    first[39:43] = b"SGIV"
    first[43:62] = LABEL + b"FAT16   "
    first[510:512] = b"\x55\xaa"
    table = struct.pack("<HHH", 0xFF00 | MEDIA, 0xFFFF, 0xFFFF).ljust(FAT_SECTORS * SECTOR, b"\0")
    entry = NAME + b"\x20" + bytes(14) + struct.pack("<HI", 2, len(content))
    label = (LABEL + b"\x08").ljust(ENTRY, b"\0")
    root = (RESERVED + FATS * FAT_SECTORS) * SECTOR
    folder = (label + entry).ljust(ROOT_ENTRIES * ENTRY, b"\0")
    return [
        (root + len(folder), content.ljust(CLUSTER * SECTOR, b"\0")),
        (root, folder),
        *(((RESERVED + number * FAT_SECTORS) * SECTOR, table) for number in range(FATS)),
        (0, bytes(first).ljust(RESERVED * SECTOR, b"\0")),
    ]
