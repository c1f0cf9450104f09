"""Which side is the LAN: given, private addresses, or the host that the capture is about."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from vigie.filter.capture import Packet
from vigie.filter.orientation import LAN_PORT, MADE_UP_GATEWAY, WAN_PORT, orient

A, B, C, GATEWAY = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c", "02:00:00:00:00:fe"


def packet(smac: str, dmac: str, source: str, destination: str, linktype: int = 1) -> Packet:
    ip = (IPv6 if ":" in source else IP)(src=source, dst=destination) / UDP()
    data = bytes(ip) if linktype == 101 else bytes(Ether(src=smac, dst=dmac) / ip)
    return Packet(0, linktype, len(data), data)


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def test_private_addresses() -> None:
    out = packet(A, GATEWAY, "192.168.1.2", "9.9.9.9")
    back = packet(GATEWAY, A, "9.9.9.9", "192.168.1.2")
    router = packet(GATEWAY, A, "192.168.1.1", "192.168.1.2")
    local = packet(A, B, "192.168.1.2", "192.168.1.3")
    sides = orient([out, back, router, local, out])
    assert sides.basis == "private"
    assert sides.gateways == (mac(GATEWAY),)
    assert sides.gateway_addresses == ("192.168.1.1",)
    assert sides.onlink == (ipaddress.ip_network("192.168.1.0/24"),)
    assert [sides.port(p.data) for p in (out, back, router, local)] == [LAN_PORT, WAN_PORT, WAN_PORT, LAN_PORT]


def test_ipv6_and_vlan() -> None:
    out = packet(A, GATEWAY, "2001:db8::2", "2606:4700::1")
    four = packet(A, GATEWAY, "10.1.2.3", "9.9.9.9")
    tagged = Packet(0, 1, 0, four.data[:12] + b"\x81\0\0\x05" + four.data[12:])
    sides = orient([out, four, tagged], [ipaddress.ip_network("2001:db8::/64"), ipaddress.ip_network("10.0.0.0/8")])
    assert sides.basis == "given"
    assert ipaddress.ip_network("2001:db8::/64") in sides.onlink
    assert ipaddress.ip_network("10.1.2.0/24") in sides.onlink
    assert sides.port(out.data) == sides.port(tagged.data) == LAN_PORT
    assert sides.port(packet(C, A, "2606:4700::1", "2001:db8::2").data) == WAN_PORT


def test_a_server_on_the_internet() -> None:
    clients = [packet(GATEWAY, A, f"9.9.9.{n}", "198.51.100.1") for n in range(1, 5)]
    sides = orient(clients)
    assert sides.basis == "host"
    assert sides.onlink == (ipaddress.ip_network("198.51.100.1/32"),)
    assert {sides.port(p.data) for p in clients} == {WAN_PORT}
    assert sides.port(packet(A, GATEWAY, "198.51.100.1", "9.9.9.1").data) == LAN_PORT


def test_a_laboratory() -> None:
    sides = orient([packet(A, B, "10.0.0.5", "10.9.0.1"), packet(A, B, "10.0.0.5", "10.9.0.2")])
    assert sides.basis == "host"
    assert sides.onlink == (ipaddress.ip_network("10.0.0.0/24"),)
    assert sides.port(packet(B, A, "10.9.0.1", "10.0.0.5").data) == WAN_PORT


def test_given_mac() -> None:
    sides = orient([packet(A, GATEWAY, "203.0.113.5", "9.9.9.9")], [mac(A)])
    assert sides.basis == "given"
    assert sides.port(packet(GATEWAY, A, "9.9.9.9", "203.0.113.5").data) == WAN_PORT
    assert sides.gateways == (mac(GATEWAY),)


def test_without_ethernet() -> None:
    out = packet("", "", "192.168.1.2", "9.9.9.9", linktype=101)
    back = packet("", "", "9.9.9.9", "192.168.1.2", linktype=101)
    sides = orient([out, back])
    frames = [sides.ethernet(p) for p in (out, back)]
    assert frames[0] is not None
    assert frames[1] is not None
    assert [sides.port(f) for f in frames if f] == [LAN_PORT, WAN_PORT]
    assert frames[0][:6] == frames[1][6:12] == MADE_UP_GATEWAY
    assert frames[0][6:12] == frames[1][:6] == b"\x02\x56\xc0\xa8\x01\x02"
    multicast = sides.ethernet(packet("", "", "192.168.1.2", "224.0.0.251", linktype=101))
    assert multicast is not None
    assert multicast[:6] == b"\xff" * 6
    assert sides.ethernet(Packet(0, 101, 1, b"\x12")) is None
    assert sides.ethernet(Packet(0, 101, 1, b"\x45")) is not None, "too short to tell ends, but IP all the same"


def test_nothing_to_go_by() -> None:
    sides = orient([Packet(0, 1, 3, b"abc"), packet(A, "ff:ff:ff:ff:ff:ff", "0.0.0.0", "255.255.255.255")])
    assert sides.basis == "none"
    assert sides.onlink == ()
    assert sides.port(b"abc") == LAN_PORT
    assert sides.port(packet(A, "ff:ff:ff:ff:ff:ff", "0.0.0.0", "255.255.255.255").data) == LAN_PORT


@pytest.mark.slow
def test_floods_are_bounded() -> None:
    def flood() -> list[Packet]:
        base = packet(GATEWAY, A, "9.9.9.9", "192.168.1.2").data
        return [Packet(0, 1, 60, base[:26] + struct.pack("!I", 0x08000000 + n) + base[30:]) for n in range(60_000)]

    sides = orient(flood())
    assert sides.onlink == (ipaddress.ip_network("192.168.1.0/24"),)
    assert sides.gateways == (mac(GATEWAY),)
