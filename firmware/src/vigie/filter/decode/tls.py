"""The server name of a TLS ClientHello (RFC 8446, 5246, 6066), from a growing prefix of the client's bytes.

The hello may be split over records and segments at any byte; hellos with post-quantum key shares span several segments.
The answer is given as soon as the server_name extension has been read whole, or at the end of the hello when there is
none. With Encrypted ClientHello the name is the outer one and `ech` is set; GREASE of that extension looks the same on
purpose, so `ech` alone means nothing bad. Version, cipher suites and the other extensions are only walked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from vigie.filter.decode.names import host_name

HELLO_MAX: Final = 16_384
"""Largest ClientHello that is read, in bytes with its handshake header."""

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_RECORD_MAX: Final = 16_384
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_ECH: Final = 0xFE0D
# Drafts before the number was settled (draft-ietf-tls-esni 07 to 12).
_ECH_DRAFTS: Final = frozenset((0xFF02, 0xFF03, 0xFE08, 0xFE09, 0xFE0A))


class Outcome(Enum):
    """What the bytes are when they are not (yet) a ClientHello that can be read."""

    NEED_MORE = "need more"
    NOT_TLS = "not TLS"
    BAD = "bad"


NEED_MORE: Final = Outcome.NEED_MORE
NOT_TLS: Final = Outcome.NOT_TLS
BAD: Final = Outcome.BAD


@dataclass(frozen=True, slots=True)
class Hello:
    """What a ClientHello says. `name` None: no server_name, or one that `problem` tells to be unusable.

    `ech` and `alpn` cover what was read so far; `whole` tells whether that is the entire hello.
    """

    name: str | None
    problem: str = ""
    ech: bool = False
    alpn: tuple[str, ...] = ()
    whole: bool = True


def parse_client_hello(data: bytes) -> Hello | Outcome:
    """Read TLS records from the first byte of the client's stream."""
    message, state = _join_records(data)
    if state is not None and not message:
        return state
    result = parse_hello_message(message)
    # What follows the gap cannot heal a broken record, but a name that was whole before it counts.
    return state if result is NEED_MORE and state is not None else result


def _join_records(data: bytes) -> tuple[bytes, Outcome | None]:
    """Handshake bytes of the records at the front, and what stopped the walk (None: data used up, more may follow)."""
    joined = bytearray()
    at, size = 0, len(data)
    needed = 4
    while at < size:
        refusal = BAD if at else NOT_TLS
        if data[at] != _HANDSHAKE:
            return bytes(joined), refusal
        if at + 1 < size and data[at + 1] != 3:
            return bytes(joined), refusal
        if at + 2 < size and data[at + 2] > 4:
            return bytes(joined), refusal
        if at + 5 > size:
            return bytes(joined), NEED_MORE
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if length == 0 or length > _RECORD_MAX:
            return bytes(joined), BAD
        joined += data[at + 5 : at + 5 + length]
        at += 5 + length
        if len(joined) >= 4:
            needed = 4 + int.from_bytes(joined[1:4], "big")
            # Bytes after the hello (early data, another message) are not ours to judge.
            if len(joined) >= needed or needed > HELLO_MAX:
                return bytes(joined), None
    return bytes(joined), NEED_MORE


def parse_hello_message(data: bytes) -> Hello | Outcome:
    """Read a handshake message (the content of a QUIC CRYPTO stream, or of TLS records) from its type byte."""
    if not data:
        return NEED_MORE
    if data[0] != _CLIENT_HELLO:
        return NOT_TLS
    if len(data) < 4:
        return NEED_MORE
    length = int.from_bytes(data[1:4], "big")
    if length + 4 > HELLO_MAX or length < 2 + 32 + 1 + 4 + 2:
        return BAD
    return _parse_body(data[4 : 4 + length], length)


def _parse_body(body: bytes, length: int) -> Hello | Outcome:
    """`body`: what is there of the `length` bytes of the hello."""
    have = len(body)
    if have and body[0] != 3:
        return BAD
    at = 34
    # session_id (1-byte length), cipher_suites (2), compression_methods (1)
    for width, low, high, step in ((1, 0, 32, 1), (2, 2, 0xFFFE, 2), (1, 1, 255, 1)):
        if at + width > length:
            return BAD
        if at + width > have:
            return NEED_MORE
        field = int.from_bytes(body[at : at + width], "big")
        if not low <= field <= high or field % step:
            return BAD
        at += width + field
    if at == length:
        return Hello(None)
    if at + 2 > length:
        return BAD
    if at + 2 > have:
        return NEED_MORE
    if at + 2 + int.from_bytes(body[at : at + 2], "big") != length:
        return BAD
    return _parse_extensions(body, at + 2, length)


def _parse_extensions(body: bytes, at: int, length: int) -> Hello | Outcome:
    have = len(body)
    ech = False
    alpn: tuple[str, ...] = ()
    named: tuple[str | None, str] | None = None
    while at < length:
        if at + 4 > length:
            return BAD
        if at + 4 > have:
            break
        kind = int.from_bytes(body[at : at + 2], "big")
        start = at + 4
        at = start + int.from_bytes(body[at + 2 : at + 4], "big")
        if at > length:
            return BAD
        if kind == _ECH or kind in _ECH_DRAFTS:
            ech = True
        if at > have:
            break
        if kind == _SERVER_NAME:
            # The extension twice, or two host names in it: forbidden, and servers differ in which they take.
            if named is not None:
                return BAD
            named = _server_name(body[start:at])
            if named is None:
                return BAD
        elif kind == _ALPN:
            alpn = _protocols(body[start:at])
    whole = at == length and at <= have
    if named is not None:
        return Hello(named[0], named[1], ech, alpn, whole)
    return Hello(None, "", ech, alpn) if whole else NEED_MORE


def _server_name(extension: bytes) -> tuple[str | None, str] | None:
    """The host name of a server_name extension as `host_name` gives it; None when the extension is malformed."""
    if len(extension) < 5 or int.from_bytes(extension[:2], "big") + 2 != len(extension):
        return None
    length = int.from_bytes(extension[3:5], "big")
    # One entry of type host_name: no other type was ever defined, nor a second entry allowed (RFC 6066 section 3).
    if extension[2] != 0 or length + 5 != len(extension):
        return None
    return host_name(extension[5:])


def _protocols(extension: bytes) -> tuple[str, ...]:
    """ALPN names (RFC 7301) of printable ASCII, at most 16; what is malformed is left out: nothing depends on it."""
    found: list[str] = []
    at = 2
    while at < len(extension) and len(found) < 16:
        raw = extension[at + 1 : at + 1 + extension[at]]
        at += 1 + extension[at]
        if raw and raw.isascii() and all(32 < byte < 127 for byte in raw):
            found.append(raw.decode("ascii"))
    return tuple(found)
