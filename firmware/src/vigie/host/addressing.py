"""Which IPv4 address the box has when DHCP gives none: a fixed one, or a link-local one (RFC 3927). Pure decisions.

The page writes a wish (`state/address/request.json`); `vigie address run` (`host.address_service`) judges it again here
and puts it in force. A lease of DHCP is the business of the DHCP client; this only looks whether there is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
from pathlib import Path
from typing import Any, Final

from vigie.errors import UsageError
from vigie.host.boxconfig import Paths
from vigie.i18n import _

FALLBACK_S: Final = 15.0
"""Without an address for so long, the box takes a link-local one: longer than three DHCP attempts."""
FAREWELL_S: Final = 600.0
"""A link-local address stays so long beside a better one: whoever set that one is still looking at the page."""
SERVERS_MAX: Final = 3
LINK_LOCAL: Final = IPv4Network("169.254.0.0/16")
_FIRST: Final = int(IPv4Address("169.254.1.0"))
_COUNT: Final = 254 * 256  # RFC 3927, 2.1: not the first nor the last 256

_STRIDE: Final = 7919  # has no factor in common with _COUNT: no address comes twice


@dataclass(frozen=True, slots=True)
class Fixed:
    """A fixed address. gateway: within its network."""

    address: IPv4Interface
    gateway: IPv4Address
    dns: tuple[IPv4Address, ...]

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        dns = [str(server) for server in self.dns]
        return {"v": 1, "mode": "fixed", "address": str(self.address), "gateway": str(self.gateway), "dns": dns}


DHCP: Final[dict[str, Any]] = {"v": 1, "mode": "dhcp"}
"""The wish of a box that nobody has told anything."""


class AddressError(UsageError):
    """A wish that cannot be. `field`: address, prefix, gateway or dns; the message is for the mairie."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


def request_path(paths: Paths) -> Path:
    """Where the page leaves its wish."""
    return paths.address / "request.json"


def report_path(paths: Paths) -> Path:
    """Where `vigie address run` says what is in force."""
    return paths.run_address / "address.json"


def parse_form(form: Mapping[str, str]) -> Fixed:
    """A wish as typed: address, prefix (24, or 255.255.255.0), gateway, dns (up to three). Raises AddressError."""
    ip = _address(form.get("address", ""), "address", _("adresse"))
    length = _prefix(form.get("prefix", ""))
    gateway = _address(form.get("gateway", ""), "gateway", _("passerelle"))
    words = form.get("dns", "").replace(",", " ").split()
    if not words:
        raise AddressError("dns", _("Indiquez au moins un serveur DNS, souvent l'adresse de la box internet."))
    if len(words) > SERVERS_MAX:
        raise AddressError("dns", _("Trois serveurs DNS au plus."))
    return check(Fixed(IPv4Interface((ip, length)), gateway, tuple(_address(w, "dns", "DNS") for w in words)))


def parse_json(value: Mapping[str, Any]) -> Fixed | None:
    """A wish as kept; None is DHCP. Raises AddressError."""
    if value.get("mode") == "dhcp":
        return None
    try:
        dns = value["dns"]
        if value["mode"] != "fixed" or not isinstance(dns, list) or not 0 < len(dns) <= SERVERS_MAX:
            raise ValueError
        found = Fixed(
            IPv4Interface(str(value["address"])),
            IPv4Address(str(value["gateway"])),
            tuple(IPv4Address(str(server)) for server in dns),
        )
    except (KeyError, ValueError) as e:
        raise AddressError("address", _("La demande d'adresse enregistrée est illisible.")) from e
    return check(found)


def check(wish: Fixed) -> Fixed:
    """The wish when it can be. Raises AddressError."""
    network, ip = wish.address.network, wish.address.ip
    if not 8 <= network.prefixlen <= 30:
        raise AddressError("prefix", _("Le masque doit être compris entre 8 et 30, le plus souvent 24."))
    for address, field in ((ip, "address"), (wish.gateway, "gateway"), *((server, "dns") for server in wish.dns)):
        if not _unicast(address):
            raise AddressError(field, _("{address} n'est pas l'adresse d'une machine.").format(address=address))
    if ip in (network.network_address, network.broadcast_address):
        raise AddressError("address", _("{address} désigne le réseau entier, pas une machine.").format(address=ip))
    if wish.gateway not in network or wish.gateway in (network.network_address, network.broadcast_address):
        raise AddressError(
            "gateway", _("La passerelle {gateway} n'est pas dans le réseau {network}.").format(
                gateway=wish.gateway, network=network
            )
        )  # fmt: skip
    if wish.gateway == ip:
        raise AddressError("gateway", _("La passerelle doit être une autre machine que le boîtier."))
    return wish


def _unicast(address: IPv4Address) -> bool:
    special = address.is_multicast or address.is_loopback or address.is_unspecified or address.is_link_local
    return not special and not address.is_reserved and address not in IPv4Network("0.0.0.0/8")


def _address(text: str, field: str, what: str) -> IPv4Address:
    try:
        return IPv4Address(text.strip())
    except AddressValueError as e:
        message = _("« {text} » n'est pas une adresse comme 192.168.1.20 ({what}).")
        raise AddressError(field, message.format(text=text.strip()[:40], what=what)) from e


def _prefix(text: str) -> int:
    word = text.strip().lstrip("/")
    try:
        return int(IPv4Network(f"0.0.0.0/{word}").prefixlen)
    except (NetmaskValueError, AddressValueError, ValueError) as e:
        raise AddressError(
            "prefix", _("« {text} » n'est pas un masque comme 24 ou 255.255.255.0.").format(text=word[:40])
        ) from e


def link_local(mac: bytes, turn: int) -> IPv4Interface:
    """The `turn`-th address to try, the same for a MAC after each reboot (RFC 3927, 2.1)."""
    digest = hashlib.sha256(b"vigie link-local" + mac).digest()
    number = int.from_bytes(digest[:8], "big") + turn * _STRIDE
    return IPv4Interface((_FIRST + number % _COUNT, 16))


# -- what to change


@dataclass(frozen=True, slots=True)
class Own:
    """What this service has added to the bridge itself, and nobody else touches."""

    fixed: Fixed | None = None
    link_local: IPv4Interface | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """IPv4 addresses of the bridge, and whether a cable is there."""

    addresses: frozenset[IPv4Interface]
    carrier: bool


def usable(seen: Seen) -> bool:
    """An address that reaches beyond the link."""
    return any(address.ip not in LINK_LOCAL for address in seen.addresses)


@dataclass(frozen=True, slots=True)
class Target:
    """What should be in force. link_local: whether there is to be one, whichever."""

    fixed: Fixed | None
    link_local: bool


def target(wish: Fixed | None, seen: Seen, own: Own, since_s: float) -> Target:
    """since_s: for how long `usable` has been as it is."""
    if usable(seen):
        return Target(wish, own.link_local is not None and since_s < FAREWELL_S)
    return Target(wish, own.link_local is not None or (seen.carrier and since_s >= FALLBACK_S))


def resolv(servers: Sequence[IPv4Address]) -> str:
    """resolv.conf(5)."""
    return "".join(f"nameserver {server}\n" for server in servers)
