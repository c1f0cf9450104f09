"""The image that goes onto an eMMC: that it is one of ours, and whole.

Layout (docs/adr/0015): MBR with disk signature 0x76696769; p4 extended; p7 = identity, ext4 labelled `vigie-identity`,
empty; SHA-256 in FILE.sha256 or SHA256SUMS beside it.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vigie_provisioning.errors import NotFoundError, ProvisioningError
from vigie_provisioning.files import read_bounded

SECTOR: Final = 512
SIGNATURE: Final = 0x76696769
CHUNK: Final = 4 << 20
IDENTITY: Final = 7
LABEL: Final = b"vigie-identity"
_EXTENDED: Final = (0x05, 0x0F, 0x85)
_LOGICAL_MOST: Final = 16
_EXT_MAGIC: Final = 0xEF53
_SUPERBLOCK: Final = 1024
_NAME: Final = re.compile(r"vigie-([a-z0-9]+)(?:-(.+))?\.img")
Progress = Callable[[int, int], None]


class ImageError(ProvisioningError):
    """The image is not one that this station may write."""

    code = "image"


@dataclass(slots=True, frozen=True)
class Span:
    """Bytes of a disk."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.start + self.length


@dataclass(slots=True, frozen=True)
class Image:
    """A checked image. digest: hex SHA-256 of the file; variant, version: of its name, "" when it says neither."""

    path: Path
    size: int
    digest: str
    identity: Span
    variant: str
    version: str


Read = Callable[[int, int], bytes]


def check(path: Path, progress: Progress, *, digest: str = "") -> Image:
    """Reads the whole file once. ImageError says what is wrong with it.

    digest: what its SHA-256 must be; "" takes it from FILE.sha256 or SHA256SUMS beside it, one of which must be there.
    """
    try:
        size = path.stat().st_size
        if size == 0 or size % SECTOR:
            raise ImageError(f"{path}: {size} bytes is not a disk image")
        wanted = digest or _published(path)
        found = hashlib.sha256()
        with path.open("rb") as stream:
            identity = _layout(path, size, lambda at, n: _at(stream.seek, stream.read, at, n))
            stream.seek(0)
            done = 0
            while part := stream.read(CHUNK):
                found.update(part)
                done += len(part)
                progress(done, size)
    except OSError as e:
        raise ImageError(f"{path}: cannot be read ({e.strerror})") from e
    if found.hexdigest() != wanted:
        reason = f"its SHA-256 is {found.hexdigest()[:16]}…, {wanted[:16]}… was published"
        raise ImageError(f"{path}: {reason}: it was damaged or changed; fetch it again")
    name = _NAME.fullmatch(path.name)
    variant, version = (name[1], name[2] or "") if name else ("", "")
    return Image(path, size, wanted, identity, variant, version)


def partitions(read: Read) -> dict[int, Span] | None:
    """Partitions of a disk with our signature, by number; None for any other disk. OSError of `read` passes."""
    mbr = read(0, SECTOR)
    if len(mbr) < SECTOR or mbr[510:512] != b"\x55\xaa" or struct.unpack_from("<I", mbr, 440)[0] != SIGNATURE:
        return None
    found: dict[int, Span] = {}
    extended = 0
    for number in range(1, 5):
        kind, start, count = _entry(mbr, number - 1)
        if count:
            found[number] = Span(start * SECTOR, count * SECTOR)
        if kind in _EXTENDED:
            extended = start
    at = extended
    for number in range(5, 5 + _LOGICAL_MOST):
        if not extended:
            break
        record = read(at * SECTOR, SECTOR)
        if len(record) < SECTOR or record[510:512] != b"\x55\xaa":
            break
        _kind, start, count = _entry(record, 0)
        if not count:
            break
        found[number] = Span((at + start) * SECTOR, count * SECTOR)
        _kind, after, more = _entry(record, 1)
        if not more or not after:
            break
        at = extended + after
    return found


@dataclass(slots=True, frozen=True)
class Ext:
    """What an ext4 superblock says. mounted: it was mounted at least once, so somebody may have written into it."""

    label: bytes
    mounted: bool


def ext(read: Read, start: int) -> Ext | None:
    """The ext4 file system at byte `start`, None when there is none."""
    block = read(start + _SUPERBLOCK, SECTOR)
    if len(block) < SECTOR or struct.unpack_from("<H", block, 56)[0] != _EXT_MAGIC:
        return None
    mounted_at, _written, mounts = struct.unpack_from("<IIH", block, 44)
    return Ext(block[120:136].rstrip(b"\0"), bool(mounted_at or mounts))


def _layout(path: Path, size: int, read: Read) -> Span:
    table = partitions(read)
    if table is None:
        raise ImageError(f"{path}: not an image of Vigie (its MBR has another disk signature)")
    identity = table.get(IDENTITY)
    if identity is None or identity.end > size or any(p.end > size for n, p in table.items() if n < IDENTITY):
        raise ImageError(f"{path}: it ends before its partitions do: it was cut short; fetch it again")
    if identity.start < CHUNK:
        raise ImageError(f"{path}: its identity partition begins in the first {CHUNK >> 20} MiB")
    found = ext(read, identity.start)
    if found is None or found.label != LABEL:
        raise ImageError(f"{path}: partition {IDENTITY} is not the identity partition (ext4, {LABEL.decode()})")
    if found.mounted:
        raise ImageError(f"{path}: its identity partition was mounted before: an image read back from a box, not built")
    return identity


def _entry(record: bytes, index: int) -> tuple[int, int, int]:
    """(type, first sector, sectors) of an entry of a partition table."""
    base = 446 + 16 * index
    start, count = struct.unpack_from("<II", record, base + 8)
    return record[base + 4], start, count


def _at(seek: Callable[[int], int], read: Callable[[int], bytes], at: int, n: int) -> bytes:
    seek(at)
    return read(n)


def _published(path: Path) -> str:
    """The digest that was published with the image."""
    for file in (path.with_name(path.name + ".sha256"), path.with_name("SHA256SUMS")):
        try:
            text = read_bounded(file).decode("utf-8", "replace")
        except NotFoundError:
            continue
        for line in text.splitlines():
            found = re.fullmatch(r"([0-9a-fA-F]{64})(?: [ *](\S.*))?", line.strip())
            if found and (found[2] is None or Path(found[2]).name == path.name):
                return found[1].lower()
    raise ImageError(f"{path}: no digest beside it ({path.name}.sha256 or SHA256SUMS); give --digest")
