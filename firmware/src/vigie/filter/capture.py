"""Capture files: pcap and pcapng, either byte order, micro- or nanoseconds, and the link types that carry IP.

Read from a memory map, so the size of a file does not matter. A file that ends in the middle of a record, or turns
absurd, gives what came before and says so in `problem`: it is not an error. Only a file that is no capture at all is.

Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng; link types: www.tcpdump.org/linktypes.html.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from vigie.errors import VigieError

RECORD_MAX: Final = 1 << 20
"""Bytes of one record; a larger length is damage."""
INTERFACES_MAX: Final = 4096

ETHERNET: Final = 1
_RAW_IP: Final = frozenset((12, 14, 101, 228, 229))
_WIRELESS: Final = frozenset((105, 119, 127, 163, 192))
_IPV4: Final = b"\x08\x00"
_IPV6: Final = b"\x86\xdd"
_FAMILIES: Final = {2: _IPV4, 10: _IPV6, 24: _IPV6, 28: _IPV6, 30: _IPV6}


class CaptureError(VigieError):
    """The file is not a capture, or cannot be opened."""


class Packet(NamedTuple):
    """One record. `ns`: Unix time in nanoseconds; `wire_len`: bytes on the wire, at least len(data)."""

    ns: int
    linktype: int
    wire_len: int
    data: bytes


class Payload(NamedTuple):
    """What a link layer other than Ethernet carries. `mac` is the sender's where the capture tells it, else empty."""

    ethertype: bytes
    data: bytes
    mac: bytes


class Capture:
    """An open file; iterate it, as often as wanted. `problem` tells how the last iteration ended, "" for well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        try:
            with path.open("rb") as stream:
                self._size = stream.seek(0, 2)
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if self._size else None
        except (OSError, ValueError) as error:
            raise CaptureError(f"{path}: {error}") from error
        self._pcapng, self._order, self._tick, self.linktype = False, "<", 1000, 0
        try:
            self._recognise(self._map[:24] if self._map is not None else b"")
        except CaptureError:
            self.close()
            raise

    def _recognise(self, head: bytes) -> None:
        if head[:4] == b"\x0a\x0d\x0d\x0a":
            self._pcapng = True
            return
        for order in "<>":
            magic = struct.unpack(order + "I", head[:4])[0] if len(head) >= 4 else 0
            if magic in (0xA1B2C3D4, 0xA1B23C4D):
                if len(head) < 24:
                    raise CaptureError(f"{self.path}: a pcap header of {len(head)} bytes, 24 are needed")
                self._order = order
                self._tick = 1000 if magic == 0xA1B2C3D4 else 1
                # The upper half holds the length of frame check sequences.
                self.linktype = struct.unpack(order + "I", head[20:24])[0] & 0xFFFF
                return
        raise CaptureError(f"{self.path}: neither pcap nor pcapng (it begins with {head[:4].hex() or 'nothing'})")

    def close(self) -> None:
        """Give the memory map back."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Packet]:
        self.problem = ""
        if self._map is None:
            raise CaptureError(f"{self.path}: closed")
        return self._blocks(self._map) if self._pcapng else self._records(self._map)

    def _records(self, data: mmap.mmap) -> Iterator[Packet]:
        header = struct.Struct(self._order + "4I")
        unpack, tick, linktype, size = header.unpack_from, self._tick, self.linktype, self._size
        at = 24
        while at + 16 <= size:
            seconds, fraction, length, wire = unpack(data, at)
            at += 16
            if length > RECORD_MAX:
                self.problem = f"record of {length} bytes at offset {at - 16}: the rest is not read"
                return
            if at + length > size:
                self.problem = f"cut in the middle of a record at offset {at - 16}"
                return
            end = at + length
            yield Packet(seconds * 1_000_000_000 + fraction * tick, linktype, max(wire, length), data[at:end])
            at = end
        if at != size:
            self.problem = f"cut in the middle of a record header at offset {at}"

    def _blocks(self, data: mmap.mmap) -> Iterator[Packet]:
        order, at, size = "<", 0, self._size
        interfaces: list[tuple[int, int, int, int]] = []  # link type, ticks per second, offset in s, snap length
        while at + 12 <= size:
            kind, length = struct.unpack_from(order + "II", data, at)
            if kind == 0x0A0D0D0A:
                magic = data[at + 8 : at + 12]
                if magic not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                    self.problem = f"section header without byte-order magic at offset {at}"
                    return
                order = "<" if magic[0] == 0x4D else ">"
                (length,) = struct.unpack_from(order + "I", data, at + 4)
                interfaces = []
            if length < 12 or length % 4:
                self.problem = f"block of {length} bytes at offset {at}: the rest is not read"
                return
            if at + length > size:
                self.problem = f"cut in the middle of a block at offset {at}"
                return
            body, end = at + 8, at + length - 4
            if kind == 1 and len(interfaces) < INTERFACES_MAX:
                interfaces.append(_interface(data, body, end, order))
            elif kind in (2, 3, 6):
                packet = _packet(data, body, end, order, kind, interfaces)
                if packet is None:
                    self.problem = f"packet block that contradicts itself at offset {at}: the rest is not read"
                    return
                yield packet
            at += length
        if at != size:
            self.problem = f"cut in the middle of a block header at offset {at}"


