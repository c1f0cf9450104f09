"""DHCPv4 messages (RFC 2131, 2132) and what DHCPv6 clients say of themselves: who a device claims to be.

Only the options that identify a device or a server. Text from devices is untrusted: it is kept printable and short.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Final

from vigie.errors import DecodeError

MESSAGE_MAX: Final = 4_096
TEXT_MAX: Final = 255
_COOKIE: Final = b"\x63\x82\x53\x63"
_FIXED: Final = 236


class DhcpError(DecodeError):
    """Not a DHCP message, or its fixed part is cut."""


class MessageType(IntEnum):
    """Option 53."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


@dataclass(frozen=True, slots=True)
class DhcpMessage:
    """A DHCPv4 message. Addresses are text, "" when absent or 0.0.0.0. `lease_s` 0: not given.

    `type` is 0 for plain BOOTP and keeps unknown numbers. `parameters` is the parameter request list in its order: with
    the vendor class it tells the kind of system. `partial`: the options end before their end mark.
    """

    request: bool
    type: int
    xid: int
    mac: bytes
    client: str = ""
    yours: str = ""
    relay: str = ""
    requested: str = ""
    server: str = ""
    routers: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    mask: str = ""
    lease_s: int = 0
    hostname: str = ""
    fqdn: str = ""
    vendor_class: str = ""
    parameters: tuple[int, ...] = ()
    client_id: bytes = b""
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Dhcp6Message:
    """A DHCPv6 message of a client or server (not a relay's envelope)."""

    type: int
    xid: int
    duid: bytes = b""
    fqdn: str = ""
    vendor_class: str = ""
    partial: bool = False


def clean_text(raw: bytes) -> str:
    """Printable text of at most 255 characters; what is not UTF-8 or not printable becomes a question mark."""
    text = raw.rstrip(b"\0")[: 4 * TEXT_MAX].decode("utf-8", "replace")
    return "".join(char if char.isprintable() and char != "\ufffd" else "?" for char in text)[:TEXT_MAX]


def decode(data: bytes) -> DhcpMessage:
    """Read a UDP payload of ports 67 or 68. Raises DhcpError."""
    if len(data) < _FIXED + 4 or len(data) > MESSAGE_MAX:
        raise DhcpError(f"DHCP: {len(data)} bytes; a message has {_FIXED + 4} to {MESSAGE_MAX}")
    if data[0] not in (1, 2) or data[_FIXED : _FIXED + 4] != _COOKIE:
        raise DhcpError("DHCP: neither request nor reply, or the magic cookie is missing")
    options, whole = _options(data[_FIXED + 4 :])
    overload = options.get(52, b"\0")[:1]
    # Option 52: the boot file and server name fields hold options too.
    for bit, area in ((1, data[108:236]), (2, data[44:108])):
        if overload and overload[0] & bit:
            extra, _ = _options(area)
            for code, value in extra.items():
                options[code] = options.get(code, b"") + value
    return DhcpMessage(
        request=data[0] == 1,
        type=options.get(53, b"\0")[0] if options.get(53) else 0,
        xid=int.from_bytes(data[4:8], "big"),
        mac=data[28:34] if data[1] == 1 and data[2] == 6 else b"",
        client=_address(data[12:16]),
        yours=_address(data[16:20]),
        relay=_address(data[24:28]),
        requested=_address(options.get(50, b"")),
        server=_address(options.get(54, b"")),
        routers=_addresses(options.get(3, b"")),
        resolvers=_addresses(options.get(6, b"")),
        mask=_address(options.get(1, b"")),
        lease_s=int.from_bytes(options.get(51, b"")[:4], "big"),
        hostname=clean_text(options.get(12, b"")),
        fqdn=_fqdn4(options.get(81, b"")),
        vendor_class=clean_text(options.get(60, b"")),
        parameters=tuple(options.get(55, b"")),
        client_id=options.get(61, b"")[:TEXT_MAX],
        partial=not whole,
    )


def _options(area: bytes) -> tuple[dict[int, bytes], bool]:
    """Options by code, the pieces of one that comes twice joined (RFC 3396); and whether the end mark was reached."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(area):
        code = area[at]
        if code == 255:
            return found, True
        if code == 0:
            at += 1
            continue
        if at + 2 > len(area) or at + 2 + area[at + 1] > len(area):
            break
        found[code] = found.get(code, b"") + area[at + 2 : at + 2 + area[at + 1]]
        at += 2 + area[at + 1]
    return found, False


def _address(raw: bytes) -> str:
    return str(IPv4Address(raw[:4])) if len(raw) >= 4 and any(raw[:4]) else ""


def _addresses(raw: bytes) -> tuple[str, ...]:
    return tuple(filter(None, (_address(raw[at : at + 4]) for at in range(0, min(len(raw) - 3, 32), 4))))


def _fqdn4(raw: bytes) -> str:
    """Option 81 (RFC 4702): flags, two obsolete codes, then a name in wire form (flag E) or in ASCII."""
    if len(raw) < 4:
        return ""
    return _wire_name(raw[3:]) if raw[0] & 0x04 else clean_text(raw[3:])


def _wire_name(raw: bytes) -> str:
    labels: list[str] = []
    at = 0
    while at < len(raw) and 0 < raw[at] < 64:
        labels.append(clean_text(raw[at + 1 : at + 1 + raw[at]]))
        at += 1 + raw[at]
    return ".".join(labels)[:TEXT_MAX]


def decode6(data: bytes) -> Dhcp6Message:
    """Read a UDP payload of ports 546 or 547 (RFC 8415). Raises DhcpError, for relayed messages too."""
    if len(data) < 4 or len(data) > MESSAGE_MAX or not 1 <= data[0] <= 11:
        raise DhcpError(f"DHCPv6: {len(data)} bytes, type {data[0] if data else 'absent'}: not of a client or server")
    found: dict[int, bytes] = {}
    at = 4
    while at + 4 <= len(data):
        code, length = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
        if at + 4 + length > len(data):
            break
        found.setdefault(code, data[at + 4 : at + 4 + length])
        at += 4 + length
    vendor = found.get(16, b"")  # enterprise number, then strings with a 2-byte length
    return Dhcp6Message(
        type=data[0],
        xid=int.from_bytes(data[1:4], "big"),
        duid=found.get(1, b"")[:130],
        fqdn=_wire_name(found.get(39, b"")[1:]),
        vendor_class=clean_text(vendor[6 : 6 + int.from_bytes(vendor[4:6], "big")]),
        partial=at != len(data),
    )
