"""Packets that the data path makes itself: RST to both ends, ICMP prohibited, NXDOMAIN. Checked byte by byte.

The kernel's test run carries frames whose checksums are complete; frames with a checksum still to be filled in
(offload) are tested between namespaces, in tests/netns.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from tests.support import packets as p
from tests.support.policies import FOREVER
from tests.support.progrun import TC_ACT_REDIRECT, TC_ACT_SHOT, Result
from tests.support.town import LAN, WAN, Town
from vigie.contract.codes import Reason, Verdict

pytestmark = pytest.mark.bpf
Make = Callable[..., Town]

FAMILIES = pytest.mark.parametrize(("pc", "toxic", "plain"), [(p.PC, p.TOXIC, p.PLAIN), (p.PC6, p.TOXIC6, p.PLAIN6)])


def rebuilt(frame: bytes) -> bytes:
    """The frame with every length and checksum computed afresh by Scapy."""
    packet = Ether(frame)
    for layer in packet.iterpayloads():
        for field in ("chksum", "cksum", "len", "plen", "ihl", "dataofs"):
            if field in layer.fields and not isinstance(layer, Ether | Dot1Q):
                del layer.fields[field]
    return bytes(packet)


def ones_sum(data: bytes) -> int:
    """Internet checksum's sum of the data, folded (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def assert_sound(frame: bytes) -> Packet:
    """Lengths agree with the frame, and checksums are right; the dissected packet."""
    packet = Ether(frame)
    ip = packet[IP] if IP in packet else packet[IPv6]
    start = len(frame) - len(bytes(ip))
    if isinstance(ip, IP):
        assert (ip.version, ip.ihl, ip.len) == (4, 5, len(frame) - start)
        assert ones_sum(frame[start : start + 20]) == 0xFFFF, "IPv4 header checksum"
        proto, rest = ip.proto, frame[start + 20 :]
    else:
        assert (ip.version, ip.plen) == (6, len(frame) - start - 40)
        proto, rest = ip.nh, frame[start + 40 :]
    family = socket.AF_INET if isinstance(ip, IP) else socket.AF_INET6
    pseudo = socket.inet_pton(family, ip.src) + socket.inet_pton(family, ip.dst) + struct.pack("!II", len(rest), proto)
    assert ones_sum((b"" if proto == 1 else pseudo) + rest) == 0xFFFF, "transport checksum"
    if UDP in packet and proto == 17:
        assert packet[UDP].len == len(rest)
        assert packet[UDP].chksum, "0 would mean none"
    return packet


