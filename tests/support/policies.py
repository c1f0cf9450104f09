"""What a policy says, in the words of docs/datapath.md: plain values that print as themselves.

The model (`tests.support.model`) reads these objects directly; `tests.support.progrun` writes the same objects into
the maps of the data path. Addresses, prefixes, names and MACs are text (`10.0.0.0/8`, `evil.example`,
`02:00:00:00:00:01`), so that a failing case can be pasted back. Times are seconds of the model's own clock.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields
from functools import lru_cache
from itertools import pairwise
from typing import Final

from vigie.contract.codes import Action, Direction, InboundMode

FOREVER: Final = 0xFFFFFFFF
NO_VLAN: Final = 0xFFFF

CLASS_NEVER: Final = 1
CLASS_PORTS: Final = 2
CLASS_FORCE: Final = 4

PK_DEFAULT: Final = 0
PK_COUNTRY: Final = 1
PK_AS: Final = 2


@dataclass(frozen=True)
class IndicatorClass:
    """What the base says of an indicator (layout.h: class_entry)."""

    flags: int = 0
    direction: int = Direction.BOTH
    action: int = Action.NONE
    category: int = 0
    rank: int = 0


@dataclass(frozen=True)
class AddressException:
    """What the commune wants for a (device, prefix); port and proto 0 mean all."""

    action: int
    until: int = FOREVER
    port: int = 0
    proto: int = 0


@dataclass(frozen=True)
class NameException:
    """What the commune wants for a (device, name) and its subdomains."""

    action: int
    until: int = FOREVER


@dataclass(frozen=True)
class Resolved:
    """An address learnt from an answer for a never-block or essential name."""

    until: int
    never: bool
    rank: int = 0


@dataclass(frozen=True)
class OwnFlow:
    """A flow that the box opened: its end, the remote end."""

    box: str
    remote: str
    box_port: int
    remote_port: int
    proto: int
    vlan: int = NO_VLAN


@dataclass
class Policy:
    """Everything that a decision depends on, besides packets seen before."""

    gen: int = 4
    wan_port: int = 1
    box_mac: str = "02:b0:00:00:00:01"
    gw_mac: tuple[str, ...] = ()
    onlink: tuple[str, ...] = ()
    box_addr: tuple[str, ...] = ()
    gateway: tuple[str, ...] = ()
    box_ports: tuple[tuple[int, int], ...] = ()
    """(proto, port) open to on-link LAN sources."""
    inbound_mode: int = InboundMode.REFUSE
    isolation_level: int = 0
    isolation_until: int = 0
    grace_until: int = 0
    loop_port: int = 0
    probe_nonce: int = 0x1122334455667788
    learn: bool = False
    """F_RESOLVED: learn from answers, and use what was learnt."""
    classes: dict[int, IndicatorClass] = field(default_factory=dict)
    base: dict[str, int] = field(default_factory=dict)
    """Prefix -> class number; the longest prefix holds."""
    base_ports: frozenset[tuple[str, int]] = frozenset()
    """(address, port) listed, for addresses whose class has CLASS_PORTS."""
    names: dict[str, int] = field(default_factory=dict)
    geo: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Prefix -> (AS number, country); longest prefix."""
    exceptions: dict[tuple[str | None, str], AddressException] = field(default_factory=dict)
    local_names: dict[tuple[str | None, str], NameException] = field(default_factory=dict)
    quarantine: dict[str, int] = field(default_factory=dict)
    dynamic: dict[tuple[str | None, str], int] = field(default_factory=dict)
    inbound_allow: dict[tuple[str, int, int], int] = field(default_factory=dict)
    device_class: dict[str, tuple[int, int]] = field(default_factory=dict)
    """MAC -> (device class, essential rank)."""
    class_policy: dict[tuple[int, int, int | str], int] = field(default_factory=dict)
    """(device class, PK_*, AS number or country or 0) -> action."""
    essential_ports: dict[tuple[int, int], int] = field(default_factory=dict)
    resolved: dict[str, Resolved] = field(default_factory=dict)
    own: tuple[OwnFlow, ...] = ()

    def __repr__(self) -> str:
        """Only what differs from the defaults: short enough to paste into a bug report."""
        blank = Policy.__new__(Policy)
        blank.__init__()  # type: ignore[misc]
        said = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if getattr(self, f.name) != getattr(blank, f.name)
        ]
        return f"Policy({', '.join(said)})"


@lru_cache(maxsize=4096)
def mac(text: str) -> bytes:
    """The six bytes of `02:00:00:00:00:01`."""
    return bytes.fromhex(text.replace(":", ""))


@lru_cache(maxsize=4096)
def packed(text: str) -> bytes:
    """An address as the data path holds it: 16 bytes, IPv4 as ::ffff:a.b.c.d."""
    raw = ipaddress.ip_address(text).packed
    return raw if len(raw) == 16 else bytes(10) + b"\xff\xff" + raw


@lru_cache(maxsize=4096)
def mapped_prefix(text: str) -> tuple[bytes, int]:
    """A prefix as (16 bytes, number of bits out of 128)."""
    net = ipaddress.ip_network(text, strict=False)
    length = net.prefixlen + (96 if net.version == 4 else 0)
    return packed(str(net.network_address)), length


def in_prefix(address: bytes, text: str) -> bool:
    """True when a 16-byte address lies in the prefix (v4-mapped for IPv4)."""
    network, bits = mapped_prefix(text)
    shift = 128 - bits
    return int.from_bytes(address, "big") >> shift == int.from_bytes(network, "big") >> shift


def intervals(table: dict[str, int], version: int) -> list[tuple[int, int, int]]:
    """Sorted disjoint (first, last, value) of one family, the longest prefix holding where several overlap."""
    nets = [(ipaddress.ip_network(prefix), value) for prefix, value in table.items()]
    nets = [(net, value) for net, value in nets if net.version == version]
    edges = sorted({int(n.network_address) for n, _ in nets} | {int(n.broadcast_address) + 1 for n, _ in nets})
    found: list[tuple[int, int, int]] = []
    for first, after in pairwise(edges):
        holders = [(n, v) for n, v in nets if int(n.network_address) <= first <= int(n.broadcast_address)]
        if holders:
            best = max(holders, key=lambda holder: holder[0].prefixlen)
            found.append((first, after - 1, best[1]))
    return found
