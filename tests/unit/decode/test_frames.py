"""Ethernet to transport: what is read, and the reason given for what is not."""

from __future__ import annotations

import struct

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q, Ether

from tests.unit.decode import make
from vigie.contract.codes import Reason
from vigie.filter.decode import frames


def test_ipv4_tcp_with_options_and_padding() -> None:
    packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(
        src="10.0.0.1", dst="1.2.3.4", options=b"\x01" * 4
    )
    data = bytes(packet / TCP(sport=5, dport=443, seq=77, flags="PA", options=[("MSS", 1400)]) / b"hi") + b"\0" * 9
    frame = frames.parse(data)
    assert (frame.source, frame.destination) == ("10.0.0.1", "1.2.3.4")
    assert (frame.sport, frame.dport, frame.seq, frame.tcp_flags) == (5, 443, 77, 0x18)
    assert frame.payload == b"hi"
    assert frame.anomaly is Reason.NONE
    assert (frame.smac.hex(), frame.dmac.hex()) == ("020000000001", "020000000002")


@pytest.mark.parametrize("count", range(7))
def test_vlan_depth(count: int) -> None:
    frame = frames.parse(make.tcp_frame(b"x", 1, tags=tuple(range(1, count + 1))))
    assert frame.vlans == tuple(range(1, min(count, 5) + 1))
    assert frame.anomaly is (Reason.VLAN_DEPTH if count > 5 else Reason.NONE)
    assert frame.family == (0 if count > 5 else 4)
    assert frame.vlan == (1 if count else None)


def test_provider_tag_of_scapy() -> None:
    frame = frames.parse(
        bytes(Ether(type=0x88A8) / Dot1Q(vlan=100, type=0x8100) / Dot1Q(vlan=7) / IP() / UDP(dport=53))
    )
    assert frame.vlans == (100, 7)
    assert frame.dport == 53


def test_ipv6_extensions_are_walked() -> None:
    packet = Ether() / IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()
    frame = frames.parse(bytes(packet / UDP(sport=1, dport=2) / b"abc"))
    assert (frame.proto, frame.sport, frame.dport, frame.payload) == (17, 1, 2, b"abc")


def test_ipv6_too_many_extensions() -> None:
    chain = (b"\0" + b"\0" * 7) * 9
    frame = frames.parse(make.ethernet(make.ipv6(0, chain + bytes(20))))
    assert frame.anomaly is Reason.EXT_HEADERS
    assert frame.l4 == 0


def test_ipv6_extension_truncated() -> None:
    assert frames.parse(make.ethernet(make.ipv6(0, b"\x06\x05\0\0\0\0\0\0"))).anomaly is Reason.SHORT_L4
    assert frames.parse(make.ethernet(make.ipv6(43, b"\x06\x00\0"))).anomaly is Reason.EXT_HEADERS


def test_fragments() -> None:
    first = frames.parse(make.ethernet(make.ipv4(17, struct.pack("!HHHH", 1, 2, 100, 0), fragment=0x2000)))
    assert (first.is_fragment, first.sport, first.anomaly) == (True, 1, Reason.FRAGMENT)
    later = frames.parse(make.ethernet(make.ipv4(17, bytes(16), fragment=4)))
    assert (later.fragment_offset, later.l4, later.payload, later.anomaly) == (32, 0, b"", Reason.FRAGMENT)
    six = frames.parse(bytes(Ether() / IPv6() / IPv6ExtHdrFragment(offset=2, m=1, nh=17) / bytes(16)))
    assert (six.fragment_offset, six.more_fragments, six.proto, six.l4) == (16, True, 17, 0)
    atomic = frames.parse(bytes(Ether() / IPv6() / IPv6ExtHdrFragment(offset=0, m=0) / UDP(dport=9)))
    assert (atomic.is_fragment, atomic.dport, atomic.anomaly) == (False, 9, Reason.NONE)


def test_icmp_type_and_code() -> None:
    frame = frames.parse(bytes(Ether() / IP() / ICMP(type=3, code=13)))
    assert (frame.sport, frame.dport) == (3, 13)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.SHORT_FRAME),
        (bytes(13), Reason.SHORT_FRAME),
        (make.ethernet(b"\x45" + bytes(10)), Reason.SHORT_IP),
        (make.ethernet(b"\x60" + bytes(19)), Reason.SHORT_IP),
        (make.ethernet(b"\x55" + bytes(30), ethertype=0x0800), Reason.BAD_IP_VERSION),
        (make.ethernet(b"\x45" + bytes(40), ethertype=0x86DD), Reason.BAD_IP_VERSION),
        (make.ethernet(b"\x44\0\0\x28" + bytes(40)), Reason.BAD_IP_LENGTH),
        (make.ethernet(b"\x45\0\0\x10" + bytes(40)), Reason.BAD_IP_LENGTH),
        (make.ethernet(b"\x45\0\xff\xff" + bytes(40)), Reason.BAD_IP_LENGTH),
        (make.ethernet(make.ipv4(6, bytes(19))), Reason.SHORT_L4),
        (make.ethernet(make.ipv4(6, bytes(20))), Reason.BAD_TCP),
        (make.ethernet(make.ipv4(6, bytes(12) + b"\xf0" + bytes(7))), Reason.BAD_TCP),
        (make.ethernet(make.ipv4(17, bytes(7))), Reason.SHORT_L4),
        (make.ethernet(make.ipv4(1, bytes(7))), Reason.SHORT_L4),
    ],
)
def test_absurd_frames_say_why(data: bytes, reason: Reason) -> None:
    frame = frames.parse(data)
    assert frame.anomaly is reason, frame
    assert frame.payload == b""


def test_without_link_layer() -> None:
    assert frames.parse_ip(make.ipv4(17, struct.pack("!HHHH", 1, 2, 9, 0) + b"x")).payload == b"x"
    assert frames.parse_ip(make.ipv6(58, bytes(8))).family == 6
    assert frames.parse_ip(b"").anomaly is Reason.SHORT_IP
    assert frames.parse_ip(b"\x20").anomaly is Reason.BAD_IP_VERSION


def test_address_text() -> None:
    assert frames.address_text(bytes(10) + b"\xff\xff\x01\x02\x03\x04") == "1.2.3.4"
    assert frames.address_text(bytes(15) + b"\x01") == "::1"
    assert frames.address_text(b"abc") == ""
