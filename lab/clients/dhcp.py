"""A visitor's laptop on the office switch asks for a lease (RFC 2131): DISCOVER, OFFER, REQUEST, ACK, from raw frames.

Raw, because the machine that plays the visitor already has an address and a kernel socket would use it as source.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from functools import partial

import dpkt

from lab import wire
from lab.netns import Namespace

VISITOR_MAC = "8c:85:90:00:00:77"
DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5


@dataclass(frozen=True, slots=True)
class Lease:
    address: str
    router: str
    resolver: str


def _frame(kind: int, transaction: int, options: list[tuple[int, bytes]]) -> bytes:
    mac = wire.mac_bytes(VISITOR_MAC)
    message = dpkt.dhcp.DHCP(op=1, xid=transaction, chaddr=mac, flags=0x8000)
    message.opts = ((53, bytes([kind])), *options, (55, bytes([1, 3, 6])))
    udp = dpkt.udp.UDP(sport=68, dport=67, data=bytes(message))
    udp.ulen = len(bytes(udp))
    packet = dpkt.ip.IP(src=b"\0" * 4, dst=b"\xff" * 4, p=17, ttl=64, data=udp)
    packet.len = len(bytes(packet))
    return wire.ethernet("ff:ff:ff:ff:ff:ff", VISITOR_MAC, 0x0800, bytes(packet))


def _answer(data: bytes, transaction: int) -> dict[int, bytes] | None:
    """Options of a DHCP answer to us, 0 standing for the address offered."""
    try:
        packet = dpkt.ethernet.Ethernet(data).data
        if not isinstance(packet, dpkt.ip.IP) or not isinstance(packet.data, dpkt.udp.UDP) or packet.data.dport != 68:
            return None
        message = dpkt.dhcp.DHCP(packet.data.data)
    except (dpkt.UnpackError, IndexError, struct.error):
        return None
    if message.xid != transaction:
        return None
    return {**dict(message.opts), 0: struct.pack("!I", message.yiaddr)}


def _is(transaction: int, kind: int, data: bytes) -> bool:
    return (_answer(data, transaction) or {}).get(53) == bytes([kind])


def lease(namespace: Namespace, link: str = "eth0", transaction: int = 0x56474C31) -> Lease:
    """Obtain a lease; AssertionError when a step goes unanswered for 3 s."""
    with wire.Tap(namespace, link) as tap:
        options: list[tuple[int, bytes]] = []
        for kind, wanted in ((DISCOVER, OFFER), (REQUEST, ACK)):
            tap.send(_frame(kind, transaction, options))
            found = tap.collect(partial(_is, transaction, wanted), 3.0, count=1)
            if not found:
                raise AssertionError(
                    f"[{namespace.label}] DHCP message {kind} of a visitor: no answer of type {wanted} in 3 s"
                )
            got = _answer(found[0].data, transaction) or {}
            options = [(50, got[0]), (54, got[54])]
    return Lease(*(socket.inet_ntoa(value[:4]) for value in (got[0], got[3], got[6])))
