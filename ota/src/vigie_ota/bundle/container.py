"""How a verity bundle lies in its file (RAUC's reference, "Bundle Formats").

payload      squashfs, a multiple of 4096 bytes
hash tree    dm-verity, SHA-256, 4 KiB blocks, no superblock
signature    CMS, DER, with the manifest inside
size         of the signature, 8 bytes, big endian
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vigie.contract.firmware import BUNDLE_MAX
from vigie_department.signer.files import sync_folder
from vigie_ota.bundle.manifest import BLOCK
from vigie_ota.errors import BundleError

SIGNATURE_MAX: Final = 64 * 1024
"""RAUC's own default."""
_SIZE: Final = struct.Struct(">Q")
_MAGIC: Final = b"hsqs"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Container:
    """A signed bundle. body: bytes of payload and hash tree; length: of the whole file."""

    path: Path
    body: int
    signature: bytes
    length: int


def read(path: Path) -> Container:
    """Where the parts are. BundleError when the file is too large, cut off, or no bundle."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, os.SEEK_END)
            if length > BUNDLE_MAX:
                raise BundleError(f"{path}: {length} bytes, boxes take at most {BUNDLE_MAX}")
            file.seek(0)
            magic = file.read(len(_MAGIC))
            file.seek(max(0, length - _SIZE.size))
            tail = file.read(_SIZE.size)
            size = _SIZE.unpack(tail)[0] if len(tail) == _SIZE.size else 0
            body = length - _SIZE.size - size
            if magic != _MAGIC or not 0 < size <= SIGNATURE_MAX or body <= 0 or body % BLOCK:
                raise BundleError(f"{path}: no RAUC bundle, or cut off ({length} bytes)")
            file.seek(body)
            return Container(path, body, file.read(size), length)
    except OSError as e:
        raise BundleError(f"{path}: cannot be read ({e.strerror or e})") from e


def write(target: Path, body: Path, signature: bytes) -> None:
    """The bundle from payload with hash tree, and signature; whole or not at all. body may be `target`'s neighbour."""
    if len(signature) > SIGNATURE_MAX:
        raise BundleError(f"{target}: a signature of {len(signature)} bytes, RAUC takes {SIGNATURE_MAX}")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with body.open("rb") as reader, temporary.open("wb") as writer:
            while chunk := reader.read(_CHUNK):
                writer.write(chunk)
            writer.write(signature + _SIZE.pack(len(signature)))
            writer.flush()
            os.fsync(writer.fileno())
        temporary.rename(target)
        sync_folder(target.parent)
    except OSError as e:
        raise BundleError(f"{target}: cannot be written ({e.strerror or e})") from e
    finally:
        temporary.unlink(missing_ok=True)


def blocks(path: Path, size: int = _CHUNK) -> Iterator[bytes]:
    """A file in pieces; BundleError when it cannot be read."""
    try:
        with path.open("rb") as file:
            while piece := file.read(size):
                yield piece
    except OSError as e:
        raise BundleError(f"{path}: cannot be read ({e.strerror or e})") from e


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    found = hashlib.sha256()
    for piece in blocks(path):
        found.update(piece)
    return found.hexdigest()
