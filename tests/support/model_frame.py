"""What the model sees in a frame: a parser of its own, with struct, one field after the other.

It shares no code with `vigie.filter.decode` nor with the data path, on purpose: a mistake made once must show.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from tests.support.policies import NO_VLAN
from vigie.contract.codes import Reason

TCP: Final = 6
UDP: Final = 17
ICMP: Final = 1
ICMPV6: Final = 58

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10

TAGS: Final = (0x8100, 0x88A8, 0x9100)
MAX_TAGS: Final = 4
MAX_EXTENSIONS: Final = 8
EXTENSIONS: Final = (0, 43, 60, 44, 51, 135, 139, 140)

ICMP_ERRORS: Final = {ICMP: (3, 11, 12), ICMPV6: (1, 2, 3, 4)}
ECHO_REQUEST: Final = {ICMP: 8, ICMPV6: 128}
ECHO_REPLY: Final = {ICMP: 0, ICMPV6: 129}
NEIGHBOUR_TYPES: Final = tuple(range(133, 138))
GROUP_TYPES: Final = (130, 131, 132, 143)


class Fragment(IntEnum):
    """Where a frame stands in its datagram."""

    NONE = 0
    FIRST = 1
    LATER = 2


@dataclass
class Frame:
    """One frame, as far as it could be read."""

    length: int
    dmac: bytes = b""
    smac: bytes = b""
    ethertype: int = 0
    vlan: int = NO_VLAN
    body: bytes = b""
    """What follows the last tag's EtherType."""
    anomalies: list[Reason] = field(default_factory=list)
    family: int = 0
    """4 or 6 when the addresses can be trusted, else 0."""
    src: bytes = b""
    dst: bytes = b""
    proto: int = 0
    hops: int = 0
    overlaps: bool = False
    """True for a fragment that would be laid over the flags of a TCP header (RFC 3128)."""
    fragment: Fragment = Fragment.NONE
    whole: bool = True
    """False when the transport header is cut or absurd."""
    ports: tuple[int, int] | None = None
    """TCP and UDP ports, when they can be read."""
    tcp_flags: int = 0
    icmp_type: int | None = None
    icmp_id: int = 0
    payload: bytes = b""
    """TCP or UDP payload; for ICMP what follows its first 8 bytes."""

    @property
    def key_ports(self) -> tuple[int, int]:
        """Ports of the flow key: the identifier twice for echo, zero when there is none."""
        if self.ports is not None:
            return self.ports
        if self.is_echo:
            return self.icmp_id, self.icmp_id
        return 0, 0

    @property
    def is_discovery(self) -> bool:
        """Neighbour and router discovery (which crossed no router) and group management of IPv6."""
        if self.family != 6 or self.proto != ICMPV6 or self.icmp_type is None:
            return False
        return (self.icmp_type in NEIGHBOUR_TYPES and self.hops == 255) or (
            self.icmp_type in GROUP_TYPES and self.hops == 1
        )

    @property
    def is_icmp(self) -> bool:
        return self.proto == (ICMP if self.family == 4 else ICMPV6)

    @property
    def has_flow(self) -> bool:
        """True for frames that look the flow cache up: whole ones, and of ICMP only exchanges."""
        return self.whole and self.fragment != Fragment.LATER and (not self.is_icmp or self.is_echo)

    @property
    def is_echo(self) -> bool:
        return self.icmp_type is not None and self.icmp_type in (ECHO_REQUEST[self.proto], ECHO_REPLY[self.proto])

    @property
    def is_echo_reply(self) -> bool:
        return self.icmp_type is not None and self.icmp_type == ECHO_REPLY[self.proto]

    @property
    def is_icmp_error(self) -> bool:
        return self.icmp_type is not None and self.icmp_type in ICMP_ERRORS[self.proto]

    @property
    def is_bare_syn(self) -> bool:
        return self.proto == TCP and self.ports is not None and self.tcp_flags & (SYN | ACK) == SYN


def parse(data: bytes) -> Frame:
    """Read a frame as far as it makes sense; what does not is in `anomalies`."""
    frame = Frame(length=len(data))
    if len(data) < 14:
        frame.anomalies.append(Reason.SHORT_FRAME)
        return frame
    frame.dmac, frame.smac = data[0:6], data[6:12]
    (frame.ethertype,) = struct.unpack_from("!H", data, 12)
    at = 14
    tags = 0
    while frame.ethertype in TAGS:
        if tags == MAX_TAGS:
            frame.anomalies.append(Reason.VLAN_DEPTH)
            return frame
        if len(data) < at + 4:
            frame.anomalies.append(Reason.SHORT_IP)
            frame.ethertype = 0
            return frame
        tci, frame.ethertype = struct.unpack_from("!HH", data, at)
        if frame.vlan == NO_VLAN and tci & 0x0FFF:
            frame.vlan = tci & 0x0FFF  # id 0 is a priority, not a network
        tags += 1
        at += 4
    frame.body = data[at:]
    if frame.ethertype == 0x0800:
        _ipv4(frame)
    elif frame.ethertype == 0x86DD:
        _ipv6(frame)
    return frame


