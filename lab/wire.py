"""Raw frames of one link of one namespace, exactly as they are on the wire.

The kernel takes the outer VLAN tag out of a received frame and hands it over beside it (packet(7), PACKET_AUXDATA);
`Tap` puts it back, so that a frame sent and a frame received can be compared byte by byte.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType

from lab.netns import Namespace

ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_AUXDATA = 8
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
PACKET_MR_PROMISC, PACKET_ADD_MEMBERSHIP = 1, 1
TP_STATUS_VLAN_VALID = 1 << 4
TP_STATUS_VLAN_TPID_VALID = 1 << 6
AUXDATA = struct.Struct("@IIIHHHH")  # status, len, snaplen, mac, net, vlan_tci, vlan_tpid
# struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
VNET = struct.Struct("=BBHHHH")
NEEDS_CHECKSUM = 1
SNAP = 1 << 17


@dataclass(frozen=True, slots=True)
class Frame:
    """`pending`: (start, offset) of a checksum that the sender left to an offload, which a veth never does.

    `gso_size`: payload of the segments that a frame larger than the MTU stands for, 0 when it is one frame.
    """

    data: bytes
    when: float
    pending: tuple[int, int] | None = None
    gso_size: int = 0

    @property
    def finished(self) -> bytes:
        """The frame as a real network card would send it: pending checksum filled in (untagged frames)."""
        if self.pending is None:
            return self.data
        start, offset = self.pending
        place = start + offset
        return self.data[:place] + struct.pack("!H", checksum(self.data[start:]) or 0xFFFF) + self.data[place + 2 :]


class Tap:
    """Listens from its creation on; `with` closes it."""

    def __init__(self, namespace: Namespace, link: str, *, outgoing: bool = False, buffer: int = 8 << 20) -> None:
        self.where = f"{namespace.label}/{link}"
        self._sock = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        if not outgoing:
            self._sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        index = namespace.ifindex(link)
        self._sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("iHH8s", index, PACKET_MR_PROMISC, 0, b""))
        with namespace.entered():  # the link's name is looked up in the caller's namespace
            self._sock.bind((link, ETH_P_ALL))
        self._drain()

    def __enter__(self) -> Tap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()

    def _drain(self) -> None:
        """Frames that came before the bind belong to other links."""
        while self.receive(0.0) is not None:
            pass

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self._sock.send(bytes(VNET.size) + frame)

    def receive(self, timeout: float) -> Frame | None:
        ready, _, _ = select.select([self._sock], [], [], timeout)
        if not ready:
            return None
        data, ancillary, _, _ = self._sock.recvmsg(SNAP, 256)
        flags, _, _, gso_size, start, offset = VNET.unpack(data[: VNET.size])
        data = data[VNET.size :]
        for level, kind, payload in ancillary:
            if level == SOL_PACKET and kind == PACKET_AUXDATA:
                status, _, _, _, _, tci, tpid = AUXDATA.unpack(payload[: AUXDATA.size])
                if status & TP_STATUS_VLAN_VALID:
                    tag = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                    data = data[:12] + struct.pack("!HH", tag, tci) + data[12:]
        pending = (start, offset) if flags & NEEDS_CHECKSUM else None
        return Frame(data, time.monotonic(), pending, gso_size)

    def collect(self, wanted: Callable[[bytes], bool], seconds: float, *, count: int = 1 << 30) -> list[Frame]:
        """Frames that `wanted` likes, until `count` of them or until time is over."""
        deadline = time.monotonic() + seconds
        found: list[Frame] = []
        while len(found) < count and (left := deadline - time.monotonic()) > 0:
            frame = self.receive(left)
            if frame is not None and wanted(frame.data):
                found.append(frame)
        return found


def ethernet(destination: str, source: str, kind: int, payload: bytes, tags: Iterable[tuple[int, int]] = ()) -> bytes:
    """A frame; `tags` are (TPID, TCI), outermost first."""
    head = mac_bytes(destination) + mac_bytes(source)
    head += b"".join(struct.pack("!HH", tpid, tci) for tpid, tci in tags)
    return head + struct.pack("!H", kind) + payload


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071) of data that holds its own checksum: 0 when right."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def checksum_faults(frame: bytes) -> list[str]:
    """What is wrong with the checksums of an untagged IPv4 or IPv6 frame without extension headers; [] when right."""
    kind = int.from_bytes(frame[12:14], "big")
    faults = []
    if kind == 0x0800:
        head = (frame[14] & 15) * 4
        total = int.from_bytes(frame[16:18], "big")
        if checksum(frame[14 : 14 + head]):
            faults.append("IPv4 header")
        proto, body = frame[23], frame[14 + head : 14 + total]
        pseudo = frame[26:34] + struct.pack("!BBH", 0, proto, len(body))
    elif kind == 0x86DD:
        length = int.from_bytes(frame[18:20], "big")
        proto, body = frame[20], frame[54 : 54 + length]
        pseudo = frame[22:54] + struct.pack("!IHBB", length, 0, 0, proto)
    else:
        return faults
    name = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}.get(proto)
    if name == "ICMP":
        pseudo = b""
    if name == "UDP" and kind == 0x0800 and body[6:8] == b"\0\0":
        return faults  # not computed: allowed over IPv4 only
    if name and checksum(pseudo + body):
        faults.append(f"{name} checksum {body[:20].hex()}")
    return faults


def udp4(
    destination: str, source: str, source4: str, destination4: str, sport: int, dport: int, payload: bytes,
    tags: Iterable[tuple[int, int]] = (),
) -> bytes:  # fmt: skip
    """An IPv4 UDP frame with right checksums."""
    ends = socket.inet_aton(source4) + socket.inet_aton(destination4)
    length = 8 + len(payload)
    udp = struct.pack("!HHHH", sport, dport, length, 0) + payload
    total = checksum(ends + struct.pack("!BBH", 0, 17, length) + udp) or 0xFFFF
    udp = udp[:6] + struct.pack("!H", total) + udp[8:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, 17, 0) + ends
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return ethernet(destination, source, 0x0800, head + udp, tags)
