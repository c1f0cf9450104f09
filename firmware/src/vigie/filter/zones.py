"""Which port is the internet side: the role machine, pure.

Cables may be plugged either way round. The side where the default gateway answers is the WAN. Roles are unknown at
start (`wan_port` -1: the inbound default stays off) and set by the first *confirmed* gateway: a next hop of a default
route of the box, resolved to a MAC, that was seen behind one port. Afterwards they change only when a link went down
since the last confirmation *and* the gateway is confirmed on the other side. Anything else that points at the other
side (a router advertisement, a DHCP offer, the gateway's MAC showing up there) is an alert, not a change: a machine of
the LAN can forge it.

Once *both* links have been down since the last confirmation the cables may have been swapped, and roles are unknown
again until a gateway is confirmed: filtering by the wrong roles would look at the wrong end of every packet. One link
down (the ISP box restarts) changes nothing: cables cannot be swapped without pulling both.

`Zones` holds the state; `step(observation)` returns the alerts that the observation causes. No I/O, no clock: times are
seconds given by the caller (any monotonic origin).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from vigie.contract.codes import InboundMode

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNKNOWN = -1
NEIGHBOURS_MAX = 256
NEIGHBOUR_FORGET_S = 24 * 3600.0
ALERT_REPEAT_S = 3600.0
ALERT_KEYS_MAX = 1024
ONLINK_MAX = 8
GATEWAY_ADDRESSES_MAX = 4
GATEWAY_MACS_MAX = 2


class AlertKind(StrEnum):
    """What the role machine reports; stored in the journal, append-only."""

    ROLES_SET = "roles-set"
    ROLES_CHANGED = "roles-changed"
    GATEWAY_CHANGED = "gateway-changed"
    GATEWAY_ON_LAN = "gateway-on-lan"
    ROGUE_RA = "rogue-router"
    ROGUE_DHCP = "rogue-dhcp"
    LINK_DOWN = "link-down"
    LINK_UP = "link-up"
    LOOP = "loop"
    LOOP_GONE = "loop-gone"


SEVERITY: dict[AlertKind, int] = {
    AlertKind.ROLES_SET: 0,
    AlertKind.LINK_UP: 0,
    AlertKind.LINK_DOWN: 1,
    AlertKind.ROLES_CHANGED: 1,
    AlertKind.GATEWAY_CHANGED: 1,
    AlertKind.LOOP_GONE: 0,
    AlertKind.LOOP: 2,
    AlertKind.GATEWAY_ON_LAN: 3,
    AlertKind.ROGUE_RA: 3,
    AlertKind.ROGUE_DHCP: 3,
}


@dataclass(frozen=True, slots=True)
class Alert:
    """Something a person should know. `mac` is empty when no machine is concerned."""

    kind: AlertKind
    port: int
    mac: bytes = b""
    address: str = ""

    @property
    def severity(self) -> int:
        """0 information, 1 notice, 2 warning, 3 serious."""
        return SEVERITY[self.kind]


# ---- observations -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """Carrier of a port."""

    port: int
    up: bool
    now: float


@dataclass(frozen=True, slots=True)
class GatewaySeen:
    """A default route's next hop, resolved, whose MAC was last seen behind `port`."""

    port: int
    mac: bytes
    address: Address
    now: float


class RouterClaim(StrEnum):
    """How a machine claimed to be the way to the internet."""

    ADVERTISEMENT = "ra"
    DHCP = "dhcp"


@dataclass(frozen=True, slots=True)
class ClaimSeen:
    """A router advertisement, or a DHCP offer/acknowledgement, came in at `port`."""

    port: int
    mac: bytes
    claim: RouterClaim
    address: str
    now: float


@dataclass(frozen=True, slots=True)
class HostSeen:
    """An ARP or neighbour message: `mac` holds the on-link `address` behind `port`."""

    port: int
    mac: bytes
    address: Address
    now: float


