"""What QEMU's blklogwrites recorded of a disk: the format of Linux's dm-log-writes.

https://docs.kernel.org/admin-guide/device-mapper/log-writes.html. Little endian, in sectors of the size that the first
one tells: a header, then for each entry a sector that describes it, followed by what was written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vm.errors import VmError

MAGIC = 0x6A736677736872
SUPER = struct.Struct("<QQQL")
ENTRY = struct.Struct("<QQQQ")
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Entry:
    """In bytes. flush: everything before it is on the disk first; fua: it is itself when the next entry begins."""

    offset: int
    data: bytes
    flush: bool = False
    fua: bool = False
    discarded: int = 0
    """bytes given back from `offset` on"""


def entries(log: Path) -> Iterator[Entry]:
    """In the order in which they were issued. Raises VmError when it is no such log, or ends too early."""
    with log.open("rb") as file:
        head = file.read(SUPER.size)
        if len(head) < SUPER.size:
            raise VmError(f"{log}: too short for a log of writes")
        magic, version, count, sector = SUPER.unpack(head)
        if magic != MAGIC or version != 1 or sector < ENTRY.size or sector & (sector - 1):
            raise VmError(f"{log}: not a log of writes (QEMU's blklogwrites, version 1)")
        place = sector
        for number in range(count):
            file.seek(place)
            described = file.read(ENTRY.size)
            if len(described) < ENTRY.size:
                raise VmError(f"{log}: ends before entry {number} of {count}")
            at, sectors, flags, _ = ENTRY.unpack(described)
            file.seek(place + sector)
            length = sectors * sector
            stored = 0 if flags & (DISCARD | MARK) else length
            data = file.read(stored)
            if len(data) < stored:
                raise VmError(f"{log}: ends within entry {number} of {count}")
            place += sector + stored
            discarded = length if flags & DISCARD else 0
            yield Entry(at * sector, data, bool(flags & FLUSH), bool(flags & FUA), discarded)
