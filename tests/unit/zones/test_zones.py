"""The role machine, table-driven: what was seen, then the roles and the alerts."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.codes import InboundMode
from vigie.filter.zones import (
    NEIGHBOURS_MAX,
    UNKNOWN,
    AlertKind,
    ClaimSeen,
    GatewaySeen,
    HostSeen,
    Link,
    Observation,
    RouterClaim,
    Zones,
    inbound_mode,
    onlink_prefixes,
)

ROLES_SET, ROGUE_RA = AlertKind.ROLES_SET, AlertKind.ROGUE_RA
GW = bytes.fromhex("021122334455")
ROGUE = bytes.fromhex("02deadbeef01")
GW4 = ip_address("192.0.2.1")
GW6 = ip_address("fe80::1")


def gateway(port: int, now: float, mac: bytes = GW) -> GatewaySeen:
    return GatewaySeen(port, mac, GW4, now)


def ra(port: int, now: float, mac: bytes = ROGUE) -> ClaimSeen:
    return ClaimSeen(port, mac, RouterClaim.ADVERTISEMENT, "fe80::bad", now)


def dhcp(port: int, now: float, mac: bytes = ROGUE) -> ClaimSeen:
    return ClaimSeen(port, mac, RouterClaim.DHCP, "192.0.2.66", now)


SCENARIOS: list[tuple[str, list[Observation], int, list[AlertKind]]] = [
    ("nothing seen", [], UNKNOWN, []),
    ("first gateway", [gateway(1, 0)], 1, [AlertKind.ROLES_SET]),
    ("same gateway again", [gateway(1, 0), gateway(1, 9)], 1, [AlertKind.ROLES_SET]),
    ("a claim alone never sets roles", [ra(1, 0), dhcp(1, 1)], UNKNOWN, []),
    ("gateway replaced", [gateway(0, 0), gateway(0, 5, ROGUE)], 0, [AlertKind.ROLES_SET, AlertKind.GATEWAY_CHANGED]),
    ("its MAC on the LAN", [gateway(1, 0), gateway(0, 5)], 1, [AlertKind.ROLES_SET, AlertKind.GATEWAY_ON_LAN]),
    ("rogue RA", [gateway(1, 0), ra(0, 5), ra(0, 6)], 1, [AlertKind.ROLES_SET, AlertKind.ROGUE_RA]),
    ("rogue RA, an hour later", [gateway(1, 0), ra(0, 5), ra(0, 3606)], 1, [ROLES_SET, ROGUE_RA, ROGUE_RA]),
    ("rogue DHCP", [gateway(1, 0), dhcp(0, 5)], 1, [AlertKind.ROLES_SET, AlertKind.ROGUE_DHCP]),
    ("claims on the WAN are usual", [gateway(1, 0), ra(1, 5), dhcp(1, 5)], 1, [AlertKind.ROLES_SET]),
    (
        "cables swapped",
        [gateway(1, 0), Link(1, False, 5), Link(1, True, 7), ra(0, 7.5), gateway(0, 8)],
        0,
        [AlertKind.ROLES_SET, AlertKind.LINK_DOWN, AlertKind.LINK_UP, AlertKind.ROLES_CHANGED],
    ),
    (
        "both cables pulled: unknown until confirmed",
        [gateway(1, 0), Link(1, False, 5), Link(0, False, 6), Link(0, True, 7), ra(0, 7)],
        UNKNOWN,
        [AlertKind.ROLES_SET, AlertKind.LINK_DOWN, AlertKind.LINK_DOWN, AlertKind.LINK_UP],
    ),
    (
        "both cables pulled and put into the other port",
        [gateway(1, 0), Link(1, False, 5), Link(0, False, 6), gateway(0, 8), gateway(0, 9)],
        0,
        [AlertKind.ROLES_SET, AlertKind.LINK_DOWN, AlertKind.LINK_DOWN, AlertKind.ROLES_CHANGED],
    ),
    (
        "both cables pulled and put back",
        [gateway(1, 0), Link(1, False, 5), Link(0, False, 6), gateway(1, 8)],
        1,
        [AlertKind.ROLES_SET, AlertKind.LINK_DOWN, AlertKind.LINK_DOWN],
    ),
    (
        "ISP box restarted, then a spoof: the confirmation closed the window",
        [gateway(1, 0), Link(1, False, 5), Link(1, True, 7), gateway(1, 8), gateway(0, 9)],
        1,
        [AlertKind.ROLES_SET, AlertKind.LINK_DOWN, AlertKind.LINK_UP, AlertKind.GATEWAY_ON_LAN],
    ),
    ("link said twice", [Link(0, True, 0), Link(0, False, 1), Link(0, False, 2)], UNKNOWN, [AlertKind.LINK_DOWN]),
]


@pytest.mark.parametrize(("what", "seen", "wan", "alerts"), SCENARIOS, ids=[s[0] for s in SCENARIOS])
def test_scenarios(what: str, seen: list[Observation], wan: int, alerts: list[AlertKind]) -> None:
    zones = Zones()
    got = [alert.kind for step in seen for alert in zones.step(step)]
    assert (zones.wan_port, got) == (wan, alerts), what


def test_two_gateways_and_their_addresses() -> None:
    zones = Zones()
    zones.step(gateway(1, 0))
    zones.step(GatewaySeen(1, ROGUE, GW6, 1))
    assert zones.gateway_macs() == [GW, ROGUE]
    assert zones.gateway_addresses() == [GW4, GW6]
    # The same router answers for both: one MAC remains.
    zones.step(GatewaySeen(1, GW, GW6, 2))
    assert zones.gateway_macs() == [GW]
    assert set(zones.gateway_addresses()) == {GW4, GW6}


def test_seeing_the_same_gateways_again_changes_nothing() -> None:
    zones = Zones()
    for now in range(3):
        zones.step(gateway(1, now))
        zones.step(GatewaySeen(1, GW, GW6, now))
        assert list(zones.gateways.items()) == [(GW, (GW4, GW6))]


def test_neighbours_are_the_wan_hosts_that_are_no_gateway() -> None:
    zones = Zones()
    host = HostSeen(1, b"\x02\0\0\0\0\x09", ip_address("192.0.2.9"), 1.0)
    assert not zones.step(host) and not zones.neighbours  # roles unknown: nobody is a neighbour
    zones.step(gateway(1, 0))
    zones.step(host)
    zones.step(HostSeen(1, GW, GW4, 1.0))
    zones.step(HostSeen(0, b"\x02\0\0\0\0\x0a", ip_address("192.0.2.10"), 1.0))
    assert [n.address for n in zones.list_neighbours(2.0)] == ["192.0.2.9"]
    assert not zones.list_neighbours(90_000.0)
    zones.step(HostSeen(0, host.mac, ip_address("192.0.2.9"), 3.0))  # carried to the LAN: protected now
    assert not zones.list_neighbours(3.0)


def test_forged_macs_do_not_grow_the_state() -> None:
    zones = Zones()
    zones.step(gateway(1, 0))
    for i in range(5000):
        mac = b"\x02\0" + i.to_bytes(4, "big")
        zones.step(HostSeen(1, mac, ip_address("192.0.2.9"), float(i)))
        zones.step(ra(0, float(i), mac))
    assert len(zones.neighbours) == NEIGHBOURS_MAX
    assert len(zones._said) <= 1024


def test_onlink_prefixes() -> None:
    nets = ("192.0.2.0/24", "192.0.2.128/25", "fe80::/64", "2001:db8::/64", "192.0.2.7/32", "2001:db8::/64")
    assert onlink_prefixes(map(ip_network, nets)) == [ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")]


@pytest.mark.parametrize(
    ("configured", "known", "left", "mode"),
    [
        ("learn", False, 5, InboundMode.OFF),
        ("refuse", False, 0, InboundMode.OFF),
        ("learn", True, 5, InboundMode.LEARN),
        ("learn", True, 0, InboundMode.REFUSE),
        ("refuse", True, 5, InboundMode.REFUSE),
        ("off", True, 0, InboundMode.OFF),
    ],
)
def test_inbound_mode(configured: str, known: bool, left: float, mode: InboundMode) -> None:
    assert inbound_mode(configured, known, left) is mode


_ports = st.integers(0, 1)
_macs = st.sampled_from([GW, ROGUE])
_steps = st.one_of(
    st.tuples(st.just("link"), _ports, st.booleans()),
    st.tuples(st.just("gateway"), _ports, _macs),
    st.tuples(st.just("claim"), _ports, _macs),
    st.tuples(st.just("host"), _ports, _macs),
)


@given(st.lists(_steps, max_size=30))
def test_roles_change_only_after_a_link_went_down(steps: list[tuple[str, int, object]]) -> None:
    zones = Zones()
    down_since_confirmed = False
    for now, (kind, port, extra) in enumerate(steps):
        before = zones.wan_port
        if kind == "link":
            was = zones.link[port]
            zones.step(Link(port, bool(extra), now))
            down_since_confirmed |= was and not extra
            if not down_since_confirmed:
                assert zones.wan_port == before
        elif kind == "gateway":
            assert isinstance(extra, bytes)
            zones.step(gateway(port, now, extra))
        elif kind == "claim":
            assert isinstance(extra, bytes)
            zones.step(ra(port, now, extra))
        else:
            assert isinstance(extra, bytes)
            zones.step(HostSeen(port, extra, GW4, now))
        if UNKNOWN not in (before, zones.wan_port) and before != zones.wan_port:
            assert kind == "gateway" and down_since_confirmed
        if zones.wan_port == UNKNOWN != before:
            assert kind == "link" and zones.went_down == {0, 1}
        if kind == "gateway" and port == zones.wan_port:
            down_since_confirmed = False
