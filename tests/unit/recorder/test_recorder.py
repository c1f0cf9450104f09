"""From event records to attempts and observations."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.codes import Category, EventKind, Reason, Verdict
from vigie.filter import events
from vigie.filter.abi import address_bytes
from vigie.filter.events import FROM_INTERNET, TO_INTERNET, Event
from vigie.filter.journal import Attempt
from vigie.filter.recorder import MacMoved, ProbeSeen, findings, is_onlink
from vigie.filter.zones import ClaimSeen, HostSeen, RouterClaim

DEVICE, ROUTER = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
OFFSET = 1_700_000_000.0


def event(kind: EventKind, **changes: object) -> Event:
    base = Event(
        ns=5_000_000_000,
        kind=kind,
        verdict=Verdict.REFUSE,
        reason=Reason.TOXIC_ADDRESS,
        port=0,
        category=Category.C2,
        class_id=1,
        smac=DEVICE,
        dmac=ROUTER,
        vlan=None,
        proto=6,
        family=4,
        src_raw=address_bytes("192.0.2.10"),
        dst_raw=address_bytes("198.51.100.7"),
        sport=40_000,
        dport=443,
        frame_len=60,
        gen=4,
        tcp_flags=2,
        direction=TO_INTERNET,
        gso_size=0,
        name_hash=0,
        remote_rank=0,
        payload=b"",
    )
    return base._replace(**changes)  # type: ignore[arg-type]


def one(kind: EventKind, **changes: object) -> object:
    (found,) = findings([events.encode(event(kind, **changes))], OFFSET)
    return found


def test_a_blocked_frame_is_an_attempt_of_its_device() -> None:
    found = one(EventKind.BLOCKED)
    assert found == Attempt(
        OFFSET + 5, "02:00:00:00:00:01", "198.51.100.7", 35, 1, 2, TO_INTERNET, "198.51.100.7", 6, 443, 1, 60
    )


def test_the_name_that_decided_is_the_destination() -> None:
    found = one(EventKind.BLOCKED, payload=b"toxic.example", reason=Reason.TOXIC_SNI)
    assert isinstance(found, Attempt) and (found.destination, found.address) == ("toxic.example", "198.51.100.7")


def test_an_inbound_attempt_is_about_the_device_and_its_port() -> None:
    found = one(
        EventKind.BLOCKED,
        direction=FROM_INTERNET,
        smac=ROUTER,
        dmac=DEVICE,
        src_raw=address_bytes("203.0.113.9"),
        dst_raw=address_bytes("2001:db8::10"),
        dport=9100,
        reason=Reason.INBOUND,
    )
    assert isinstance(found, Attempt)
    assert (found.device, found.destination, found.port) == ("02:00:00:00:00:01", "203.0.113.9", 9100)


def test_probes_and_moves() -> None:
    assert one(EventKind.PROBE) == ProbeSeen(5_000_000_000)
    assert one(EventKind.MAC_MOVED) == MacMoved(DEVICE)


def arp(sender: str, mac: bytes = DEVICE) -> bytes:
    return b"\x00\x01\x08\x00\x06\x04\x00\x01" + mac + ip_address(sender).packed + bytes(6) + b"\xc0\x00\x02\x01"


def test_arp_tells_who_holds_an_address() -> None:
    found = one(EventKind.NEIGHBOUR, family=0, payload=arp("192.0.2.9"), port=1)
    assert found == HostSeen(1, DEVICE, ip_address("192.0.2.9"), 5.0)


@pytest.mark.parametrize("payload", [arp("0.0.0.0"), arp("192.0.2.9")[:17], b"\x00\x06" + bytes(30), b""])
def test_arp_probes_and_other_things_tell_nothing(payload: bytes) -> None:
    assert list(findings([events.encode(event(EventKind.NEIGHBOUR, family=0, payload=payload))], OFFSET)) == []


def test_neighbour_advertisements_and_solicitations() -> None:
    target = address_bytes("2001:db8::9")
    advert = one(EventKind.NEIGHBOUR, family=6, sport=136, payload=bytes([136, 0, 0, 0, 0, 0, 0, 0]) + target)
    assert advert == HostSeen(0, DEVICE, ip_address("2001:db8::9"), 5.0)
    solicit = one(EventKind.NEIGHBOUR, family=6, sport=135, src_raw=target, payload=bytes(24))
    assert solicit == HostSeen(0, DEVICE, ip_address("2001:db8::9"), 5.0)
    dad = event(EventKind.NEIGHBOUR, family=6, sport=135, src_raw=bytes(16), payload=bytes(24))
    assert list(findings([events.encode(dad)], OFFSET)) == []


def dhcp(message: int, op: int = 2) -> bytes:
    return bytes([op, 1, 6, 0]) + bytes(232) + b"\x63\x82\x53\x63" + bytes([53, 1, message, 54, 4, 192, 0, 2, 1, 255])


@pytest.mark.parametrize(("message", "claims"), [(2, True), (5, True), (6, False), (1, False)])
def test_dhcp_offers_and_acknowledgements_claim(message: int, claims: bool) -> None:
    record = events.encode(event(EventKind.DHCP, proto=17, sport=67, dport=68, payload=dhcp(message)))
    expected = [ClaimSeen(0, DEVICE, RouterClaim.DHCP, "192.0.2.1", 5.0)] if claims else []
    assert list(findings([record], OFFSET)) == expected


def test_a_client_is_no_server() -> None:
    record = events.encode(event(EventKind.DHCP, proto=17, sport=68, dport=67, payload=dhcp(3, op=1)))
    assert list(findings([record], OFFSET)) == []


@pytest.mark.parametrize(("first", "claims"), [(2, True), (7, True), (1, False)])
def test_dhcpv6_servers_claim(first: int, claims: bool) -> None:
    server = event(EventKind.DHCP, proto=17, family=6, sport=547, dport=546, payload=bytes([first, 0, 0, 1]))
    assert len(list(findings([events.encode(server)], OFFSET))) == claims


def test_router_advertisement_claims() -> None:
    found = one(EventKind.ROUTER, family=6, sport=134, src_raw=address_bytes("fe80::1"))
    assert found == ClaimSeen(0, DEVICE, RouterClaim.ADVERTISEMENT, "fe80::1", 5.0)


@pytest.mark.parametrize(
    "kind", [EventKind.FLOW, EventKind.DNS, EventKind.NAME, EventKind.DISCOVERY, EventKind.INBOUND]
)
def test_what_detectors_read_is_skipped(kind: EventKind) -> None:
    assert list(findings([events.encode(event(kind))], OFFSET)) == []


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_malformed_records_are_skipped(records: list[bytes]) -> None:
    list(findings(records, OFFSET))


def test_onlink() -> None:
    prefixes = [ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")]
    assert is_onlink(ip_address("192.0.2.7"), prefixes) and is_onlink(ip_address("fe80::7"), prefixes)
    assert not is_onlink(ip_address("198.51.100.1"), prefixes) and not is_onlink(ip_address("2001:db8:1::1"), prefixes)
