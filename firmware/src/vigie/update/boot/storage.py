"""Every step that reaches the disk, one method each: power cuts are tested between any two of them."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from vigie.host.files import SMALL, read_small, sync_folder

SECTOR: Final = 512


class Storage(Protocol):
    """Raises OSError or HostError; what was not done is not on the disk."""

    def read(self, path: Path) -> bytes | None:
        """A small file; None when there is none."""
        ...

    def write(self, path: Path, data: bytes) -> None:
        """Creates or replaces a file; on the disk only after `sync` of it and, when new, `sync_folder`."""
        ...

    def sync(self, path: Path) -> None:
        """fsync of a file."""
        ...

    def rename(self, path: Path, to: Path) -> None:
        """Replaces `to`; on the disk only after `sync_folder`."""
        ...

    def sync_folder(self, path: Path) -> None:
        """fsync of a folder."""
        ...

    def read_sectors(self, device: Path, offset: int, length: int) -> bytes:
        """Of a block device, past every cache. Multiples of 512."""
        ...

    def write_sectors(self, device: Path, offset: int, data: bytes) -> None:
        """In one request, on the disk before this returns. Multiples of 512."""
        ...


class Disk:
    """The real one."""

    def read(self, path: Path) -> bytes | None:
        return read_small(path, SMALL)

    def write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def sync(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, path: Path, to: Path) -> None:
        path.replace(to)

    def sync_folder(self, path: Path) -> None:
        sync_folder(path)

    def read_sectors(self, device: Path, offset: int, length: int) -> bytes:
        with _opened(device, os.O_RDONLY) as fd, mmap.mmap(-1, length) as buffer:
            if os.preadv(fd, [buffer], offset) != length:
                raise OSError(0, f"ends before {offset + length}", str(device))
            return buffer[:]

    def write_sectors(self, device: Path, offset: int, data: bytes) -> None:
        with _opened(device, os.O_WRONLY | os.O_DSYNC) as fd, mmap.mmap(-1, len(data)) as buffer:
            buffer[:] = data
            if os.pwritev(fd, [buffer], offset) != len(data):
                raise OSError(0, f"takes only a part at {offset}", str(device))


@contextlib.contextmanager
def _opened(device: Path, flags: int) -> Iterator[int]:
    # O_DIRECT: one request of one sector, not a page of the device's cache read and written back. An image in a file
    # may lie where there is no such thing.
    fd = os.open(device, flags | os.O_CLOEXEC)
    try:
        if stat.S_ISBLK(os.fstat(fd).st_mode):
            os.close(fd)
            fd = os.open(device, flags | os.O_CLOEXEC | os.O_DIRECT)
        yield fd
    finally:
        os.close(fd)
