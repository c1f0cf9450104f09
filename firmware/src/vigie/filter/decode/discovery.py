"""What devices announce of themselves by SSDP (UPnP) and WS-Discovery: small, bounded, for device identity.

mDNS is DNS: see `dns`. The XML of WS-Discovery comes from anyone on the LAN: document type declarations, hence
entities, are refused, and depth and size are bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.parsers import expat

from vigie.errors import DecodeError
from vigie.filter.decode.dhcp import clean_text

MESSAGE_MAX: Final = 8_192
HEADERS_MAX: Final = 40
DEPTH_MAX: Final = 16
_STARTS: Final = ((b"NOTIFY ", "NOTIFY"), (b"M-SEARCH ", "M-SEARCH"), (b"HTTP/1.", "RESPONSE"))
_KEPT: Final = frozenset(("Types", "Scopes", "XAddrs", "Address", "Action"))


class DiscoveryError(DecodeError):
    """Not an SSDP or WS-Discovery message."""


@dataclass(frozen=True, slots=True)
class Ssdp:
    """`method`: "NOTIFY", "M-SEARCH" or "RESPONSE". `target` is NT or ST, `kind` is NTS ("ssdp:alive")."""

    method: str
    target: str = ""
    usn: str = ""
    server: str = ""
    location: str = ""
    kind: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class WsDiscovery:
    """`action`: last part of the SOAP action ("Hello", "Probe", "ProbeMatches"); `types` without their prefix."""

    action: str
    endpoint: str = ""
    types: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


def decode_ssdp(data: bytes) -> Ssdp:
    """Read a UDP payload of port 1900. Raises DiscoveryError."""
    lines = data[:MESSAGE_MAX].split(b"\n", HEADERS_MAX + 1)[: HEADERS_MAX + 1]
    first = lines[0].strip().upper()
    method = next((name for start, name in _STARTS if first.startswith(start)), None)
    if method is None:
        raise DiscoveryError("SSDP: the first line is neither NOTIFY, M-SEARCH nor HTTP/1")
    headers: dict[bytes, str] = {}
    for line in lines[1:]:
        key, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(key.strip().upper(), clean_text(value.strip()))
    return Ssdp(
        method,
        headers.get(b"NT") or headers.get(b"ST", ""),
        headers.get(b"USN", ""),
        headers.get(b"SERVER", ""),
        headers.get(b"LOCATION", ""),
        headers.get(b"NTS", ""),
        headers.get(b"USER-AGENT", ""),
    )


class _Collector:
    """Text of the elements that are kept, whatever their namespace."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._path: list[str] = []

    def start(self, name: str, _: dict[str, str]) -> None:
        self._path.append(name.rpartition(":")[2])
        if len(self._path) > DEPTH_MAX:
            raise DiscoveryError(f"WS-Discovery: elements nested more than {DEPTH_MAX} deep")

    def end(self, _: str) -> None:
        self._path.pop()

    def text(self, data: str) -> None:
        name = self._path[-1]
        # The endpoint's address, not those of To and ReplyTo.
        if name in _KEPT and (name != "Address" or self._path[-2:-1] == ["EndpointReference"]):
            self.texts[name] = self.texts.get(name, "") + data

    def doctype(self, *_: object) -> None:
        raise DiscoveryError("WS-Discovery: document type declarations are refused")


def decode_wsd(data: bytes) -> WsDiscovery:
    """Read a UDP payload of port 3702. Raises DiscoveryError."""
    if len(data) > MESSAGE_MAX:
        raise DiscoveryError(f"WS-Discovery: {len(data)} bytes, more than {MESSAGE_MAX}")
    collector = _Collector()
    parser = expat.ParserCreate()
    parser.StartElementHandler = collector.start
    parser.EndElementHandler = collector.end
    parser.CharacterDataHandler = collector.text
    parser.StartDoctypeDeclHandler = collector.doctype
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DiscoveryError(f"WS-Discovery: {error}") from error
    texts = collector.texts
    if "Action" not in texts:
        raise DiscoveryError("WS-Discovery: no SOAP action")
    return WsDiscovery(
        _clean(texts["Action"]).rstrip("/").rpartition("/")[2],
        _clean(texts.get("Address", "")),
        tuple(part.rpartition(":")[2] for part in _words(texts.get("Types", ""))),
        _words(texts.get("Scopes", "")),
        _words(texts.get("XAddrs", "")),
    )


def _clean(text: str) -> str:
    return clean_text(text.strip().encode("utf-8", "replace"))


def _words(text: str) -> tuple[str, ...]:
    return tuple(_clean(word) for word in text.split()[:32])