@contextmanager
def listening(device: str) -> Iterator[Callable[[], list[bytes]]]:
    """Frames that arrive at a device of this namespace; call for those so far."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3)) as sock:
        sock.bind((device, 0))

        def got() -> list[bytes]:
            frames = []
            while True:
                try:
                    frame, address = sock.recvfrom(65536)
                except BlockingIOError:
                    return frames
                if address[2] != socket.PACKET_OUTGOING and frame[12:14] in (b"\x08\x00", b"\x81\x00", b"\x86\xdd"):
                    frames.append(frame)

        yield got


def towards_sender(result: Result, sent: bytes) -> Packet:
    """The answer, sound and exactly reversed in its addresses."""
    assert result.action == TC_ACT_REDIRECT
    answer, question = assert_sound(result.data), Ether(sent)
    assert (answer.src, answer.dst) == (question.dst, question.src)
    a, q = (x[IP] if IP in x else x[IPv6] for x in (answer, question))
    assert (a.src, a.dst) == (q.dst, q.src)
    return answer


@FAMILIES
class TestReset:
    def test_of_a_syn_goes_to_the_sender_alone(self, town: Make, pc: str, toxic: str, plain: str) -> None:
        t = town()
        sent = p.ether(p.tcp(pc, toxic, 40000, 443, "S", seq=1000))
        with listening("p1x") as heard:
            answer = towards_sender(t.frame(LAN, sent), sent)
            assert not [f for f in heard() if TCP in Ether(f)]
        tcp = answer[TCP]
        assert (tcp.sport, tcp.dport, str(tcp.flags)) == (443, 40000, "RA")
        assert (tcp.seq, tcp.ack, tcp.window) == (0, 1001, 0)
        assert len(answer[TCP]) == 20

    @pytest.mark.parametrize(
        ("flags", "payload", "next_ack"),
        [("A", b"", 1000), ("PA", b"x" * 33, 1033), ("FA", b"", 1001), ("FPA", b"y" * 7, 1008)],
    )
    def test_of_an_established_flow_goes_both_ways(
        self, town: Make, pc: str, toxic: str, plain: str, flags: str, payload: bytes, next_ack: int
    ) -> None:
        t = town()
        sent = p.ether(p.tcp(pc, toxic, 40000, 443, flags, payload, seq=1000, ack=5000))
        with listening("p1x") as heard:
            answer = towards_sender(t.frame(LAN, sent), sent)
            onward = [f for f in heard() if TCP in Ether(f)]
        assert str(answer[TCP].flags) == "RA"
        assert (answer[TCP].seq, answer[TCP].ack) == (5000, next_ack)
        (other,) = onward
        packet = assert_sound(other)
        assert (packet.src, packet.dst) == (p.PC_MAC, p.GATEWAY_MAC)
        assert str(packet[TCP].flags) == "RA"
        assert (packet[TCP].sport, packet[TCP].dport) == (40000, 443)
        assert (packet[TCP].seq, packet[TCP].ack) == (1000, 5000)

    @pytest.mark.parametrize("flags", ["R", "RA"])
    def test_never_in_answer_to_a_reset(self, town: Make, pc: str, toxic: str, plain: str, flags: str) -> None:
        got = town().sends(p.tcp(pc, toxic, 40000, 443, flags))
        assert (got.verdict, got.action) == (Verdict.REFUSE, TC_ACT_SHOT)

    def test_without_ack(self, town: Make, pc: str, toxic: str, plain: str) -> None:
        sent = p.ether(p.tcp(pc, toxic, 40000, 443, "P", b"abc", seq=1000))
        tcp = towards_sender(town().frame(LAN, sent), sent)[TCP]
        assert (str(tcp.flags), tcp.seq, tcp.ack) == ("RA", 0, 1003)

    def test_keeps_tags(self, town: Make, pc: str, toxic: str, plain: str) -> None:
        sent = p.ether(p.tcp(pc, toxic, 40000, 443, "S"), vlans=[832, 7])
        answer = towards_sender(town().frame(LAN, sent), sent)
        assert [tag.vlan for tag in answer.iterpayloads() if isinstance(tag, Dot1Q)] == [832, 7]

    def test_towards_the_internet_for_refused_inbound(self, town: Make, pc: str, toxic: str, plain: str) -> None:
        sent = p.ether(p.tcp(plain, pc, 999, 22, "S"), smac=p.GATEWAY_MAC, dmac=p.PC_MAC)
        got = town().frame(WAN, sent)
        assert got.decided == (Verdict.REFUSE, Reason.INBOUND)
        assert str(towards_sender(got, sent)[TCP].flags) == "RA"

    def test_ignores_padding(self, town: Make, pc: str, toxic: str, plain: str) -> None:
        sent = p.ether(p.tcp(pc, toxic, 40000, 443, "A", seq=1000)) + b"\xaa" * 9
        answer = towards_sender(town().frame(LAN, sent), sent)
        assert answer[TCP].ack == 1000


def test_no_reset_beyond_options_or_extension_headers(town: Make) -> None:
    t = town()
    before = t.kernel.data.counters().get(Reason.REFUSAL_FAILED, (0, 0))[0]
    options = IP(src=p.PC, dst=p.TOXIC, options=b"\x94\x04\0\0") / TCP(sport=1, dport=2)
    chain = p.extensions6(p.tcp(p.PC6, p.TOXIC6, 1, 2), [60])
    for packet in (options, chain):
        got = t.sends(packet)
        assert (got.decided, got.action) == ((Verdict.REFUSE, Reason.TOXIC_ADDRESS), TC_ACT_SHOT)
    assert t.kernel.data.counters()[Reason.REFUSAL_FAILED][0] == before + 2


@FAMILIES
class TestProhibited:
    @pytest.mark.parametrize("size", [0, 1, 7, 40, 1400])
    @pytest.mark.parametrize("kind", ["udp", "echo"])
    def test_quotes_header_and_eight_bytes(
        self, town: Make, pc: str, toxic: str, plain: str, kind: str, size: int
    ) -> None:
        packet = p.udp(pc, toxic, 40000, 443, b"x" * size) if kind == "udp" else p.echo(pc, toxic)
        sent = p.ether(packet)
        answer = towards_sender(town().frame(LAN, sent), sent)
        message = bytes(answer[IP].payload if IP in answer else answer[IPv6].payload)
        assert message[:2] == (b"\x01\x01" if p.is6(pc) else b"\x03\x0d")
        header = 40 if p.is6(pc) else 20
        assert message[4:8] == bytes(4)
        assert message[8:] == sent[14 : 14 + header + 8]

    def test_never_for_icmp_errors_multicast_or_fragments(self, town: Make, pc: str, toxic: str, plain: str) -> None:
        t = town(quarantine={p.PC_MAC: FOREVER})
        error = p.icmp_error(pc, plain, bytes(p.udp(plain, pc, 1, 2)))
        part = p.udp(pc, plain, 1, 2)
        first = p.extensions6(part, [44], more=True) if p.is6(pc) else p.fragment4(part, 0, more=True)
        for packet in (error, first):
            got = t.sends(packet)
            assert (got.decided, got.action) == ((Verdict.REFUSE, Reason.QUARANTINE), TC_ACT_SHOT)

    def test_keeps_tags(self, town: Make, pc: str, toxic: str, plain: str) -> None:
        sent = p.ether(p.udp(pc, toxic, 1, 2), vlans=[9])
        answer = towards_sender(town().frame(LAN, sent), sent)
        assert answer[Dot1Q].vlan == 9


def test_prohibited_is_what_scapy_would_have_made(town: Make) -> None:
    sent = p.ether(p.udp(p.PC, p.TOXIC, 40000, 443, b"hello"))
    got = town().frame(LAN, sent)
    assert rebuilt(got.data) == got.data
    assert Ether(got.data)[ICMP].code == 13


ENDS = pytest.mark.parametrize(("pc", "server"), [(p.PC, p.PLAIN), (p.PC6, p.PLAIN6)])


def asked(pc: str, server: str, message: bytes, *vlans: int) -> bytes:
    return p.ether(p.udp(pc, server, 40000, 53, message), vlans=vlans)


@ENDS
class TestNxdomain:
    @pytest.mark.parametrize("label", range(1, 24))
    @pytest.mark.parametrize("edns", [0, 1232])
    def test_every_length(self, town: Make, pc: str, server: str, label: int, edns: int) -> None:
        name = "A" * label + ".eViL.Example"
        message = p.dns_query(name, 28, ident=0xBEEF, edns=edns)
        sent = asked(pc, server, message)
        answer = towards_sender(town().frame(LAN, sent), sent)
        assert (answer[UDP].sport, answer[UDP].dport) == (53, 40000)
        wire = bytes(answer[UDP].payload)
        question = 12 + len(p.dns_name(name)) + 4
        assert wire[12:question] == message[12:question], "same question, letter case kept"
        read = dns.message.from_wire(wire)
        assert (read.id, read.rcode(), read.opcode()) == (0xBEEF, dns.rcode.NXDOMAIN, 0)
        assert read.flags & (dns.flags.QR | dns.flags.RD | dns.flags.RA) == dns.flags.QR | dns.flags.RD | dns.flags.RA
        assert not read.flags & (dns.flags.AA | dns.flags.TC | dns.flags.AD)
        assert not read.answer + read.authority + read.additional
        if edns:
            (option,) = read.options
            assert isinstance(option, dns.edns.EDEOption)
            assert option.code == 15
            assert read.edns == 0
            assert read.payload >= 512
        else:
            assert read.edns == -1
            assert len(wire) == question

    @pytest.mark.parametrize("length", [200, 230, 253])
    def test_long_names(self, town: Make, pc: str, server: str, length: int) -> None:
        tail = ".evil.example"
        left = length - len(tail)
        labels = []
        while left > 0:
            size = min(left, 60)
            labels.append("b" * (size - 1 if left - size == 1 else size))
            left -= len(labels[-1]) + 1
        name = ".".join(labels) + tail
        for edns in (0, 4096):
            sent = asked(pc, server, p.dns_query(name, edns=edns))
            read = dns.message.from_wire(bytes(towards_sender(town().frame(LAN, sent), sent)[UDP].payload))
            assert read.rcode() == dns.rcode.NXDOMAIN
            assert read.question[0].name.to_text(omit_final_dot=True) == name

    def test_recursion_and_checking_are_kept_as_asked(self, town: Make, pc: str, server: str) -> None:
        for flags in (0x0000, 0x0100, 0x0110, 0x0120, 0x0130):
            sent = asked(pc, server, p.dns_query("evil.example", flags=flags))
            read = dns.message.from_wire(bytes(towards_sender(town().frame(LAN, sent), sent)[UDP].payload))
            assert read.flags & dns.flags.RD == flags & dns.flags.RD
            assert read.flags & dns.flags.CD == flags & dns.flags.CD

    def test_options_of_the_query_are_not_given_back(self, town: Make, pc: str, server: str) -> None:
        cookie = struct.pack("!HH", 10, 8) + b"12345678"
        padding = struct.pack("!HH", 12, 100) + bytes(100)
        for options in (cookie, padding, cookie + padding):
            sent = asked(pc, server, p.dns_query("evil.example", edns=1232, options=options))
            read = dns.message.from_wire(bytes(towards_sender(town().frame(LAN, sent), sent)[UDP].payload))
            assert [o.otype for o in read.options] == [dns.edns.OptionType.EDE]
            assert read.ednsflags & dns.flags.DO, "DO as asked"

    def test_real_queries_of_dnspython(self, town: Make, pc: str, server: str) -> None:
        for kind in ("A", "AAAA", "HTTPS", "TXT"):
            query = dns.message.make_query("www.evil.example", kind, use_edns=0, want_dnssec=True)
            sent = asked(pc, server, query.to_wire())
            wire = bytes(towards_sender(town().frame(LAN, sent), sent)[UDP].payload)
            read = dns.message.from_wire(wire)
            assert query.is_response(read)

    def test_keeps_tags(self, town: Make, pc: str, server: str) -> None:
        sent = asked(pc, server, p.dns_query("evil.example"), 832)
        answer = towards_sender(town().frame(LAN, sent), sent)
        assert answer[Dot1Q].vlan == 832

    def test_bytes_are_what_scapy_would_have_made(self, town: Make, pc: str, server: str) -> None:
        for edns in (0, 1232):
            sent = asked(pc, server, p.dns_query("evil.example", edns=edns))
            got = town().frame(LAN, sent)
            assert_sound(got.data)
            ip = Ether(got.data).payload
            fresh = (IPv6 if p.is6(pc) else IP)(src=server, dst=pc) / UDP(sport=53, dport=40000)
            fresh = fresh / bytes(ip.payload.payload)
            if p.is6(pc):
                fresh.hlim = ip.hlim
            else:
                fresh.ttl, fresh.id, fresh.flags = ip.ttl, ip.id, ip.flags
            assert got.data == p.ether(fresh, smac=p.GATEWAY_MAC, dmac=p.PC_MAC)


def test_no_answer_behind_extension_headers(town: Make) -> None:
    query = p.udp(p.PC6, p.PLAIN6, 40000, 53, p.dns_query("evil.example"))
    got = town().sends(p.extensions6(query, [60]))
    assert (got.verdict, got.action) == (Verdict.NXDOMAIN, TC_ACT_SHOT)


def test_padding_after_the_query_is_not_given_back(town: Make) -> None:
    sent = asked(p.PC, p.PLAIN, p.dns_query("evil.example")) + b"\xaa" * 10
    answer = towards_sender(town().frame(LAN, sent), sent)
    assert len(bytes(answer[UDP].payload)) == 12 + 14 + 4


def test_toxic_name_over_tcp_is_reset_both_ways(town: Make) -> None:
    t = town()
    t.sends(p.tcp(p.PC, p.PLAIN, 40000, 53))
    query = p.over_tcp(p.dns_query("evil.example"))
    sent = p.ether(p.tcp(p.PC, p.PLAIN, 40000, 53, "PA", query, seq=7, ack=9))
    with listening("p1x") as heard:
        got = t.frame(LAN, sent)
        assert got.decided == (Verdict.REFUSE, Reason.TOXIC_DNS)
        answer = towards_sender(got, sent)
        assert (answer[TCP].seq, answer[TCP].ack) == (9, 7 + len(query))
        (onward,) = [f for f in heard() if TCP in Ether(f)]
    assert assert_sound(onward)[TCP].seq == 7


def test_toxic_server_name_is_reset_both_ways(town: Make) -> None:
    t = town()
    t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443))
    hello = p.client_hello("evil.example", pad=900)
    sent = p.ether(p.tcp(p.PC, p.PLAIN, 40000, 443, "PA", hello, seq=7, ack=9))
    with listening("p1x") as heard:
        towards_sender(t.frame(LAN, sent), sent)
        (onward,) = [f for f in heard() if TCP in Ether(f)]
    packet = assert_sound(onward)
    assert (str(packet[TCP].flags), packet[TCP].seq, len(packet[TCP].payload)) == ("RA", 7, 0), "no byte of the hello"
