"""What the data path makes itself: RST to both ends, ICMP prohibited, NXDOMAIN. Each checksum right, offload on or off.

    [pc eth0] -- sw0 -- lan0 [ box ] wan0 -- router -- internet

With offload the sender leaves checksums to the card: then the place where the card would put it is checked as well, by
filling it in as a card does.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from itertools import pairwise

import dns.edns
import dns.message
import dns.rcode
import pytest

from lab import plan, wire
from lab.bare import make_base
from lab.clients import tls
from lab.clients.steady import Conversation
from lab.netns import Namespace
from tests.netns.town import INDICATORS, Town
from vigie.contract.codes import Reason
from vigie.filter.abi import KIND_BASE
from vigie.filter.base.image import build_image
from vigie.filter.control import DEFAULT_RATES

TOXIC = {"IPv4": INDICATORS.toxic4, "IPv6": INDICATORS.toxic6}
HIDDEN = {"IPv4": plan.HIDDEN.v4, "IPv6": plan.HIDDEN.v6}
CLOUD = {"IPv4": plan.CLOUD.v4, "IPv6": plan.CLOUD.v6}
BOTH = pytest.mark.parametrize("family", ["IPv4", "IPv6"])


def transport(data: bytes) -> tuple[int, bytes, int]:
    """(protocol, transport header and what follows, its place in the frame)."""
    if data[12:14] == b"\x08\x00":
        start = 14 + (data[14] & 15) * 4
        return data[23], data[start:], start
    return (data[20], data[54:], 54) if data[12:14] == b"\x86\xdd" else (0, b"", 0)


def is_reset(data: bytes) -> bool:
    proto, segment, _ = transport(data)
    return proto == 6 and bool(segment[13] & 4)


def is_prohibited(data: bytes) -> bool:
    proto, message, _ = transport(data)
    return (proto == 1 and message[:2] == b"\x03\x0d") or (proto == 58 and message[:2] == b"\x01\x01")


def is_dns_answer(data: bytes) -> bool:
    proto, datagram, _ = transport(data)
    return proto == 17 and datagram[:2] == b"\0\x35"


def must_be_right(frames: list[wire.Frame], count: int = 1) -> None:
    """As many as expected at least, each with right checksums, and pending ones where the receiver looks for them."""
    assert len(frames) >= count, f"{len(frames)} answers seen, {count} expected"
    for frame in frames:
        assert wire.checksum_faults(frame.finished) == [], frame.data.hex()
        if frame.pending is not None:
            assert frame.pending[0] >= transport(frame.data)[2], f"checksum starts before its header: {frame.pending}"


def received_wrong(host: Namespace) -> int:
    """Packets that this machine threw away for their checksum, since it started."""
    text = host.run("cat", "/proc/net/snmp", "/proc/net/snmp6").out
    lines = [line.split() for line in text.splitlines()]
    total = sum(int(words[1]) for words in lines if len(words) == 2 and words[0].endswith("InCsumErrors"))
    for names, values in pairwise(lines):
        if len(names) > 2 and names[0] == values[0] and "InCsumErrors" in names:
            total += int(values[names.index("InCsumErrors")])
    return total


@BOTH
def test_connection_to_toxic_address_is_reset(town: Town, family: str) -> None:
    pc = town.lab["pc"]
    before = received_wrong(pc)
    with wire.Tap(pc, "eth0") as tap:
        pc.must_refuse_fast(TOXIC[family], plan.HTTPS)
        must_be_right(tap.collect(is_reset, 0.2))
    assert received_wrong(pc) == before


@BOTH
def test_datagram_to_toxic_address_is_told_prohibited(town: Town, family: str) -> None:
    pc = town.lab["pc"]
    before = received_wrong(pc)
    with wire.Tap(pc, "eth0") as tap:
        pc.must_refuse_fast(TOXIC[family], plan.ECHO, "udp")
        must_be_right(tap.collect(is_prohibited, 0.2))
    assert received_wrong(pc) == before


@BOTH
def test_ping_of_toxic_address_is_told_prohibited(town: Town, family: str) -> None:
    pc = town.lab["pc"]
    with wire.Tap(pc, "eth0") as tap:
        pc.must_not_reach(TOXIC[family], attempts=1)
        must_be_right(tap.collect(is_prohibited, 0.2))


@BOTH
def test_established_connection_is_cut_at_both_ends(town: Town, family: str) -> None:
    """The address enters the base: one RST to the office, one to the server, both accepted."""
    pc, internet = town.lab["pc"], town.lab.internet
    listed = make_base([*TOXIC.values(), *CLOUD.values()], INDICATORS.toxic_names, serial=2)
    with wire.Tap(pc, "eth0") as near, wire.Tap(internet, "eth0") as far:
        with Conversation(pc, CLOUD[family], plan.ECHO) as talk:
            time.sleep(0.1)
            town.path.load_image(KIND_BASE, build_image(listed))
            talk.wait_cut(2.0)
        must_be_right(near.collect(is_reset, 0.2))
        must_be_right(far.collect(is_reset, 0.2))
    town.path.load_image(KIND_BASE, build_image(town.base))
    pc.must_reach(CLOUD[family], plan.ECHO)


@BOTH
def test_toxic_server_name_is_reset_at_both_ends(town: Town, family: str) -> None:
    pc, internet = town.lab["pc"], town.lab.internet
    with wire.Tap(pc, "eth0") as near, wire.Tap(internet, "eth0") as far:
        tls.handshake(pc, HIDDEN[family], 443, INDICATORS.toxic_names[0]).require("refused")
        must_be_right(near.collect(is_reset, 0.2))
        must_be_right(far.collect(is_reset, 0.2))


@BOTH
def test_inbound_connection_is_refused_to_the_internet_only(town: Town, family: str) -> None:
    if family == "IPv4":
        target, port = plan.WAN4, plan.FORWARDED
    else:
        target, port = plan.host6("printer"), 9100
    internet = town.lab.internet
    with wire.Tap(internet, "eth0") as far, wire.Tap(town.lab["pc"], "eth0") as near:
        internet.must_refuse_fast(target, port)
        must_be_right(far.collect(is_reset, 0.2))
        assert near.collect(is_reset, 0.1) == []


@BOTH
@pytest.mark.parametrize("options", ["edns", "plain", "edns-dnssec", "mixed-case"])
def test_toxic_name_is_answered_here(town: Town, family: str, options: str) -> None:
    """NXDOMAIN as a resolver would say it: question, identifier, letter case, EDNS kept; extended error 15."""
    pc, name = town.lab["pc"], INDICATORS.toxic_names[0]
    if options == "mixed-case":
        name = f"WwW.{name.title()}"
    edns = -1 if options == "plain" else 0
    query = dns.message.make_query(name, "AAAA", use_edns=edns, want_dnssec=options == "edns-dnssec", payload=4096)
    server = plan.RESOLVER.v4 if family == "IPv4" else plan.RESOLVER.v6
    before = received_wrong(pc)
    with wire.Tap(pc, "eth0") as tap, town.wan_tap() as upstream:
        with pc.socket(socket.AF_INET if family == "IPv4" else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.connect((server, 53))
            sock.send(query.to_wire())
            answer = dns.message.from_wire(sock.recv(4096))
        must_be_right(tap.collect(is_dns_answer, 0.2))
        leaked = upstream.collect(lambda data: transport(data)[1][2:4] == b"\0\x35", 0.1)
    assert leaked == [], "the query left the box"
    assert received_wrong(pc) == before
    assert query.is_response(answer)
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert answer.question[0].name.to_text() == f"{name}."
    assert answer.edns == edns
    codes = [option.code for option in answer.options if isinstance(option, dns.edns.EDEOption)]
    assert codes == ([] if options == "plain" else [dns.edns.EDECode.BLOCKED])


def test_refusals_are_rate_limited(town: Town) -> None:
    """A flood to a toxic address does not turn the box into a source of RSTs."""
    mac, own = plan.MACS["pc"], plan.host4("pc")
    syn = [tcp_syn(mac, own, INDICATORS.toxic4, 10000 + number) for number in range(5000)]
    town.path.settings.set_rates(20, 20)
    with town.lan_tap() as lan:
        start = time.monotonic()
        lan.send(*syn)
        resets = lan.collect(is_reset, 0.5)
        took = time.monotonic() - start
    town.path.settings.set_rates(*DEFAULT_RATES)
    # The bucket is per CPU and holds one second's worth.
    most = 20 * len(os.sched_getaffinity(0)) * (took + 1)
    assert 1 <= len(resets) <= most, f"{len(resets)} RSTs in {took:.1f} s for {len(syn)} SYNs, at most {most:.0f}"
    assert town.count(Reason.REFUSAL_LIMITED) > 0
    town.lab["pc"].must_reach(plan.TOWN.v4)


def tcp_syn(mac: str, source: str, destination: str, sport: int, dport: int = 443) -> bytes:
    """A bare SYN to the router's MAC."""
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    segment = struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 0x50, 2, 65535, 0, 0)
    total = wire.checksum(ends + struct.pack("!BBH", 0, 6, len(segment)) + segment)
    segment = segment[:16] + struct.pack("!H", total) + segment[18:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, 0) + ends
    head = head[:10] + struct.pack("!H", wire.checksum(head)) + head[12:]
    return wire.ethernet(plan.MACS["router"], mac, 0x0800, head + segment)
