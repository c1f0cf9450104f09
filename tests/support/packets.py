"""Frames for the tests of the data path: made with Scapy, down to the absurd ones.

Builders take addresses as text and return bytes that begin at the Ethernet header. `LAN`, `REMOTE` and their
neighbours are the small world in which the random tests live: few addresses, so that rules are hit often.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from scapy.config import conf
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from vigie.filter.loop import probe_token

conf.verb = 0
conf.route.routes = []  # no look-up of this machine's routes for a source address
conf.route6.routes = []

PC = "192.168.1.10"
CAMERA = "192.168.1.11"
PC6 = "2001:db8:1::10"
CAMERA6 = "2001:db8:1::11"
PC_MAC = "02:00:00:00:00:10"
CAMERA_MAC = "02:00:00:00:00:11"
BOX = "192.168.1.2"
BOX6 = "2001:db8:1::2"
BOX_MAC = "02:b0:00:00:00:01"
GATEWAY = "192.168.1.1"
GATEWAY6 = "fe80::1"
GATEWAY_MAC = "02:00:00:00:00:01"
NEIGHBOUR = "192.168.1.50"
NEIGHBOUR6 = "2001:db8:1::50"
NEIGHBOUR_MAC = "02:00:00:00:00:50"
TOXIC = "198.51.100.66"
TOXIC6 = "2001:db8:bad::66"
PLAIN = "203.0.113.7"
PLAIN6 = "2001:db8:900d::7"
RESOLVER = "9.9.9.9"
RESOLVER6 = "2620:fe::9"


def is6(address: str) -> bool:
    return ":" in address


def ip(src: str, dst: str, **fields: Any) -> Packet:
    """An IP header of the addresses' family; `ttl` serves both."""
    if is6(src):
        ttl = fields.pop("ttl", 64)
        return IPv6(src=src, dst=dst, hlim=ttl, **fields)
    return IP(src=src, dst=dst, **fields)


def ether(packet: Packet | bytes, smac: str = PC_MAC, dmac: str = GATEWAY_MAC, vlans: Sequence[int] = ()) -> bytes:
    """The packet behind an Ethernet header and VLAN tags (outermost first, each 0x8100)."""
    frame = Ether(src=smac, dst=dmac)
    for vlan in vlans:
        frame /= Dot1Q(vlan=vlan)
    if isinstance(packet, bytes):
        return bytes(frame / Raw(packet))
    return bytes(frame / packet)


def tcp(
    src: str, dst: str, sport: int, dport: int, flags: str = "S", payload: bytes = b"", *, seq: int = 1000, ack: int = 0
) -> Packet:
    return ip(src, dst) / TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack) / Raw(payload)


def udp(src: str, dst: str, sport: int, dport: int, payload: bytes = b"data") -> Packet:
    return ip(src, dst) / UDP(sport=sport, dport=dport) / Raw(payload)


def echo(src: str, dst: str, ident: int = 7, *, reply: bool = False) -> Packet:
    if is6(src):
        kind = ICMPv6EchoReply if reply else ICMPv6EchoRequest
        return ip(src, dst) / kind(id=ident, data=b"ping")
    return ip(src, dst) / ICMP(type=0 if reply else 8, id=ident) / Raw(b"ping")


def icmp_error(src: str, dst: str, quoted: bytes, kind: str = "unreachable") -> Packet:
    """An ICMP error; `quoted` begins at the IP header of the packet complained of."""
    if is6(src):
        header: Packet = {
            "unreachable": ICMPv6DestUnreach(code=4),
            "exceeded": ICMPv6TimeExceeded(),
            "too_big": ICMPv6PacketTooBig(mtu=1280),
        }[kind]
    else:
        header = {
            "unreachable": ICMP(type=3, code=3),
            "exceeded": ICMP(type=11, code=0),
            "too_big": ICMP(type=3, code=4, nexthopmtu=1280),
        }[kind]
    return ip(src, dst) / header / Raw(quoted)


def arp(sender: str, target: str, smac: str = PC_MAC, op: int = 1) -> bytes:
    question = ARP(op=op, hwsrc=smac, psrc=sender, pdst=target, hwdst="00:00:00:00:00:00")
    return bytes(Ether(src=smac, dst="ff:ff:ff:ff:ff:ff") / question)


def probe(nonce: int, smac: str = BOX_MAC, left_by: int = 0) -> bytes:
    """The box's own loop probe as it leaves a port, padded to the shortest Ethernet frame."""
    head = Ether(src=smac, dst="ff:ff:ff:ff:ff:ff", type=0x88B5)
    return bytes(head / Raw((b"VGLP" + struct.pack("!Q", probe_token(nonce, left_by))).ljust(46, b"\0")))


