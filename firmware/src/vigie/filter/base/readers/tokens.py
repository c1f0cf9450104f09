"""One token -> an address range, a name, or the reason why it is neither.

Strict on purpose: a feed is written by strangers, and what is misread here cuts a town hall off. Addresses follow
`ipaddress` (no leading zeros, four octets). Names follow RFC 1035 and RFC 5891: letters, digits, hyphens inside labels,
plus the underscore that real names hold; at least two labels of at most 63 bytes, at most 253 bytes in all, a top label
that is not a number (so that `1.2.3.4.5` and `10.0.0` are not taken for names).
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

MAX_NAME: Final = 253
WIDEST4: Final = 1 << 29
"""Most addresses that one IPv4 entry may cover: a /3, which firehol_level1 really holds (224.0.0.0/3)."""
WIDEST6: Final = 1 << 121
"""Same for IPv6: a /7 (fc00::/7)."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
LOWER_NAME: Final = re.compile(rf"(?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL}")
"""A name already in lower case and without final dot; its length is to be checked apart (MAX_NAME)."""
_ADDRESS4 = re.compile(r"[0-9]+(?:\.[0-9]*)+")
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PLAIN4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_RANGE = re.compile(r"([0-9a-fA-F.:]+)\s*[-–]\s*([0-9a-fA-F.:]+)")
_PORTED4 = re.compile(r"([0-9.]+):([0-9]+)")
_PORTED6 = re.compile(r"\[([^\]]*)\](?::([0-9]+))?(?:/([0-9]+))?")
_PORTED_NAME = re.compile(r"[^:/\s]+\.[^:/\s]+:[0-9]+")
_HEX6 = re.compile(r"[0-9a-fA-F:.]+(?:%.*)?(?:/[0-9]+)?")
_PLAIN6 = re.compile(r"(?=.*:.*:)[0-9a-fA-F:]{2,39}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DOTS = str.maketrans({"\u3002": ".", "\uff0e": ".", "\uff61": "."})  # full stops of RFC 3490, section 3.1
_IDN_PUNCTUATION = frozenset("\u00b7\u0375\u05f3\u05f4\u30fb")  # contextual rules of RFC 5892, appendix A
_SCHEME_PORT: Final = {"http": 80, "https": 443}

LOCAL_NAMES: Final = frozenset(
    {
        "localhost",
        "localhost.localdomain",
        "local",
        "broadcasthost",
        "ip6-localhost",
        "ip6-loopback",
        "ip6-localnet",
        "ip6-mcastprefix",
        "ip6-allnodes",
        "ip6-allrouters",
        "ip6-allhosts",
        "0.0.0.0",  # noqa: S104 - a name in hosts files, not a socket
    }
)
"""What every hosts file begins with: the machine's own names, which are no indicators."""


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses first..last, both included, as integers of the family. port 0 = every port."""

    family: int
    first: int
    last: int
    port: int = 0
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Unusable:
    """Not read. `bad`: the line breaks the rules, and counts towards refusing the feed; otherwise it is well
    formed but says something that the base cannot hold (a URL with a path), and is only skipped."""

    reason: str
    bad: bool = True


Indicator = Range | str | Unusable


def name(text: str) -> str | None:
    """The name as lower-case A-labels without final dot, or None when it is not a name."""
    text = text.lower()
    if not text.isascii():
        return _unicode_name(text)
    return _checked(text.removesuffix("."))


def _checked(text: str) -> str | None:
    return text if len(text) <= MAX_NAME and LOWER_NAME.fullmatch(text) else None


def _unicode_name(text: str) -> str | None:
    """U-labels to A-labels in the IDNA 2008 way: ß and ς stay letters of their own, they are not spelled out."""
    labels = unicodedata.normalize("NFKC", text.translate(_DOTS).lower()).lower().removesuffix(".").split(".")
    done = []
    for label in labels:
        if label.isascii():
            done.append(label)
            continue
        for char in label:
            if not _in_labels(char):
                return None
        done.append("xn--" + label.encode("punycode").decode("ascii"))
    return _checked(".".join(done))


def _in_labels(char: str) -> bool:
    """Letters, marks, digits, symbols (emoji are registered, whatever IDNA says) and the contextual punctuation."""
    if char.isascii():
        return char.isalnum() or char in "-_"
    category = unicodedata.category(char)
    return char != "\ufffd" and (category[0] in "LMN" or category == "So" or char in _IDN_PUNCTUATION)


def classify(token: str) -> Indicator:
    """Read one token: address, prefix, range, address:port, [v6]:port, URL or name."""
    if _PLAIN6.fullmatch(token) and (six := _six(token)) is not None:
        return six
    if _SCHEME.match(token):
        return _url(token)
    if _ADDRESS4.fullmatch(token):
        return _single(token)
    found = name(token)
    if found is not None:
        return found
    if ported := _PORTED4.fullmatch(token):
        return _with_port(ported[1], ported[2])
    if bracket := _PORTED6.fullmatch(token):
        address, port, prefix = bracket.groups()
        if prefix is not None:
            return Unusable("brackets around an address with a prefix")
        return _single(address) if port is None else _with_port(address, port)
    if ":" in token and _HEX6.fullmatch(token):
        return _network(token) if "/" in token else _single(token)
    if between := _RANGE.fullmatch(token):
        return _range(between[1], between[2])
    if "/" in token:
        return _slash(token)
    if _PORTED_NAME.fullmatch(token):
        return _named_port(token)
    if token.lower().removesuffix(".") in LOCAL_NAMES:
        return Unusable("name of the machine itself", bad=False)
    return Unusable(_why_not_a_name(token))


def _six(token: str) -> Range | None:
    """One IPv6 address, the quick way: a feed may hold a hundred thousand. None leaves it to `ipaddress`."""
    try:
        value = int.from_bytes(socket.inet_pton(socket.AF_INET6, token), "big")
    except OSError:
        return None
    return None if value >> 32 == 0xFFFF else Range(6, value, value)  # v4-mapped is read as IPv4


def _four(text: str) -> Range | None:
    """One IPv4 address, the quick way. None leaves it, and what is to be said of it, to `ipaddress`."""
    if _PLAIN4.fullmatch(text) is None:
        return None
    value = int.from_bytes(socket.inet_aton(text), "big")
    return Range(4, value, value)


def _why_not_a_name(token: str) -> str:
    if any(c.isspace() for c in token):
        return "several words where one indicator is expected"
    if any(unicodedata.category(c).startswith("C") for c in token):
        return "control or invisible characters"
    if "." not in token.removesuffix("."):
        return "a single word: neither an address nor a name of two labels"
    if ".." in token:
        return "empty label"
    if token.rsplit(".", 1)[-1].isdigit():
        return "neither an address nor a name: the last label is a number"
    if len(token) > MAX_NAME or any(len(label) > 63 for label in token.split(".")):
        return "name or label too long"
    return "neither an address nor a name"


def _single(text: str) -> Range | Unusable:
    if (four := _four(text)) is not None:
        return four
    if "%" in text:
        return Unusable("address with a zone: it means something on one machine only")
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        return Unusable(f"not an address: {_tail(text, error)}")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Range(address.version, int(address), int(address))


def _tail(text: str, error: ValueError) -> str:
    """What is wrong. `ipaddress` only repeats the token, which the report quotes already."""
    if ":" in text:
        return "malformed IPv6"
    octets = text.split(".")
    if not all(octets):
        return "an octet is empty"
    if len(octets) != 4:
        return f"{len(octets)} octets instead of 4"
    if any(len(octet) > 1 and octet[0] == "0" for octet in octets):
        return "an octet has a leading zero"
    if any(octet.isdigit() and int(octet[:4]) > 255 for octet in octets):
        return "an octet is above 255"
    return str(error).split(" in '", 1)[0] if "Netmask" not in str(error) else "prefix longer than the address"


def _network(text: str) -> Range | Unusable:
    if "%" in text:
        return Unusable("address with a zone: it means something on one machine only")
    address, _, prefix = text.partition("/")
    if not (prefix.isascii() and prefix.isdigit()) or (len(prefix) > 1 and prefix[0] == "0"):
        return Unusable("prefix length is not a number")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        return Unusable(f"not a prefix: {_tail(address, error)}")
    first, last = int(network.network_address), int(network.broadcast_address)
    warning = "" if int(ipaddress.ip_address(address)) == first else f"not a network address: read as {network}"
    return check_span(Range(network.version, first, last, 0, warning))


def _range(low: str, high: str) -> Range | Unusable:
    first, last = _single(low), _single(high)
    if isinstance(first, Unusable):
        return first
    if isinstance(last, Unusable):
        return last
    if first.family != last.family:
        return Unusable("range between two address families")
    if last.first < first.first:
        return Unusable("range that ends before it starts")
    return check_span(Range(first.family, first.first, last.last))


def check_span(item: Range) -> Range | Unusable:
    """Nobody means to block an eighth of the internet: such a line is an accident, or an attack on the base."""
    span = item.last - item.first + 1
    if span > (WIDEST4 if item.family == 4 else WIDEST6):
        return Unusable(f"covers too much: {span} addresses")
    return item


def _with_port(address: str, port: str) -> Range | Unusable:
    found = _single(address)
    if isinstance(found, Unusable):
        return found
    if len(port) > 5 or not 0 < int(port) < 65536:
        return Unusable("port out of 1..65535")
    return Range(found.family, found.first, found.last, int(port))


def _named_port(token: str) -> Unusable:
    host, _, port = token.rpartition(":")
    if name(host) is None or len(port) > 5 or not 0 < int(port) < 65536:
        return Unusable("neither an address nor a name")
    return Unusable("name with a port: a name cannot be blocked for one port", bad=False)


def _slash(token: str) -> Indicator:
    """`1.2.3.0/24`, or a URL without its scheme."""
    head, _, rest = token.partition("/")
    if _ADDRESS4.fullmatch(head) and rest.isdigit():
        return _network(token)
    found = name(head)
    if found is None:
        host = classify(head) if head else Unusable("path without a host")
        if isinstance(host, Unusable) and host.bad:
            return host
        found = ""
    if not rest:
        return found or classify(head)
    return Unusable("URL with a path: blocking its whole host would block more than is listed", bad=False)


def _url(token: str) -> Indicator:
    """A URL names its host only when there is nothing after the host. The port is kept for an address."""
    try:
        url = urlsplit(token)
        host, port = url.hostname or "", url.port
    except ValueError:
        return Unusable("malformed URL")
    if not host:
        return Unusable("URL without a host")
    what = classify(f"[{host}]" if ":" in host else host)
    if isinstance(what, Unusable):
        return Unusable(f"URL: {what.reason}", what.bad)
    if url.path not in ("", "/") or url.query or url.fragment:
        return Unusable("URL with a path: blocking its whole host would block more than is listed", bad=False)
    if isinstance(what, Range):
        return Range(what.family, what.first, what.last, port or _SCHEME_PORT.get(url.scheme.lower(), 0))
    if port is not None and port != _SCHEME_PORT.get(url.scheme.lower()):
        return Unusable("name with a port: a name cannot be blocked for one port", bad=False)
    return what
