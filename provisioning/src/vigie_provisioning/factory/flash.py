"""Writing an image to an eMMC and reading it back.

Order: everything but the first 4 MiB and the identity partition, read back, then the first 4 MiB, read back: a board
that was unplugged in the middle has no new partition table over half a system. The identity partition is written only
while it is blank: not ext4 with our label, or one that was never mounted.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Final, Protocol

from vigie_provisioning.errors import ProvisioningError
from vigie_provisioning.factory.disks import Disk, DiskError
from vigie_provisioning.factory.image import CHUNK, IDENTITY, LABEL, Image, ImageError, ext, partitions

_BLKFLSBUF: Final = 0x1261
_GONE: Final = (errno.ENODEV, errno.ENXIO, errno.EIO, errno.ENOMEDIUM, errno.ESHUTDOWN)


class Unplugged(ProvisioningError):
    """The board went away while it was written. Plugged in again, it is written from the beginning."""

    code = "unplugged"


class ReadBackError(ProvisioningError):
    """What was read back is not what was written: a bad eMMC, cable or hub."""

    code = "read-back"


class Target(Protocol):
    """The disk's bytes. Errors are OSError."""

    def pread(self, n: int, at: int) -> bytes:
        """Up to `n` bytes at `at`."""

    def pwrite(self, data: memoryview, at: int) -> int:
        """How many bytes were taken."""

    def sync(self) -> None:
        """On the disk, and not in memory any more: the next read asks the disk."""


class Device:
    """A block device, or a file in tests."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._block = stat.S_ISBLK(os.fstat(fd).st_mode)

    def pread(self, n: int, at: int) -> bytes:
        """Up to `n` bytes at `at`."""
        return os.pread(self._fd, n, at)

    def pwrite(self, data: memoryview, at: int) -> int:
        """How many bytes were taken."""
        return os.pwrite(self._fd, data, at)

    def sync(self) -> None:
        """Flushes, and drops what the kernel remembers of the disk."""
        os.fsync(self._fd)
        if self._block:
            ioctl(self._fd, _BLKFLSBUF, 0)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)


Progress = Callable[[str, int, int], None]


def write(image: Image, disk: Disk, target: Target, progress: Progress, *, erase_identity: bool = False) -> bool:
    """Writes and verifies; whether the disk's identity partition was kept.

    progress(phase, done, of): phase `write`, then `verify`. DiskError, ImageError, Unplugged or ReadBackError.
    """
    if image.size > disk.size:
        raise DiskError(f"{disk.name}: {disk.size} bytes are too few for {image.path.name} ({image.size})")
    try:
        keep = not erase_identity and holds_identity(image, disk, target)
        digests = _write(image, target, progress, keep=keep)
        target.sync()
        _verify(image, disk, target, digests, progress, keep=keep)
        _first(image, disk, target, digests[0])
    except OSError as e:
        if e.errno in _GONE:
            raise Unplugged(f"{disk.name}: went away ({e.strerror}); check cable and power, plug it in again") from e
        raise DiskError(f"{disk.name}: cannot be written ({e.strerror})") from e
    return keep


def holds_identity(image: Image, disk: Disk, target: Target) -> bool:
    """Whether somebody may have written a key into the disk's identity partition. DiskError: it is elsewhere."""
    table = partitions(lambda at, n: target.pread(n, at))
    if table is not None and (there := table.get(IDENTITY)) is not None and there != image.identity:
        found = ext(lambda at, n: target.pread(n, at), there.start)
        if found is not None and found.mounted:
            reason = "carries an identity in a place where this image has none"
            raise DiskError(f"{disk.name}: {reason}; `vigie-factory again` begins that board again")
    found = ext(lambda at, n: target.pread(n, at), image.identity.start)
    return found is not None and found.label == LABEL and found.mounted


def _write(image: Image, target: Target, progress: Progress, *, keep: bool) -> list[bytes]:
    """Writes all but the first chunk; SHA-256 of what each chunk of the image holds outside a kept identity."""
    whole = hashlib.sha256()
    digests: list[bytes] = []
    done = 0
    for at, chunk in _chunks(image.path):
        whole.update(chunk)
        parts = list(_spared(image, at, chunk, keep=keep))
        digests.append(_digest(data for _at, data in parts))
        if at:
            for place, data in parts:
                _put(target, data, place)
        done += len(chunk)
        progress("write", done, image.size)
    if whole.hexdigest() != image.digest:
        raise ImageError(f"{image.path}: changed while it was read; fetch it again")
    return digests


def _verify(image: Image, disk: Disk, target: Target, digests: list[bytes], progress: Progress, *, keep: bool) -> None:
    for number, digest in enumerate(digests):
        at = number * CHUNK
        length = min(CHUNK, image.size - at)
        if number:
            data = _get(target, length, at)
            if _digest(part for _at, part in _spared(image, at, data, keep=keep)) != digest:
                raise ReadBackError(f"{disk.name}: what was read back differs at {at >> 20} MiB; a bad eMMC or cable")
        progress("verify", at + length, image.size)


def _first(image: Image, disk: Disk, target: Target, digest: bytes) -> None:
    with image.path.open("rb") as stream:
        chunk = stream.read(min(CHUNK, image.size))
    _put(target, chunk, 0)
    target.sync()
    if _digest([_get(target, len(chunk), 0)]) != digest:
        raise ReadBackError(f"{disk.name}: what was read back differs at its beginning; a bad eMMC or cable")


def _spared(image: Image, at: int, chunk: bytes, *, keep: bool) -> Iterator[tuple[int, bytes]]:
    """(place, bytes) of a chunk, without the identity partition when it is kept."""
    spare = image.identity
    if not keep or at + len(chunk) <= spare.start or at >= spare.end:
        yield at, chunk
        return
    if at < spare.start:
        yield at, chunk[: spare.start - at]
    if at + len(chunk) > spare.end:
        yield spare.end, chunk[spare.end - at :]


def _chunks(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as stream:
        at = 0
        while chunk := stream.read(CHUNK):
            yield at, chunk
            at += len(chunk)


def _put(target: Target, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        taken = target.pwrite(view, at)
        view, at = view[taken:], at + taken


def _get(target: Target, length: int, at: int) -> bytes:
    data = b""
    while len(data) < length:
        part = target.pread(length - len(data), at + len(data))
        if not part:
            break
        data += part
    return data


def _digest(parts: Iterator[bytes] | list[bytes]) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.digest()
