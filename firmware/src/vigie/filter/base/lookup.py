"""The look-ups of the data path over an image, in Python: one key for `why`, many for tests and benchmarks."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np

from vigie.errors import ImageError

from .columns import I64, U8, U32, U64, Bools
from .imageformat import KIND_BASE, Header, port6_key, read_classes, section_view
from .model import ClassEntry
from .names import suffix_hashes
from .splice import search6, search_between

_V4_MAPPED = bytes(10) + b"\xff\xff"


def address_bytes(address: str | bytes) -> bytes:
    """16 bytes in wire order, v4-mapped for IPv4, from text or from 4 or 16 bytes. Raises ValueError."""
    raw = ipaddress.ip_address(address).packed if isinstance(address, str) else bytes(address)
    if len(raw) == 4:
        return _V4_MAPPED + raw
    if len(raw) != 16:
        raise ValueError(f"address of {len(raw)} bytes")
    return raw


class _Ranges:
    """Interval look-ups that base and geo images share."""

    def __init__(self, image: bytes | bytearray | memoryview, header: Header) -> None:
        def view(name: str) -> Any:
            return section_view(image, header, name)

        self.header = header
        self.start4: U32 = view("start4")
        self.index4: U32 = view("index4")
        self.start6_hi: U64 = view("start6_hi")
        self.start6_lo: U64 = view("start6_lo")
        self.index6: U32 = view("index6")
        for name, index, shift, width, count in (
            ("index4", self.index4, header.shift4, 32, len(self.start4)),
            ("index6", self.index6, header.shift6, 64, len(self.start6_hi)),
        ):
            if count and (not 0 < shift < width or len(index) != (1 << (width - shift)) + 1 or int(index[-1]) != count):
                raise ImageError(f"{name} of the image does not fit its section")

    def find4(self, addresses: U32) -> I64:
        """Index of the last interval that starts at or before each address, -1 if none; by the bucket index."""
        bucket = addresses >> np.uint32(self.header.shift4)
        low, high = self.index4[bucket].astype(np.int64), self.index4[bucket + np.uint32(1)].astype(np.int64)
        return search_between(self.start4, addresses, low, high, right=True) - 1

    def find6(self, hi: U64, lo: U64) -> I64:
        """As find4, for IPv6."""
        return search6(self.start6_hi, self.start6_lo, hi, lo, right=True) - 1


class Lookup(_Ranges):
    """Reads a base image. Views of `image`, no copies: keep it in place. Raises ImageError when it is malformed."""

    def __init__(self, image: bytes | bytearray | memoryview) -> None:
        header = Header.unpack(image)
        if header.kind != KIND_BASE:
            raise ImageError(f"image of kind {header.kind}, not a base")
        super().__init__(image, header)
        self.classes: list[ClassEntry] = read_classes(image)
        self.last4: U32 = section_view(image, header, "last4")
        self.class4: U8 = section_view(image, header, "class4")
        self.ports4: U64 = section_view(image, header, "ports4")
        self.last6_hi: U64 = section_view(image, header, "last6_hi")
        self.last6_lo: U64 = section_view(image, header, "last6_lo")
        self.class6: U8 = section_view(image, header, "class6")
        self.ports6: U64 = section_view(image, header, "ports6")
        self.index_name: U32 = section_view(image, header, "index_name")
        self.hash_name: U64 = section_view(image, header, "hash_name")
        self.class_name: U8 = section_view(image, header, "class_name")

    def address(self, address: str | bytes) -> int:
        """Class number of an address (text, 4 or 16 bytes); 0 when it is not listed. Ports are not looked at."""
        raw = address_bytes(address)
        if raw.startswith(_V4_MAPPED):
            return int(self.addresses4(np.array([int.from_bytes(raw[12:])], np.uint32))[0])
        hi, lo = int.from_bytes(raw[:8]), int.from_bytes(raw[8:])
        return int(self.addresses6(np.array([hi], np.uint64), np.array([lo], np.uint64))[0])

    def port_listed(self, address: str | bytes, port: int) -> bool:
        """Whether a port of an address is listed; means something only for a class with CLASS_PORTS."""
        raw = address_bytes(address)
        if raw.startswith(_V4_MAPPED):
            keys, key = self.ports4, int.from_bytes(raw[12:]) << 16 | port
        else:
            keys, key = self.ports6, port6_key(int.from_bytes(raw[:8]), int.from_bytes(raw[8:]), port)
        at = int(np.searchsorted(keys, np.uint64(key)))
        return at < len(keys) and int(keys[at]) == key

    def ports(self, address: str) -> list[int] | None:
        """Listed ports of an IPv4 address; None for IPv6, whose ports cannot be read back."""
        raw = address_bytes(address)
        if not raw.startswith(_V4_MAPPED):
            return None
        first = int.from_bytes(raw[12:]) << 16
        low, high = np.searchsorted(self.ports4, np.array([first, first + 65_536], np.uint64))
        return [int(key) & 0xFFFF for key in self.ports4[low:high]]

    def addresses4(self, addresses: U32) -> U8:
        """Class numbers of IPv4 addresses in host order."""
        if not len(self.start4):
            return np.zeros(len(addresses), np.uint8)
        at = self.find4(addresses)
        inside: Bools = (at >= 0) & (addresses <= self.last4[at])
        return np.where(inside, self.class4[at], 0).astype(np.uint8)

    def addresses6(self, hi: U64, lo: U64) -> U8:
        """Class numbers of IPv6 addresses as high and low 64 bits."""
        if not len(self.start6_hi):
            return np.zeros(len(hi), np.uint8)
        at = self.find6(hi, lo)
        last_hi, last_lo = self.last6_hi[at], self.last6_lo[at]
        inside = (at >= 0) & ((hi < last_hi) | ((hi == last_hi) & (lo <= last_lo)))
        return np.where(inside, self.class6[at], 0).astype(np.uint8)

    def hashes(self, hashes: U64) -> U8:
        """Class numbers of name hashes: the exact suffix, not those above it."""
        if not len(self.hash_name):
            return np.zeros(len(hashes), np.uint8)
        at = np.minimum(np.searchsorted(self.hash_name, hashes), len(self.hash_name) - 1)
        return np.where(self.hash_name[at] == hashes, self.class_name[at], 0).astype(np.uint8)

    def suffixes(self, name: str) -> list[tuple[str, int]]:
        """Every listed suffix of a name with its class number, shortest first."""
        pairs = list(suffix_hashes(name, self.header.name_key, self.header.name_seed))
        if not pairs:
            return []
        found = self.hashes(np.array([h for _, h in pairs], np.uint64))
        return [(suffix, int(cls)) for (suffix, _), cls in zip(pairs, found, strict=True) if cls]

    def name(self, name: str) -> tuple[str, int]:
        """(suffix, class number) that decides for a name, ("", 0) when none is listed.

        As in the data path: a class that is forced and blocks, else never-block at any level, else the longest.
        """
        found = self.suffixes(name)
        for wanted in ("force", "never"):
            for suffix, cls in reversed(found):
                if getattr(self.classes[cls], wanted):
                    return suffix, cls
        return found[-1] if found else ("", 0)


class GeoLookup(_Ranges):
    """Reads a geo image (kind 1): AS number and country of an address."""

    def __init__(self, image: bytes | bytearray | memoryview) -> None:
        header = Header.unpack(image)
        if header.kind == KIND_BASE:
            raise ImageError("a base image where a geo image is expected")
        super().__init__(image, header)
        self.value4: U64 = section_view(image, header, "value4")
        self.value6: U64 = section_view(image, header, "value6")

    def values4(self, addresses: U32) -> U64:
        """Values (AS | country<<32) of IPv4 addresses in host order, 0 where unknown."""
        if not len(self.start4):
            return np.zeros(len(addresses), np.uint64)
        at = self.find4(addresses)
        return np.where(at >= 0, self.value4[at], np.uint64(0))

    def values6(self, hi: U64, lo: U64) -> U64:
        """Values of IPv6 addresses, 0 where unknown."""
        if not len(self.start6_hi):
            return np.zeros(len(hi), np.uint64)
        at = self.find6(hi, lo)
        return np.where(at >= 0, self.value6[at], np.uint64(0))

    def address(self, address: str | bytes) -> tuple[int, str]:
        """(AS number, country code) of an address; (0, "") when unknown."""
        raw = address_bytes(address)
        if raw.startswith(_V4_MAPPED):
            value = int(self.values4(np.array([int.from_bytes(raw[12:])], np.uint32))[0])
        else:
            hi, lo = int.from_bytes(raw[:8]), int.from_bytes(raw[8:])
            value = int(self.values6(np.array([hi], np.uint64), np.array([lo], np.uint64))[0])
        country = value >> 32
        return value & 0xFFFFFFFF, bytes((country >> 8, country & 0xFF)).decode("ascii") if country else ""