Observation = Link | GatewaySeen | ClaimSeen | HostSeen


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A machine on the internet side that is not the gateway: the Wi-Fi of the ISP box. Local, unprotected."""

    mac: bytes
    address: str
    first: float
    last: float


@dataclass(slots=True)
class Zones:
    """State of the role machine; see the module. `gateways` maps MAC to its on-link addresses."""

    wan_port: int = UNKNOWN
    gateways: dict[bytes, tuple[Address, ...]] = field(default_factory=dict)
    link: list[bool] = field(default_factory=lambda: [True, True])
    went_down: set[int] = field(default_factory=set)  # ports, since the last confirmation
    wan_before: int = UNKNOWN
    neighbours: dict[bytes, Neighbour] = field(default_factory=dict)
    _said: dict[tuple[AlertKind, int, bytes], float] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether the roles are set."""
        return self.wan_port != UNKNOWN

    @property
    def lan_port(self) -> int:
        """The other port, or UNKNOWN."""
        return 1 - self.wan_port if self.known else UNKNOWN

    def step(self, seen: Observation) -> list[Alert]:
        """Takes one observation into account; the alerts it causes, oldest first, repeats left out."""
        return [a for a in _TABLE[type(seen)](self, seen) if self._is_news(a, seen.now)]

    def role(self, port: int) -> str:
        """`wan`, `lan` or `unknown`."""
        if not self.known:
            return "unknown"
        return "wan" if port == self.wan_port else "lan"

    def gateway_macs(self) -> list[bytes]:
        """MACs for `control.gw_mac`, the most recently confirmed last."""
        return list(self.gateways)[-GATEWAY_MACS_MAX:]

    def gateway_addresses(self) -> list[Address]:
        """On-link addresses for `control.gateway`."""
        return [a for addresses in self.gateways.values() for a in addresses][-GATEWAY_ADDRESSES_MAX:]

    def list_neighbours(self, now: float) -> list[Neighbour]:
        """Neighbours seen in the last day, the most recent first."""
        fresh = [n for n in self.neighbours.values() if now - n.last < NEIGHBOUR_FORGET_S]
        return sorted(fresh, key=lambda n: -n.last)

    # ---- transitions ---------------------------------------------------------------------------------------

    def _on_link(self, seen: Link) -> list[Alert]:
        if self.link[seen.port] == seen.up:
            return []
        self.link[seen.port] = seen.up
        if seen.up:
            return [Alert(AlertKind.LINK_UP, seen.port)]
        # Only from here on may a gateway confirmed on the other side swap the roles.
        self.went_down.add(seen.port)
        if len(self.went_down) == 2 and self.known:
            self.wan_before, self.wan_port = self.wan_port, UNKNOWN
        return [Alert(AlertKind.LINK_DOWN, seen.port)]

    def _on_gateway(self, seen: GatewaySeen) -> list[Alert]:
        address = str(seen.address)
        if not self.known:
            before, known_mac = self.wan_before, seen.mac in self.gateways
            self._set_roles(seen)
            if before == seen.port and known_mac:
                return []
            kind = AlertKind.ROLES_SET if before in (UNKNOWN, seen.port) else AlertKind.ROLES_CHANGED
            return [Alert(kind, seen.port, seen.mac, address)]
        if seen.port == self.wan_port:
            self.went_down = set()
            news = seen.mac not in self.gateways
            self._remember_gateway(seen)
            return [Alert(AlertKind.GATEWAY_CHANGED, seen.port, seen.mac, address)] if news else []
        if self.went_down:
            self._set_roles(seen)
            return [Alert(AlertKind.ROLES_CHANGED, seen.port, seen.mac, address)]
        return [Alert(AlertKind.GATEWAY_ON_LAN, seen.port, seen.mac, address)]

    def _on_claim(self, seen: ClaimSeen) -> list[Alert]:
        # While a swap is possible the evidence is ambiguous: the router speaks first, its next hop is confirmed after.
        if not self.known or seen.port == self.wan_port or self.went_down:
            return []
        kind = AlertKind.ROGUE_RA if seen.claim is RouterClaim.ADVERTISEMENT else AlertKind.ROGUE_DHCP
        return [Alert(kind, seen.port, seen.mac, seen.address)]

    def _on_host(self, seen: HostSeen) -> list[Alert]:
        if not self.known or seen.mac in self.gateways or seen.mac[0] & 1:
            return []
        if seen.port != self.wan_port:
            self.neighbours.pop(seen.mac, None)
            return []
        old = self.neighbours.pop(seen.mac, None)
        if old is None and len(self.neighbours) >= NEIGHBOURS_MAX:
            # Insertion order is order of last sight: the first is the one longest unseen.
            del self.neighbours[next(iter(self.neighbours))]
        first = seen.now if old is None else old.first
        self.neighbours[seen.mac] = Neighbour(seen.mac, str(seen.address), first, seen.now)
        return []

    # ---- helpers ---------------------------------------------------------------------------------------------

    def _set_roles(self, seen: GatewaySeen) -> None:
        self.wan_port = seen.port
        self.gateways = {seen.mac: (seen.address,)}
        self.neighbours = {}
        self.went_down = set()
        self.wan_before = UNKNOWN

    def _remember_gateway(self, seen: GatewaySeen) -> None:
        """The MAC now holds the address; another MAC that held it is no gateway any more."""
        if seen.address in self.gateways.get(seen.mac, ()):
            return  # order included: what follows a change of gateways is a new policy epoch
        kept = {
            mac: rest
            for mac, held in self.gateways.items()
            if (rest := tuple(a for a in held if a != seen.address)) and mac != seen.mac
        }
        mine = tuple(a for a in self.gateways.get(seen.mac, ()) if a != seen.address)
        kept[seen.mac] = (*mine, seen.address)
        while len(kept) > GATEWAY_MACS_MAX:
            del kept[next(iter(kept))]
        self.gateways = kept
        self.neighbours.pop(seen.mac, None)

    def _is_news(self, alert: Alert, now: float) -> bool:
        key = (alert.kind, alert.port, alert.mac)
        if alert.kind in _REPEATED and now - self._said.get(key, float("-inf")) < ALERT_REPEAT_S:
            return False
        self._said.pop(key, None)
        if len(self._said) >= ALERT_KEYS_MAX:
            # A flood of forged MACs must not grow the box's memory.
            del self._said[next(iter(self._said))]
        self._said[key] = now
        return True


