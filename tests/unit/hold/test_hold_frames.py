"""Frames sent on by the hold worker: Scapy says what they must be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from vigie.filter.decode.frames import parse
from vigie.filter.hold_frames import prohibited, pseudo_sum, reset_to_client, reset_to_server, segments, sum16

CLIENT, SERVER = "02:00:00:00:00:01", "02:00:00:00:00:02"


def ip(family: int) -> Packet:
    ether = Ether(src=CLIENT, dst=SERVER)
    if family == 4:
        return ether / IP(src="192.0.2.10", dst="198.51.100.7", id=0xFFFF, flags="DF", ttl=61)
    return ether / IPv6(src="2001:db8::10", dst="2001:db8:1::7", hlim=61)


def tcp(family: int, payload: bytes, seq: int = 0xFFFFFF00, flags: str = "PA") -> Packet:
    return ip(family) / TCP(sport=40000, dport=443, seq=seq, ack=77, flags=flags, window=500) / Raw(payload)


def with_partial_checksum(frame: bytes) -> bytes:
    """As a sender with checksum offload leaves it: the pseudo-header's sum in the field."""
    parsed = parse(frame)
    at = parsed.l4 + (16 if parsed.proto == 6 else 6)
    value = pseudo_sum(parsed.src, parsed.dst, parsed.proto, parsed.end - parsed.l4)
    return frame[:at] + value.to_bytes(2, "big") + frame[at + 2 :]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("partial", [False, True])
def test_a_merged_tcp_frame_is_cut_as_the_sender_would(family: int, partial: bool) -> None:
    payload = bytes(i * 7 & 0xFF for i in range(3001))
    merged = bytes(tcp(family, payload))
    got = [s.data for s in segments(with_partial_checksum(merged) if partial else merged, 1400, None)]
    want = []
    for number, start in enumerate(range(0, 3001, 1400)):
        last = start + 1400 >= 3001
        piece = tcp(family, payload[start : start + 1400], (0xFFFFFF00 + start) & 0xFFFFFFFF, "PA" if last else "A")
        if family == 4:
            piece[IP].id = (0xFFFF + number) & 0xFFFF
        want.append(bytes(piece))
    assert got == want


@pytest.mark.parametrize("family", [4, 6])
def test_merged_datagrams_are_cut_at_their_size(family: int) -> None:
    merged = bytes(ip(family) / UDP(sport=5000, dport=443) / Raw(b"a" * 1200 + b"b" * 1200 + b"c" * 10))
    got = segments(with_partial_checksum(merged), 1200, None)
    assert [s.frame.payload for s in got] == [b"a" * 1200, b"b" * 1200, b"c" * 10]
    last = ip(family) / UDP(sport=5000, dport=443) / Raw(b"c" * 10)
    if family == 4:
        last[IP].id = 1
    assert got[2].data == bytes(last)


@given(st.binary(min_size=1, max_size=300), st.sampled_from([4, 6]), st.sampled_from(["tcp", "udp"]))
def test_a_partial_checksum_is_completed(payload: bytes, family: int, proto: str) -> None:
    layer = TCP(sport=1, dport=443, flags="A") if proto == "tcp" else UDP(sport=1, dport=443)
    whole = bytes(ip(family) / layer / Raw(payload))
    assert segments(with_partial_checksum(whole), 0, None)[0].data == whole
    assert segments(whole, 0, None)[0].data == whole


def test_a_wrong_checksum_stays_wrong() -> None:
    frame = bytearray(bytes(tcp(4, b"payload")))
    frame[-1] ^= 0x55
    assert segments(bytes(frame), 0, None)[0].data == bytes(frame)


def test_the_outer_tag_comes_back_and_inner_tags_stay() -> None:
    plain = bytes(tcp(4, b"x" * 2000))
    for segment in segments(plain, 1400, 42):
        assert segment.frame.vlan == 42 and segment.data[12:16] == b"\x81\x00\x00\x2a"
    inner = Ether(src=CLIENT, dst=SERVER) / Dot1Q(vlan=7) / IP(dst="198.51.100.7") / UDP(dport=443) / Raw(b"q")
    assert segments(bytes(inner), 0, 42)[0].frame.vlans == (42, 7)


def test_padding_is_not_payload() -> None:
    frame = bytes(tcp(4, b"ab")) + b"\0" * 4
    (segment,) = segments(with_partial_checksum(frame), 0, None)
    assert segment.frame.payload == b"ab" and segment.data == frame


@pytest.mark.parametrize("data", [b"", b"\0" * 13, b"\xff" * 60, bytes(Ether(src=CLIENT, dst=SERVER) / IP())])
def test_what_cannot_be_read_goes_on_as_it_is(data: bytes) -> None:
    assert [s.data for s in segments(data, 1000, None)] == [data]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("vlan", [None, 9])
def test_resets_are_in_sequence_for_both_ends(family: int, vlan: int | None) -> None:
    (segment,) = segments(bytes(tcp(family, b"x" * 100, seq=1000)), 0, vlan)
    to_client, to_server = Ether(reset_to_client(segment.frame)), Ether(reset_to_server(segment.frame))
    assert (to_client.src, to_client.dst, to_server.src, to_server.dst) == (SERVER, CLIENT, CLIENT, SERVER)
    assert (to_client[TCP].seq, to_client[TCP].ack, str(to_client[TCP].flags)) == (77, 1100, "RA")
    assert (to_server[TCP].seq, to_server[TCP].ack, str(to_server[TCP].flags)) == (1000, 77, "RA")
    assert (to_client[TCP].sport, to_server[TCP].sport) == (443, 40000)
    for raw in (bytes(to_client), bytes(to_server)):
        parsed = parse(raw)
        assert parsed.vlan == vlan
        assert sum16(raw[parsed.l4 :], pseudo_sum(parsed.src, parsed.dst, 6, 20)) == 0xFFFF
        if family == 4:
            assert sum16(raw[parsed.l3 : parsed.l3 + 20]) == 0xFFFF


@pytest.mark.parametrize("family", [4, 6])
def test_icmp_quotes_the_datagram(family: int) -> None:
    sent = bytes(ip(family) / UDP(sport=5000, dport=443) / Raw(b"q" * 1200))
    reply = prohibited(parse(sent))
    packet = Ether(reply)
    assert (packet.src, packet.dst) == (SERVER, CLIENT)
    if family == 4:
        assert (packet[ICMP].type, packet[ICMP].code) == (3, 13)
        assert sum16(reply[34:]) == 0xFFFF
        assert reply[42:] == sent[14:42]
    else:
        assert packet[ICMPv6DestUnreach].code == 1
        parsed = parse(reply)
        assert sum16(reply[54:], pseudo_sum(parsed.src, parsed.dst, 58, len(reply) - 54)) == 0xFFFF
        assert reply[62:] == sent[14:62]
