"""Layout of a kernel image: the numbers of `struct image_header` in layout.h, and the way to read one.

An image is a whole number of pages: page 0 the header, page 1 the class table, then the sections, each from the
beginning of a page. Little-endian, as every board that Vigie runs on.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vigie.errors import ImageError

from .model import CLASS_BYTES, ClassEntry

PAGE_BYTES: Final = 4096
IMAGE_MAGIC: Final = 0x31474D49
LAYOUT_VERSION: Final = 1
KIND_BASE: Final = 0
KIND_GEO: Final = 1
CLASS_COUNT: Final = 256
#: 256 MB: far above any base, far below what an absurd header could make us map.
MAX_PAGES: Final = 65_536

#: Sections in the order of the header, with their element type.
SECTIONS: Final[dict[str, type[np.unsignedinteger[Any]]]] = {
    "index4": np.uint32,
    "start4": np.uint32,
    "last4": np.uint32,
    "class4": np.uint8,
    "ports4": np.uint64,
    "index6": np.uint32,
    "start6_hi": np.uint64,
    "start6_lo": np.uint64,
    "last6_hi": np.uint64,
    "last6_lo": np.uint64,
    "class6": np.uint8,
    "index_name": np.uint32,
    "hash_name": np.uint64,
    "class_name": np.uint8,
    "value4": np.uint64,
    "value6": np.uint64,
    "ports6": np.uint64,
}

_HEADER = struct.Struct(f"<4I2Q4I{2 * len(SECTIONS)}IQ32s")
HEADER_BYTES: Final = _HEADER.size
SERIAL_OFFSET: Final = _HEADER.size - 40
DIGEST_OFFSET: Final = _HEADER.size - 32

#: Mixing constants of `port6_key` in layout.h.
PORT6_K1: Final = 0x9E3779B97F4A7C15
PORT6_K2: Final = 0xC2B2AE3D27D4EB4F


@dataclass(frozen=True, slots=True)
class Section:
    page: int
    count: int


@dataclass(frozen=True, slots=True)
class Header:
    """Page 0 of an image. Shifts: the bucket of a key is `key >> shift`."""

    pages: int
    kind: int
    name_key: int
    name_seed: int
    shift4: int
    shift6: int
    shift_name: int
    sections: dict[str, Section]
    serial: int
    digest: bytes

    def pack(self) -> bytes:
        numbers: list[int] = []
        for name in SECTIONS:
            section = self.sections.get(name, Section(0, 0))
            numbers += (section.page, section.count)
        return _HEADER.pack(
            IMAGE_MAGIC,
            LAYOUT_VERSION,
            self.pages,
            self.kind,
            self.name_key,
            self.name_seed,
            self.shift4,
            self.shift6,
            self.shift_name,
            0,
            *numbers,
            self.serial,
            self.digest,
        )

    @classmethod
    def unpack(cls, image: bytes | bytearray | memoryview) -> Header:
        """Header of an image, its sections checked to lie inside it. Raises ImageError."""
        if len(image) < 2 * PAGE_BYTES:
            raise ImageError(f"image of {len(image)} bytes: shorter than its header and class table")
        magic, version, pages, kind, key, seed, shift4, shift6, shift_name, _, *rest = _HEADER.unpack_from(image)
        if magic != IMAGE_MAGIC:
            raise ImageError(f"not an image: magic {magic:#010x}")
        if version != LAYOUT_VERSION:
            raise ImageError(f"image of layout {version}, this program knows layout {LAYOUT_VERSION}")
        if not 2 <= pages <= MAX_PAGES or pages * PAGE_BYTES > len(image):
            raise ImageError(f"image says {pages} pages, there are {len(image) // PAGE_BYTES}")
        sections = {}
        for i, (name, dtype) in enumerate(SECTIONS.items()):
            section = Section(rest[2 * i], rest[2 * i + 1])
            if section.count and (
                section.page < 2
                or section.page * PAGE_BYTES + section.count * np.dtype(dtype).itemsize > pages * PAGE_BYTES
            ):
                raise ImageError(f"section {name} lies outside the image")
            sections[name] = section
        return cls(pages, kind, key, seed, shift4, shift6, shift_name, sections, rest[-2], rest[-1])


def section_view(
    image: bytes | bytearray | memoryview, header: Header, name: str
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The elements of a section, without a copy."""
    section = header.sections[name]
    return np.frombuffer(image, SECTIONS[name], section.count, section.page * PAGE_BYTES if section.count else 0)


def read_classes(image: bytes | bytearray | memoryview) -> list[ClassEntry]:
    """The 256 rows of page 1. Raises ImageError for a number that no enum knows."""
    page = bytes(image[PAGE_BYTES : 2 * PAGE_BYTES])
    try:
        return [ClassEntry.unpack(page[i : i + CLASS_BYTES]) for i in range(0, PAGE_BYTES, CLASS_BYTES)]
    except ValueError as error:
        raise ImageError(f"class table of the image: {error}") from error


def image_digest(image: bytes | bytearray | memoryview, pages: int) -> bytes:
    """SHA-256 of pages 1 to the end."""
    return hashlib.sha256(memoryview(image)[PAGE_BYTES : pages * PAGE_BYTES]).digest()


def verify_image(image: bytes | bytearray | memoryview) -> Header:
    """Header of an image whose digest is right; what the early loader checks. Raises ImageError."""
    header = Header.unpack(image)
    if image_digest(image, header.pages) != header.digest:
        raise ImageError("digest of the image is wrong: it was cut short or altered; build it again from the base")
    return header


def port6_key(hi: int, lo: int, port: int) -> int:
    """Element of section ports6 for one address and port."""
    mixed = (hi * PORT6_K1 & 0xFFFFFFFFFFFFFFFF) ^ (lo * PORT6_K2 & 0xFFFFFFFFFFFFFFFF)
    return (mixed & ~0xFFFF) | port