# ---- DNS ----------------------------------------------------------------------------------------


def dns_name(name: str) -> bytes:
    """Wire form of a name, letter case kept."""
    labels = [label.encode("latin-1") for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def dns_query(
    name: str | bytes,
    kind: int = 1,
    *,
    ident: int = 0x1234,
    flags: int = 0x0100,
    edns: int = 0,
    options: bytes = b"",
    questions: int = 1,
) -> bytes:
    """A query; `edns` is the UDP size of an OPT record (0: none). `name` as bytes is already in wire form."""
    wire = name if isinstance(name, bytes) else dns_name(name)
    message = struct.pack("!6H", ident, flags, questions, 0, 0, 1 if edns else 0)
    message += wire + struct.pack("!HH", kind, 1)
    if edns:
        message += b"\0" + struct.pack("!HHIH", 41, edns, 0x8000, len(options)) + options
    return message


def dns_answer(name: str, addresses: Sequence[str], ttl: int = 60, *, ident: int = 0x1234, cname: str = "") -> bytes:
    """An answer to an A/AAAA question, with compression pointers as servers write them."""
    from ipaddress import ip_address

    records = b""
    if cname:
        target = dns_name(cname)
        records += b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, ttl, len(target)) + target
    for address in addresses:
        raw = ip_address(address).packed
        records += b"\xc0\x0c" + struct.pack("!HHIH", 1 if len(raw) == 4 else 28, 1, ttl, len(raw)) + raw
    kind = 28 if addresses and is6(addresses[0]) else 1
    head = struct.pack("!6H", ident, 0x8180, 1, len(addresses) + bool(cname), 0, 0)
    return head + dns_name(name) + struct.pack("!HH", kind, 1) + records


def over_tcp(message: bytes) -> bytes:
    """A DNS message with its length in front."""
    return struct.pack("!H", len(message)) + message


# ---- TLS ----------------------------------------------------------------------------------------


def _extension(kind: int, data: bytes) -> bytes:
    return struct.pack("!HH", kind, len(data)) + data


def client_hello(
    name: str | None, *, before: int = 0, pad: int = 0, session: int = 32, name_type: int = 0, record_split: int = 0
) -> bytes:
    """A TLS 1.2/1.3 ClientHello in one record (two when `record_split`).

    `before` unknown extensions precede the server name, `pad` bytes of padding follow it.
    """
    extensions = b"".join(_extension(0x3A3A + i, b"\0" * i) for i in range(before))
    if name is not None:
        raw = name.encode("latin-1")
        entry = bytes([name_type]) + struct.pack("!H", len(raw)) + raw
        extensions += _extension(0, struct.pack("!H", len(entry)) + entry)
    extensions += _extension(43, b"\x04\x03\x04\x03\x03")
    if pad:
        extensions += _extension(21, bytes(pad))
    body = b"\x03\x03" + bytes(range(32)) + bytes([session]) + bytes(session)
    body += struct.pack("!H", 6) + b"\x13\x01\x13\x02\xc0\x2f" + b"\x01\x00"
    body += struct.pack("!H", len(extensions)) + extensions
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    pieces = [handshake[:record_split], handshake[record_split:]] if record_split else [handshake]
    return b"".join(b"\x16\x03\x01" + struct.pack("!H", len(p)) + p for p in pieces)


# ---- fragments and extension headers --------------------------------------------------------------


def fragment4(packet: Packet, offset: int, more: bool) -> Packet:
    """The packet as an IPv4 fragment: offset in units of 8 bytes. Lengths and checksums stay consistent."""
    whole = IP(bytes(packet))
    body = bytes(whole.payload)
    return IP(src=whole.src, dst=whole.dst, proto=whole.proto, frag=offset, flags="MF" if more else 0) / Raw(body)


def extensions6(packet: Packet, chain: Sequence[int], *, offset: int = 0, more: bool = False) -> Packet:
    """An IPv6 packet with extension headers of these types between header and transport.

    Type 44 is a fragment header with `offset` (units of 8 bytes) and `more`; 51 an AH of 16 bytes; others 8 bytes.
    """
    whole = IPv6(bytes(packet))
    following = [*chain, whole.nh][1:]
    headers = b""
    for kind, after in zip(chain, following, strict=True):
        if kind == 44:
            headers += struct.pack("!BBHI", after, 0, offset << 3 | more, 0xABCD)
        elif kind == 51:
            headers += struct.pack("!BBHIII", after, 2, 0, 1, 1, 0)
        else:
            headers += struct.pack("!BB6x", after, 0)
    first = chain[0] if chain else whole.nh
    return IPv6(src=whole.src, dst=whole.dst, hlim=whole.hlim, nh=first) / Raw(headers + bytes(whole.payload))
