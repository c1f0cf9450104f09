"""Frames pass through the box byte for byte, in both directions.

    [lan p-lan0] ---- lan0 [ box ] wan0 ---- [p-wan0 router]

What is not IP, what is multicast and what is local is none of the filter's business.
"""

from __future__ import annotations

import socket
import struct

import pytest

from lab import plan, wire
from tests.netns.town import Town
from vigie.contract.codes import Reason

PC, ROUTER, BROADCAST = plan.MACS["pc"], plan.MACS["router"], "ff:ff:ff:ff:ff:ff"
MARK = b"VIGIE-LAB-FRAME"
Q, AD = 0x8100, 0x88A8


def arp(source_mac: str, source4: str, target4: str, operation: int = 1) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + wire.mac_bytes(source_mac) + socket.inet_aton(source4)
    return body + bytes(6) + socket.inet_aton(target4) + MARK


def ipv6(source: str, destination: str, following: int, payload: bytes, hops: int = 255) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    return struct.pack("!IHBB", 0x60000000, len(payload), following, hops) + ends + payload


def icmp6(source: str, destination: str, kind: int, body: bytes) -> bytes:
    message = struct.pack("!BBH", kind, 0, 0) + body
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    total = wire.checksum(ends + struct.pack("!II", len(message), 58) + message)
    return ipv6(source, destination, 58, message[:2] + struct.pack("!H", total) + message[4:])


def udp_packet(source: str, destination: str, dport: int = 40000, size: int = 100) -> bytes:
    return wire.udp4(ROUTER, PC, source, destination, 40000, dport, MARK.ljust(size, b"."))[14:]


def ipv4(source: str, destination: str, proto: int, payload: bytes, fragment: int = 0, options: bytes = b"") -> bytes:
    words = 5 + len(options) // 4
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    head = (
        struct.pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + len(payload), 7, fragment, 64, proto, 0) + ends + options
    )
    return head[:10] + struct.pack("!H", wire.checksum(head)) + head[12:] + payload


PC4, WIFI4, PC6, WIFI6 = plan.host4("pc"), plan.host4("wifi"), plan.host6("pc"), plan.host6("wifi")
LOCAL = udp_packet(PC4, WIFI4)
TARGET = socket.inet_pton(socket.AF_INET6, WIFI6)
SOLICITED = bytes(4) + TARGET + b"\x01\x01" + wire.mac_bytes(PC) + MARK.ljust(16)

# name: (destination MAC, EtherType or length, payload, tags)
FRAMES: dict[str, tuple[str, int, bytes, tuple[tuple[int, int], ...]]] = {
    "arp-request": (BROADCAST, 0x0806, arp(PC, PC4, WIFI4), ()),
    "arp-reply": (ROUTER, 0x0806, arp(PC, PC4, WIFI4, 2), ()),
    "stp": ("01:80:c2:00:00:00", 60, b"\x42\x42\x03" + bytes(35) + MARK, ()),
    "rstp-vendor": ("01:00:0c:cc:cc:cd", 60, b"\xaa\xaa\x03" + bytes(35) + MARK, ()),
    "eapol": ("01:80:c2:00:00:03", 0x888E, b"\x02\x01\x00\x00" + MARK, ()),
    "lldp": ("01:80:c2:00:00:0e", 0x88CC, b"\x02\x07\x04" + wire.mac_bytes(PC) + MARK, ()),
    "pppoe-discovery": (BROADCAST, 0x8863, b"\x11\x09\x00\x00\x00\x0f" + MARK, ()),
    "pppoe-session": (ROUTER, 0x8864, b"\x11\x00\x00\x01\x00\x86\x00\x21" + LOCAL, ()),
    "unknown-ethertype": (ROUTER, 0x9999, MARK, ()),
    "nd-solicitation": ("33:33:ff:00:00:60", 0x86DD, icmp6(PC6, "ff02::1:ff00:60", 135, SOLICITED), ()),
    "nd-advertisement": (ROUTER, 0x86DD, icmp6(PC6, WIFI6, 136, b"\x60\0\0\0" + TARGET + MARK.ljust(16)), ()),
    "router-solicitation": ("33:33:00:00:00:02", 0x86DD, icmp6("fe80::10", "ff02::2", 133, bytes(4) + MARK), ()),
    "mld-report": ("33:33:00:00:00:16", 0x86DD, icmp6("fe80::10", "ff02::16", 143, bytes(4) + MARK.ljust(16)), ()),
    "local-ipv4": (ROUTER, 0x0800, LOCAL, ()),
    "local-ipv6": (ROUTER, 0x86DD, ipv6(PC6, WIFI6, 59, MARK), ()),
    "multicast-ipv4": ("01:00:5e:00:00:fb", 0x0800, udp_packet(PC4, "224.0.0.251", 5353), ()),
    "multicast-ipv6": ("33:33:00:00:00:fb", 0x86DD, ipv6("fe80::10", "ff02::fb", 59, MARK), ()),
    "igmp": ("01:00:5e:00:00:16", 0x0800,
             ipv4(PC4, "224.0.0.22", 2, b"\x22\0\xdd\xff" + MARK, options=b"\x94\x04\0\0"), ()),
    "broadcast-ipv4": (BROADCAST, 0x0800, udp_packet(PC4, "192.168.1.255", 137), ()),
    "limited-broadcast": (BROADCAST, 0x0800, udp_packet(PC4, "255.255.255.255", 9), ()),
    "esp": (ROUTER, 0x0800, ipv4(PC4, WIFI4, 50, bytes(8) + MARK), ()),
    "gre": (ROUTER, 0x0800, ipv4(PC4, WIFI4, 47, b"\0\0\x88\x0b" + MARK), ()),
    "first-fragment": (ROUTER, 0x0800, ipv4(PC4, WIFI4, 17, LOCAL[20:28] + MARK.ljust(64), fragment=0x2000), ()),
    "later-fragment": (ROUTER, 0x0800, ipv4(PC4, WIFI4, 17, MARK.ljust(64), fragment=8), ()),
    "padded": (ROUTER, 0x0800, udp_packet(PC4, WIFI4, size=15) + bytes(20), ()),
    "hop-by-hop": (ROUTER, 0x86DD, ipv6(PC6, WIFI6, 0, b"\x3b\0\x05\x02\0\0\0\0" + MARK), ()),
    "vlan-ipv4": (ROUTER, 0x0800, LOCAL, ((Q, 0xA064),)),
    "vlan-ipv6": (ROUTER, 0x86DD, ipv6(PC6, WIFI6, 59, MARK), ((Q, 0x0FFE),)),
    "vlan-arp": (BROADCAST, 0x0806, arp(PC, PC4, WIFI4), ((Q, 100),)),
    "priority-tag": (ROUTER, 0x0800, LOCAL, ((Q, 0xE000),)),
    "service-tag": (ROUTER, 0x0800, LOCAL, ((AD, 200),)),
    "qinq": (ROUTER, 0x0800, LOCAL, ((AD, 200), (Q, 0x6064))),
    "four-tags": (ROUTER, 0x0800, LOCAL, ((AD, 1), (Q, 2), (Q, 3), (Q, 4))),
    "five-tags": (ROUTER, 0x0800, LOCAL, ((AD, 1), (Q, 2), (Q, 3), (Q, 4), (Q, 5))),
    "tagged-pppoe": (ROUTER, 0x8864, b"\x11\x00\x00\x01\x00\x86\x00\x21" + LOCAL, ((Q, 835),)),
    "bad-ip-version": (ROUTER, 0x0800, b"\x65" + LOCAL[1:], ()),
    "bad-ip-length": (ROUTER, 0x0800, LOCAL[:2] + b"\xff\xff" + LOCAL[4:], ()),
    "short-ip": (ROUTER, 0x0800, LOCAL[:12] + MARK[:4], ()),
    "short-udp": (ROUTER, 0x0800, ipv4(PC4, WIFI4, 17, b"\0\1\0"), ()),
}  # fmt: skip


