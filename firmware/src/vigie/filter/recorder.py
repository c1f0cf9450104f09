"""From event records to what the daemon keeps of them: attempts for the journal, observations for the roles, probes.

Pure: records in, values out. Kinds that nobody needs here (flows, DNS, discovery: detectors read those) are skipped on
their kind byte, before anything is decoded.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vigie.contract.codes import EventKind
from vigie.errors import DecodeError
from vigie.filter.abi import EVENT, address_text
from vigie.filter.decode import dhcp
from vigie.filter.events import Event, decode
from vigie.filter.journal import Attempt
from vigie.filter.zones import Address, ClaimSeen, HostSeen, Network, RouterClaim

KIND_AT = EVENT.fields["kind"][1]  # type: ignore[index]
ARP, ND_SOLICIT, ND_ADVERT = 0x0806, 135, 136
_ARP_ETHER_IPV4 = b"\x00\x01\x08\x00\x06\x04"
_DHCP_SERVER, _DHCP6_SERVER = 67, 547
_DHCP6_ADVERTISE, _DHCP6_REPLY = 2, 7
_BLOCKS = frozenset({EventKind.BLOCKED, EventKind.OBSERVED})
_WANTED = frozenset(
    int(k)
    for k in (*_BLOCKS, EventKind.DHCP, EventKind.NEIGHBOUR, EventKind.ROUTER, EventKind.PROBE, EventKind.MAC_MOVED)
)


@dataclass(frozen=True, slots=True)
class ProbeSeen:
    """The box's own loop probe came back."""

    ns: int


@dataclass(frozen=True, slots=True)
class MacMoved:
    """A MAC was seen behind the other port: where the gateway is has to be looked at again."""

    mac: bytes


Finding = Attempt | ClaimSeen | HostSeen | ProbeSeen | MacMoved


def findings(records: Iterable[bytes], wall_minus_mono: float) -> Iterator[Finding]:
    """What records tell. `wall_minus_mono`: Unix time minus CLOCK_MONOTONIC, seconds. Malformed ones are skipped."""
    for record in records:
        if len(record) <= KIND_AT or record[KIND_AT] not in _WANTED:
            continue
        try:
            finding = _finding(decode(record), wall_minus_mono)
        except DecodeError:
            continue
        if finding is not None:
            yield finding


def _finding(event: Event, wall_minus_mono: float) -> Finding | None:
    if event.kind in _BLOCKS:
        return attempt_of(event, event.ns / 1e9 + wall_minus_mono)
    if event.kind is EventKind.PROBE:
        return ProbeSeen(event.ns)
    if event.kind is EventKind.MAC_MOVED:
        return MacMoved(event.smac)
    return observation_of(event)


def attempt_of(event: Event, when: float) -> Attempt:
    """A journal row of a blocked or observed frame. The name is the destination when a name decided."""
    address = event.remote
    return Attempt(
        when=when,
        device=event.device_mac.hex(":"),
        destination=event.name or address,
        reason=int(event.reason),
        verdict=int(event.verdict),
        category=int(event.category),
        direction=event.direction,
        address=address,
        proto=event.proto,
        # The service's port: of the remote for what the LAN opens, of the device for what comes from outside.
        port=event.dport if event.proto in (6, 17) else 0,
        bytes=event.frame_len,
    )


def observation_of(event: Event) -> ClaimSeen | HostSeen | None:
    """What an ARP, ND, RA or DHCP event tells about who is behind which port."""
    now = event.ns / 1e9
    if event.kind is EventKind.ROUTER:
        return ClaimSeen(event.port, event.smac, RouterClaim.ADVERTISEMENT, event.src, now)
    if event.kind is EventKind.DHCP:
        return _dhcp_claim(event, now)
    address = neighbour_address(event)
    return HostSeen(event.port, event.smac, address, now) if address is not None else None


def _dhcp_claim(event: Event, now: float) -> ClaimSeen | None:
    """Offers and acknowledgements come from whoever hands out addresses."""
    if event.sport == _DHCP6_SERVER:
        if event.payload[:1] in (bytes([_DHCP6_ADVERTISE]), bytes([_DHCP6_REPLY])):
            return ClaimSeen(event.port, event.smac, RouterClaim.DHCP, event.src, now)
        return None
    if event.sport != _DHCP_SERVER:
        return None
    try:
        message = dhcp.decode(event.payload)
    except DecodeError:
        return None
    if message.request or message.type not in (dhcp.MessageType.OFFER, dhcp.MessageType.ACK):
        return None
    return ClaimSeen(event.port, event.smac, RouterClaim.DHCP, message.server or event.src, now)


def neighbour_address(event: Event) -> Address | None:
    """The address that the sender of an ARP or neighbour message says it holds; None when it says none."""
    payload = event.payload
    if event.family == 0:
        if payload[:6] != _ARP_ETHER_IPV4 or len(payload) < 18 or not any(payload[14:18]):
            return None
        return ipaddress.IPv4Address(payload[14:18])
    if event.sport == ND_ADVERT and len(payload) >= 24:
        return ipaddress.IPv6Address(payload[8:24])
    if event.sport == ND_SOLICIT and any(event.src_raw):
        return ipaddress.ip_address(address_text(event.src_raw))
    return None


def is_onlink(address: Address, prefixes: Iterable[Network]) -> bool:
    """Whether an address is of the LAN."""
    return address.is_link_local or any(address.version == p.version and address in p for p in prefixes)
