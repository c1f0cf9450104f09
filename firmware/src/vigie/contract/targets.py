"""What an exception names: a prefix (an address is a /32 or /128), or a name, which stands for its subdomains too."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from vigie.contract.fields import Fields

TARGET_MAX: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def canonical(text: str) -> str | None:
    """`192.0.2.0/24`, `2001:db8::1/128`, or a name of two labels or more in lower-case A-label form; None for the rest.

    Host bits beyond the prefix, a zone id and an IPv4-mapped IPv6 address are refused, not repaired: an order says what
    it means.
    """
    if len(text) > TARGET_MAX:
        return None
    network = _network(text)
    if network is not None:
        mapped = isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None
        return None if mapped or "%" in text else str(network)
    labels = text.split(".")
    # A last label of digits is a mistyped address: no top-level name is (RFC 3696, 2).
    if len(labels) < 2 or labels[-1].isdigit() or any(_LABEL.fullmatch(label) is None for label in labels):
        return None
    return text


def network(target: str) -> Network | None:
    """The prefix of a canonical target; None for a name."""
    return _network(target) if "/" in target else None


def read(f: Fields, name: str) -> str:
    """A target field in canonical form; MessageError."""
    value = canonical(f.text(name, TARGET_MAX, least=1))
    if value is None:
        f.fail(name, "an address, a prefix without host bits, or a lower-case domain name is expected")
    return value


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=True)
    except ValueError:
        return None