def frame(name: str) -> bytes:
    destination, kind, payload, tags = FRAMES[name]
    return wire.ethernet(destination, PC, kind, payload, tags)


@pytest.mark.parametrize("name", FRAMES)
def test_frame_passes_unchanged_to_the_internet_side(quick_town: Town, name: str) -> None:
    sent = frame(name)
    with quick_town.lan_tap() as lan, quick_town.wan_tap() as wan:
        lan.send(sent)
        got = wan.collect(lambda data: data == sent, 1.0, count=1)
    assert got, f"{name} did not come out of the box as it went in: {sent.hex()}"


@pytest.mark.parametrize("name", FRAMES)
def test_frame_passes_unchanged_to_the_office_side(quick_town: Town, name: str) -> None:
    """The same from a neighbour behind the WAN port: its addresses are on-link too."""
    destination, kind, payload, tags = FRAMES[name]
    sent = wire.ethernet(PC if destination == ROUTER else destination, plan.MACS["wifi"], kind, payload, tags)
    with quick_town.lan_tap() as lan, quick_town.wan_tap() as wan:
        wan.send(sent)
        got = lan.collect(lambda data: data == sent, 1.0, count=1)
    assert got, f"{name} did not come out of the box as it went in: {sent.hex()}"


def test_each_frame_comes_out_once(quick_town: Town) -> None:
    """No copy back to where it came from, no double."""
    sent = wire.ethernet(ROUTER, PC, 0x0800, LOCAL)
    with quick_town.lan_tap() as lan, quick_town.wan_tap() as wan:
        for _ in range(50):
            lan.send(sent)
        there = wan.collect(lambda data: data == sent, 0.5)
        back = lan.collect(lambda data: data == sent, 0.2)
    assert (len(there), len(back)) == (50, 0)


@pytest.mark.parametrize("depth", [6, 7])
def test_more_tags_than_are_read_do_not_pass(quick_town: Town, depth: int) -> None:
    """A host looks through any number of priority tags: behind tags that nobody reads, anything could go out."""
    sent = wire.ethernet(ROUTER, PC, 0x0800, LOCAL, [(Q, number) for number in range(depth)])
    with quick_town.lan_tap() as lan, quick_town.wan_tap() as wan:
        before = quick_town.count(Reason.VLAN_DEPTH)
        lan.send(sent)
        assert wan.collect(lambda data: data == sent, 0.3) == []
    assert quick_town.count(Reason.VLAN_DEPTH) > before