def _ipv4(frame: Frame) -> None:
    body = frame.body
    if len(body) < 20:
        frame.anomalies.append(Reason.SHORT_IP)
        return
    if body[0] >> 4 != 4:
        frame.anomalies.append(Reason.BAD_IP_VERSION)
        return
    header = (body[0] & 15) * 4
    (total,) = struct.unpack_from("!H", body, 2)
    if header < 20 or total < header or total > len(body):
        frame.anomalies.append(Reason.BAD_IP_LENGTH)
        return
    frame.family = 4
    frame.hops, frame.proto = body[8], body[9]
    frame.src = bytes(10) + b"\xff\xff" + body[12:16]
    frame.dst = bytes(10) + b"\xff\xff" + body[16:20]
    (fragment,) = struct.unpack_from("!H", body, 6)
    frame.overlaps = frame.proto == TCP and fragment & 0x1FFF == 1
    if fragment & 0x1FFF:
        frame.fragment = Fragment.LATER
    elif fragment & 0x2000:
        frame.fragment = Fragment.FIRST
    _transport(frame, body[header:total])


def _ipv6(frame: Frame) -> None:
    body = frame.body
    if len(body) < 40:
        frame.anomalies.append(Reason.SHORT_IP)
        return
    if body[0] >> 4 != 6:
        frame.anomalies.append(Reason.BAD_IP_VERSION)
        return
    (length,) = struct.unpack_from("!H", body, 4)
    if 40 + length > len(body):
        frame.anomalies.append(Reason.BAD_IP_LENGTH)
        return
    frame.family = 6
    frame.proto, frame.hops = body[6], body[7]
    frame.src, frame.dst = body[8:24], body[24:40]
    packet = body[: 40 + length]
    at = 40
    for _ in range(MAX_EXTENSIONS):
        if frame.proto not in EXTENSIONS:
            break
        if len(packet) < at + 8:
            _bad_extensions(frame)
            return
        kind, following = frame.proto, packet[at]
        if kind == 44:
            (offset,) = struct.unpack_from("!H", packet, at + 2)
            at += 8
            if offset & 0xFFF8:
                frame.fragment = Fragment.LATER
            elif offset & 1:
                frame.fragment = Fragment.FIRST
        elif kind == 51:
            at += (packet[at + 1] + 2) * 4
        else:
            at += (packet[at + 1] + 1) * 8
        if at > len(packet):
            _bad_extensions(frame)
            return
        frame.proto = following
        if frame.fragment == Fragment.LATER:
            break
    if frame.fragment != Fragment.LATER and frame.proto in EXTENSIONS:
        _bad_extensions(frame)
        return
    _transport(frame, packet[at:])


def _bad_extensions(frame: Frame) -> None:
    frame.anomalies.append(Reason.EXT_HEADERS)
    frame.whole = False
    if frame.fragment:
        frame.anomalies.append(Reason.FRAGMENT)


def _transport(frame: Frame, segment: bytes) -> None:
    if frame.fragment:
        frame.anomalies.append(Reason.FRAGMENT)
    if frame.fragment == Fragment.LATER:
        return
    icmp = ICMP if frame.family == 4 else ICMPV6
    shortest = {TCP: 20, UDP: 8, icmp: 8}.get(frame.proto, 0)
    if len(segment) < shortest:
        frame.anomalies.append(Reason.SHORT_L4)
        frame.whole = False
    elif frame.proto == TCP:
        header = (segment[12] >> 4) * 4
        if header < 20 or header > len(segment):
            frame.anomalies.append(Reason.BAD_TCP)
            frame.whole = False
            return
        frame.ports = struct.unpack_from("!HH", segment)
        frame.tcp_flags = segment[13]
        frame.payload = segment[header:]
    elif frame.proto == UDP:
        frame.ports = struct.unpack_from("!HH", segment)
        frame.payload = segment[8:]
    elif frame.proto == icmp:
        frame.icmp_type = segment[0]
        (frame.icmp_id,) = struct.unpack_from("!H", segment, 4)
        frame.payload = segment[8:]


@dataclass(frozen=True)
class Quote:
    """The packet that an ICMP error complains of."""

    src: bytes
    dst: bytes
    proto: int
    ports: tuple[int, int]


def parse_quote(frame: Frame) -> Quote | None:
    """The flow quoted by an ICMP error, or None when it cannot be read whole (header and 8 bytes)."""
    body = frame.payload
    if frame.family == 4:
        if len(body) < 20 or body[0] >> 4 != 4 or body[0] & 15 < 5:
            return None
        if struct.unpack_from("!H", body, 6)[0] & 0x1FFF:
            return None
        rest = body[(body[0] & 15) * 4 :]
        proto = body[9]
        src, dst = (bytes(10) + b"\xff\xff" + body[i : i + 4] for i in (12, 16))
    else:
        if len(body) < 40 or body[0] >> 4 != 6:
            return None
        rest = body[40:]
        proto, src, dst = body[6], body[8:24], body[24:40]
    if len(rest) < 8:
        return None
    icmp = ICMP if frame.family == 4 else ICMPV6
    if proto in (TCP, UDP):
        return Quote(src, dst, proto, struct.unpack_from("!HH", rest))
    if proto == icmp and rest[0] in (ECHO_REQUEST[icmp], ECHO_REPLY[icmp]):
        (echo,) = struct.unpack_from("!H", rest, 4)
        return Quote(src, dst, proto, (echo, echo))
    return Quote(src, dst, proto, (0, 0))
