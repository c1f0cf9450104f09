"""Ethernet frames to their transport payload, as the data path reads them.

Never raises, whatever the bytes: what cannot be read is told by `Frame.anomaly`, with the reasons of verdicts.h, and
the fields that were not reached keep their empty values. Limits are those of docs/datapath.md: five VLAN tags (the
kernel's own plus four), a bounded IPv6 extension walk. Offsets, not copies: a payload is sliced only when asked for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from vigie.contract.codes import Reason

VLAN_MAX: Final = 5
"""Tags that are parsed: the one that the kernel keeps in metadata, and four more."""
EXTENSIONS_MAX: Final = 8
"""IPv6 extension headers that are walked."""

ETH_IPV4: Final = 0x0800
ETH_ARP: Final = 0x0806
ETH_IPV6: Final = 0x86DD
_VLAN_TYPES: Final = frozenset((0x8100, 0x88A8, 0x9100))

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10

# Hop-by-hop, routing, destination options, mobility, HIP, shim6 (RFC 7045): same shape, length in units of 8 bytes.
_EXTENSIONS: Final = frozenset((0, 43, 60, 135, 139, 140))
_FRAGMENT_HEADER: Final = 44
_AUTHENTICATION: Final = 51
_NO_NEXT_HEADER: Final = 59

_TYPE = struct.Struct("!H")
_TAG = struct.Struct("!HH")
_IPV4 = struct.Struct("!BxHxxHxB")  # version+IHL, total length, flags+fragment offset, protocol
_IPV6 = struct.Struct("!IHB")  # version+class+label, payload length, next header
_PORTS = struct.Struct("!HH")
_TCP = struct.Struct("!HHIIBB")


@dataclass(slots=True)
class Frame:
    """One frame. Offsets count from the Ethernet header; `family` is 4, 6, or 0 when there is no readable IP header.

    `ethertype` is the innermost one. `src`, `dst`: 4 or 16 bytes in wire order. ICMP: `sport` is the type, `dport` the
    code. `seq` is the TCP sequence number. `end` excludes Ethernet padding. `l4` is 0 when there is no transport header
    to read (`proto` may be known all the same: later fragments, truncation).
    """

    data: bytes
    ethertype: int = 0
    vlans: tuple[int, ...] = ()
    l3: int = 0
    family: int = 0
    proto: int = 0
    src: bytes = b""
    dst: bytes = b""
    l4: int = 0
    sport: int = 0
    dport: int = 0
    seq: int = 0
    tcp_flags: int = 0
    payload_start: int = 0
    end: int = 0
    fragment_offset: int = 0
    more_fragments: bool = False
    anomaly: Reason = Reason.NONE

    @property
    def dmac(self) -> bytes:
        return self.data[:6]

    @property
    def smac(self) -> bytes:
        return self.data[6:12]

    @property
    def vlan(self) -> int | None:
        """Identifier of the outermost tag."""
        return self.vlans[0] if self.vlans else None

    @property
    def is_fragment(self) -> bool:
        return self.more_fragments or self.fragment_offset > 0

    @property
    def payload(self) -> bytes:
        """What the transport carries; empty when no transport header was read."""
        return self.data[self.payload_start : self.end] if self.l4 else b""

    @property
    def source(self) -> str:
        """Source address as text; empty without an IP header."""
        return address_text(self.src)

    @property
    def destination(self) -> str:
        """Destination address as text; empty without an IP header."""
        return address_text(self.dst)


def address_text(address: bytes) -> str:
    """Text of a 4-byte or 16-byte address; a v4-mapped one as IPv4. Anything else: the empty string."""
    if len(address) == 16:
        if address[:12] == b"\0" * 10 + b"\xff\xff":
            return str(IPv4Address(address[12:]))
        return str(IPv6Address(address))
    return str(IPv4Address(address)) if len(address) == 4 else ""


def parse(data: bytes) -> Frame:
    """Read a frame from its Ethernet header on."""
    frame = Frame(data)
    size = len(data)
    if size < 14:
        frame.anomaly = Reason.SHORT_FRAME
        return frame
    at = 14
    (ethertype,) = _TYPE.unpack_from(data, 12)
    if ethertype in _VLAN_TYPES:
        tags: list[int] = []
        while ethertype in _VLAN_TYPES:
            if len(tags) == VLAN_MAX or size < at + 4:
                frame.anomaly = Reason.VLAN_DEPTH if len(tags) == VLAN_MAX else Reason.SHORT_FRAME
                break
            tag, ethertype = _TAG.unpack_from(data, at)
            tags.append(tag & 0x0FFF)
            at += 4
        frame.vlans = tuple(tags)
    frame.ethertype = ethertype
    frame.l3 = at
    frame.end = size
    if ethertype == ETH_IPV4:
        _ipv4(frame, data, at, size)
    elif ethertype == ETH_IPV6:
        _ipv6(frame, data, at, size)
    return frame


def parse_ip(data: bytes) -> Frame:
    """Read a packet that begins with its IP header (no link layer): offsets count from there, MACs are meaningless."""
    frame = Frame(data, end=len(data))
    version = data[0] >> 4 if data else 0
    if version == 4:
        frame.ethertype = ETH_IPV4
        _ipv4(frame, data, 0, len(data))
    elif version == 6:
        frame.ethertype = ETH_IPV6
        _ipv6(frame, data, 0, len(data))
    else:
        frame.anomaly = Reason.BAD_IP_VERSION if data else Reason.SHORT_IP
    return frame


def _ipv4(frame: Frame, data: bytes, at: int, size: int) -> None:
    if size < at + 20:
        frame.anomaly = Reason.SHORT_IP
        return
    first, total, fragment, proto = _IPV4.unpack_from(data, at)
    if first >> 4 != 4:
        frame.anomaly = Reason.BAD_IP_VERSION
        return
    header = (first & 15) * 4
    if header < 20 or total < header or at + total > size:
        frame.anomaly = Reason.BAD_IP_LENGTH
        return
    frame.family = 4
    frame.proto = proto
    frame.src = data[at + 12 : at + 16]
    frame.dst = data[at + 16 : at + 20]
    frame.end = at + total
    if fragment & 0x3FFF:
        frame.more_fragments = bool(fragment & 0x2000)
        frame.fragment_offset = (fragment & 0x1FFF) * 8
        frame.anomaly = Reason.FRAGMENT
        if frame.fragment_offset:
            return
    _transport(frame, data, at + header, proto)


def _ipv6(frame: Frame, data: bytes, at: int, size: int) -> None:
    if size < at + 40:
        frame.anomaly = Reason.SHORT_IP
        return
    first, length, proto = _IPV6.unpack_from(data, at)
    if first >> 28 != 6:
        frame.anomaly = Reason.BAD_IP_VERSION
        return
    # Payload length 0 before a hop-by-hop header announces a jumbogram (RFC 2675): the frame's own length counts.
    end = size if length == 0 and proto == 0 else at + 40 + length
    if end > size:
        frame.anomaly = Reason.BAD_IP_LENGTH
        return
    frame.family = 6
    frame.src = data[at + 8 : at + 24]
    frame.dst = data[at + 24 : at + 40]
    frame.end = end
    at += 40
    for _ in range(EXTENSIONS_MAX + 1):
        if proto in _EXTENSIONS or proto == _AUTHENTICATION:
            if at + 8 > end:
                break
            step = (data[at + 1] + 2) * 4 if proto == _AUTHENTICATION else (data[at + 1] + 1) * 8
            proto, at = data[at], at + step
        elif proto == _FRAGMENT_HEADER:
            if at + 8 > end:
                break
            (word,) = _TYPE.unpack_from(data, at + 2)
            proto, at = data[at], at + 8
            frame.more_fragments = bool(word & 1)
            frame.fragment_offset = word & 0xFFF8
            # An atomic fragment (RFC 6946) is a whole packet.
            if frame.is_fragment:
                frame.anomaly = Reason.FRAGMENT
            if frame.fragment_offset:
                frame.proto = proto
                return
        elif proto == _NO_NEXT_HEADER:
            frame.proto = proto
            return
        else:
            frame.proto = proto
            _transport(frame, data, at, proto)
            return
    frame.proto = proto
    frame.anomaly = Reason.EXT_HEADERS


def _transport(frame: Frame, data: bytes, at: int, proto: int) -> None:
    end = frame.end
    if proto == TCP:
        if at + 20 > end:
            frame.anomaly = Reason.SHORT_L4
            return
        sport, dport, seq, _, offset, flags = _TCP.unpack_from(data, at)
        start = at + (offset >> 4) * 4
        if start < at + 20 or start > end:
            frame.anomaly = Reason.BAD_TCP
            return
        frame.sport, frame.dport, frame.seq, frame.tcp_flags = sport, dport, seq, flags
        frame.payload_start = start
    elif proto == UDP:
        if at + 8 > end:
            frame.anomaly = Reason.SHORT_L4
            return
        frame.sport, frame.dport = _PORTS.unpack_from(data, at)
        frame.payload_start = at + 8
        (length,) = _TYPE.unpack_from(data, at + 4)
        if 8 <= length < end - at:
            frame.end = at + length
    elif proto in (ICMP, ICMPV6):
        if at + 8 > end:
            frame.anomaly = Reason.SHORT_L4
            return
        frame.sport, frame.dport = data[at], data[at + 1]
        frame.payload_start = at + 8
    else:
        return
    frame.l4 = at
