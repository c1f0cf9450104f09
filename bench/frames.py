"""Templates of the frames that the data path's benchmarks send, and the offsets of what varies in them."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from bench.rig import PC_MAC, ROUTER_MAC

SRC_PORT4, DST4 = 34, 30
"""Offsets in an untagged IPv4 frame: source port of TCP/UDP, destination address."""
DNS_LABEL = 14 + 20 + 8 + 12 + 1
"""Offset of the first label's text in `dns_query`."""


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ipv4(src: str, dst: str, proto: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0x4000, 64, proto, 0,
                       ip_address(src).packed, ip_address(dst).packed)  # fmt: skip
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    check = ~(total + (total >> 16)) & 0xFFFF
    return _mac(ROUTER_MAC) + _mac(PC_MAC) + b"\x08\x00" + head[:10] + struct.pack("!H", check) + head[12:] + payload


def udp(dst: str, size: int = 64, src: str = "10.77.0.2", sport: int = 20000, dport: int = 4433) -> bytes:
    """A UDP frame of `size` bytes."""
    room = size - 14 - 20 - 8
    return _ipv4(src, dst, 17, struct.pack("!HHHH", sport, dport, 8 + room, 0) + bytes(room))


def tcp_ack(dst: str, src: str = "10.77.0.2", sport: int = 20000, dport: int = 443) -> bytes:
    """A bare ACK, 60 bytes with padding."""
    return _ipv4(src, dst, 6, struct.pack("!HHIIBBHHH", sport, dport, 1, 1, 0x50, 0x10, 1000, 0, 0)) + bytes(6)


def dns_query(name: str, dst: str = "10.77.0.1") -> bytes:
    """A query with EDNS for the A record of `name`."""
    question = b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\0" + struct.pack("!HH", 1, 1)
    message = struct.pack("!6H", 0x1234, 0x0100, 1, 0, 0, 1) + question + b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)
    return _ipv4("10.77.0.2", dst, 17, struct.pack("!HHHH", 20000, 53, 8 + len(message), 0) + message)