def _interface(data: mmap.mmap, at: int, end: int, order: str) -> tuple[int, int, int, int]:
    """(link type, ticks per second, offset in seconds, snap length) of an interface description block."""
    if at + 8 > end:
        return 0xFFFF, 1_000_000, 0, 0
    linktype, _, snap = struct.unpack_from(order + "HHI", data, at)
    ticks, offset = 1_000_000, 0
    at += 8
    while at + 4 <= end:
        code, length = struct.unpack_from(order + "HH", data, at)
        at += 4
        if code == 0 or at + length > end:
            break
        if code == 9 and length == 1:
            power = data[at] & 0x7F
            ticks = 1 << min(power, 63) if data[at] & 0x80 else 10 ** min(power, 18)
        elif code == 14 and length == 8:
            (offset,) = struct.unpack_from(order + "q", data, at)
        at += (length + 3) & ~3
    return linktype, ticks, offset, snap


def _packet(
    data: mmap.mmap, at: int, end: int, order: str, kind: int, interfaces: list[tuple[int, int, int, int]]
) -> Packet | None:
    """A packet of an enhanced (6), simple (3) or obsolete (2) packet block; None when it makes no sense."""
    if kind == 3:
        if at + 4 > end or not interfaces:
            return None
        (wire,) = struct.unpack_from(order + "I", data, at)
        linktype, _, _, snap = interfaces[0]
        length = min(wire, end - at - 4, snap or wire)
        return Packet(0, linktype, max(wire, length), data[at + 4 : at + 4 + length])
    if at + 20 > end:
        return None
    number, high, low, length, wire = struct.unpack_from(order + ("IIIII" if kind == 6 else "HxxIIII"), data, at)
    if number >= len(interfaces) or length > end - at - 20 or length > RECORD_MAX:
        return None
    linktype, ticks, offset, _ = interfaces[number]
    ns = ((high << 32) | low) * 1_000_000_000 // ticks + offset * 1_000_000_000
    return Packet(ns, linktype, max(wire, length), data[at + 20 : at + 20 + length])


def link_problem(linktype: int) -> str:
    """Why frames of this link type are not replayed; "" when they are."""
    if linktype in _WIRELESS:
        return f"802.11 (link type {linktype}): a wired box never sees radio frames; capture on a bridge or a wire"
    if linktype != ETHERNET and linktype not in _RAW_IP and linktype not in _DECAPSULATE:
        return f"link type {linktype} is not read (Ethernet, raw IP, Linux cooked, loopback, PPP and HDLC are)"
    return ""


def payload(linktype: int, data: bytes) -> Payload | None:
    """What a frame of a link type other than Ethernet carries; None when it is not IP or ARP, or too short."""
    if linktype in _RAW_IP:
        version = data[0] >> 4 if data else 0
        return Payload(_IPV4 if version == 4 else _IPV6, data, b"") if version in (4, 6) else None
    decapsulate = _DECAPSULATE.get(linktype)
    return decapsulate(data) if decapsulate is not None else None


def _null(data: bytes) -> Payload | None:
    # BSD loopback: the address family in the byte order of the machine that captured (0), or of the network (108).
    if len(data) < 4:
        return None
    for order in ("little", "big"):
        ethertype = _FAMILIES.get(int.from_bytes(data[:4], order))
        if ethertype is not None:
            return Payload(ethertype, data[4:], b"")
    return None


def _cooked(data: bytes) -> Payload | None:
    if len(data) < 16:
        return None
    mac = data[6:12] if data[4:6] == b"\0\x06" else b""
    return Payload(data[14:16], data[16:], mac)


def _cooked2(data: bytes) -> Payload | None:
    if len(data) < 20:
        return None
    return Payload(data[:2], data[20:], data[12:18] if data[11] == 6 else b"")


def _ppp(data: bytes) -> Payload | None:
    if data[:2] == b"\xff\x03":
        data = data[2:]
    if data[:1] == b"\x21" or data[:1] == b"\x57":  # protocol field compressed to one byte
        data = b"\0" + data
    ethertype = {b"\0\x21": _IPV4, b"\0\x57": _IPV6}.get(data[:2])
    return Payload(ethertype, data[2:], b"") if ethertype else None


def _pppoe(data: bytes) -> Payload | None:
    return _ppp(data[6:]) if data[:2] == b"\x11\0" else None


def _hdlc(data: bytes) -> Payload | None:
    return Payload(data[2:4], data[4:], b"") if data[2:4] in (_IPV4, _IPV6) else None


_DECAPSULATE: Final = {0: _null, 108: _null, 113: _cooked, 276: _cooked2, 9: _ppp, 50: _ppp, 51: _pppoe, 104: _hdlc}
