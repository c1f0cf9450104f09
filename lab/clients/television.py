"""The TV decoder: joins a multicast group (IGMP) and receives the operator's stream, plain and 802.1Q-tagged."""

from __future__ import annotations

import socket
import struct

from lab import wire
from lab.netns import Namespace

GROUP, PORT = "232.0.4.38", 8200
GROUP_MAC = "01:00:5e:00:04:26"
VLAN = 840
PACKET = bytes([0x47]) + bytes(187)
IGMP = 2


def stream_frame(source_mac: str, source: str, sequence: int, tags: tuple[tuple[int, int], ...] = ()) -> bytes:
    """One datagram of seven MPEG-TS packets, as operators send them."""
    payload = struct.pack("!Q", sequence) + PACKET * 7
    udp = struct.pack("!HHHH", PORT, PORT, 8 + len(payload), 0) + payload
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(udp),
        sequence & 0xFFFF,
        0,
        16,
        17,
        0,
        socket.inet_aton(source),
        socket.inet_aton(GROUP),
    )
    head = head[:10] + struct.pack("!H", wire.checksum(head)) + head[12:]
    return wire.ethernet(GROUP_MAC, source_mac, 0x0800, head + udp, tags)


def watch(tv: Namespace, router: Namespace, router_link: str, source_mac: str, source: str, count: int = 200) -> str:
    """Join, then `count` plain frames are received by the socket and `count` tagged ones arrive byte for byte."""
    with wire.Tap(router, router_link) as upstream, tv.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver.bind(("", PORT))
        index = struct.pack("@i", tv.ifindex("eth0"))
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + b"\0" * 4 + index)
        reports = upstream.collect(lambda data: data[12:14] == b"\x08\x00" and data[23] == IGMP, 3.0, count=1)
        if not reports:
            raise AssertionError("the decoder's IGMP report did not come through the box in 3 s")
        upstream.send(*(stream_frame(source_mac, source, number) for number in range(count)))
        receiver.settimeout(2)
        heard = 0
        try:
            while heard < count:
                receiver.recv(2048)
                heard += 1
        except TimeoutError:
            raise AssertionError(f"TV stream: {heard} of {count} datagrams received") from None
        with wire.Tap(tv, "eth0") as screen:
            sent = [stream_frame(source_mac, source, number, ((0x8100, 0x8000 | VLAN),)) for number in range(count)]
            upstream.send(*sent)
            got = [frame.data for frame in screen.collect(lambda data: data[12:14] == b"\x81\x00", 2.0, count=count)]
    if got != sent:
        raise AssertionError(
            f"TV stream on VLAN {VLAN}: {len(got)} of {count} frames, identical: {got == sent[: len(got)]}"
        )
    return f"IGMP report seen upstream, {heard} datagrams and {len(got)} tagged frames received unchanged"