# Conditions that last: said once per machine and hour. The others are transitions: each one is said.
_REPEATED = {AlertKind.GATEWAY_ON_LAN, AlertKind.ROGUE_RA, AlertKind.ROGUE_DHCP}
_TABLE: dict[type, Callable[[Zones, Observation], list[Alert]]] = {
    Link: Zones._on_link,  # type: ignore[dict-item]
    GatewaySeen: Zones._on_gateway,  # type: ignore[dict-item]
    ClaimSeen: Zones._on_claim,  # type: ignore[dict-item]
    HostSeen: Zones._on_host,  # type: ignore[dict-item]
}


WIDEST = {4: 8, 6: 48}
"""Shortest prefix that may be a link, by IP version: 10.0.0.0/8 is the widest private network, /48 a site."""


def onlink_prefixes(interface_networks: Iterable[Network]) -> list[Network]:
    """Prefixes for `control.onlink`: the networks of the bridge's own addresses, at most ONLINK_MAX.

    Without link-local (the data path knows it), host routes, prefixes wider than any link, and those inside another.
    """
    kept: list[Network] = []
    for net in sorted(set(interface_networks), key=lambda n: (n.version, n.prefixlen, int(n.network_address))):
        if net.is_link_local or net.is_loopback or net.prefixlen == net.max_prefixlen:
            continue
        if net.prefixlen < WIDEST[net.version]:  # whoever announces half the internet as local would unfilter it
            continue
        if any(k.version == net.version and net.subnet_of(k) for k in kept):  # type: ignore[arg-type]
            continue
        kept.append(net)
    return kept[:ONLINK_MAX]


def inbound_mode(configured: str, roles_known: bool, learning_left_s: float) -> InboundMode:
    """The inbound default in force: off until roles are known; `learn` refuses once the learning period is over."""
    if not roles_known or configured == "off":
        return InboundMode.OFF
    if configured == "learn" and learning_left_s > 0:
        return InboundMode.LEARN
    return InboundMode.REFUSE
