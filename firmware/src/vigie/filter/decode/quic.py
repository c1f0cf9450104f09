"""QUIC Initial packets of clients: decryption and the ClientHello in their CRYPTO frames.

Versions 1 (RFC 9000, 9001) and 2 (RFC 9369). Initial packets are encrypted under a key that anyone on the path derives
from the connection id that the client chose: this hides nothing, but costs a key derivation per connection. Drafts,
Google's own versions and greased numbers are recognised and not decoded. A ClientHello may be cut over several packets
and datagrams, its CRYPTO frames in any order (Chrome shuffles them on purpose): `InitialStream` gathers them, bounded.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vigie.filter.decode.stream import Stream
from vigie.filter.decode.tls import BAD, NEED_MORE, Hello, Outcome, parse_hello_message

VERSION_1: Final = 0x00000001
VERSION_2: Final = 0x6B3343CF
CID_MAX: Final = 20
PACKETS_MAX: Final = 16
"""Coalesced packets read in one datagram."""
FRAMES_MAX: Final = 512
"""Frames read in one packet, each run of padding counting as one."""
TAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class _Version:
    salt: bytes
    label: bytes  # prefix of the HKDF labels
    initial: int  # the two type bits of an Initial packet
    retry: int


_VERSIONS: Final = {
    VERSION_1: _Version(bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"), b"quic ", 0, 3),
    VERSION_2: _Version(bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"), b"quicv2 ", 1, 0),
}


class Kind(Enum):
    """What a UDP payload is, seen from its first bytes."""

    INITIAL = "Initial packet"
    NEGOTIATION = "version negotiation"
    UNDECODABLE = "version that is not decoded"
    OTHER = "QUIC, not an Initial packet"
    NOT_QUIC = "not QUIC"


@dataclass(frozen=True, slots=True)
class Header:
    """A long header. `version_name`: "v1", "v2", "draft-29", "Q046", "grease", or hexadecimal."""

    kind: Kind
    version: int = 0
    version_name: str = ""
    dcid: bytes = b""
    scid: bytes = b""
    number_at: int = 0  # offset of the protected packet number
    end: int = 0  # offset of the next coalesced packet


def version_name(version: int) -> str:
    """A name for people."""
    if version in _VERSIONS:
        return "v1" if version == VERSION_1 else "v2"
    if version >> 8 == 0xFF0000:
        return f"draft-{version & 0xFF}"
    if version & 0x0F0F0F0F == 0x0A0A0A0A:
        return "grease"
    raw = version.to_bytes(4, "big")
    if raw[0] in b"QT" and raw[1:].isdigit():
        return raw.decode("ascii")
    return f"{version:#010x}"


def _varint(data: bytes, at: int) -> tuple[int, int] | None:
    """(value, offset after it), RFC 9000 section 16."""
    if at >= len(data):
        return None
    width = 1 << (data[at] >> 6)
    if at + width > len(data):
        return None
    return int.from_bytes(data[at : at + width], "big") & ((1 << (8 * width - 2)) - 1), at + width


def parse_header(data: bytes, at: int = 0) -> Header:
    """The packet that begins at `at` in a UDP payload.

    The fixed bit is not asked for: clients may grease it (RFC 9287), and the AEAD tag tells in the end.
    """
    if len(data) < at + 7 or not data[at] & 0x80:
        return Header(Kind.NOT_QUIC)
    version = int.from_bytes(data[at + 1 : at + 5], "big")
    known = _VERSIONS.get(version)
    name = version_name(version)
    if known is None:
        return _foreign_header(data, at, version, name)
    place = at + 5
    ids: list[bytes] = []
    for _ in range(2):
        if place >= len(data) or data[place] > CID_MAX or place + 1 + data[place] > len(data):
            return Header(Kind.NOT_QUIC, version, name)
        ids.append(data[place + 1 : place + 1 + data[place]])
        place += 1 + data[place]
    type_bits = data[at] >> 4 & 3
    if type_bits == known.retry:
        return Header(Kind.OTHER, version, name, ids[0], ids[1], end=len(data))
    if type_bits == known.initial:
        token = _varint(data, place)
        if token is None or token[1] + token[0] > len(data):
            return Header(Kind.NOT_QUIC, version, name)
        place = token[1] + token[0]
    length = _varint(data, place)
    if length is None or length[1] + length[0] > len(data):
        return Header(Kind.NOT_QUIC, version, name)
    kind = Kind.INITIAL if type_bits == known.initial else Kind.OTHER
    return Header(kind, version, name, ids[0], ids[1], length[1], length[1] + length[0])


def _foreign_header(data: bytes, at: int, version: int, name: str) -> Header:
    """Version negotiation, or a version of which only the invariants (RFC 8999) may be read."""
    if version == 0:
        return Header(Kind.NEGOTIATION, 0, "", end=len(data))
    if name[0] in "QT" or name[0] == "d" or name == "grease":
        return Header(Kind.UNDECODABLE, version, name, end=len(data))
    # Any other number could be any protocol over UDP: only a plausible pair of connection ids makes it QUIC.
    dcid = data[at + 5]
    if 8 <= dcid <= CID_MAX and at + 6 + dcid < len(data) and data[at + 6 + dcid] <= CID_MAX and len(data) >= 1200:
        return Header(Kind.UNDECODABLE, version, name, end=len(data))
    return Header(Kind.NOT_QUIC, version, name)


def _expand_label(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 section 7.1) with SHA-256 and an empty context, for at most 32 bytes."""
    full = b"tls13 " + label
    info = struct.pack("!HB", length, len(full)) + full + b"\0\x01"
    return hmac.digest(secret, info, hashlib.sha256)[:length]


@dataclass(slots=True)
class InitialKeys:
    """Keys of one direction of the Initial space (RFC 9001 section 5.2)."""

    key: bytes
    iv: bytes
    hp: bytes
    _aead: AESGCM = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._aead = AESGCM(self.key)

    @classmethod
    def derive(cls, version: int, dcid: bytes, *, server: bool = False) -> InitialKeys:
        """From the destination connection id of the client's first Initial. `version` is VERSION_1 or VERSION_2."""
        known = _VERSIONS[version]
        common = hmac.digest(known.salt, dcid, hashlib.sha256)
        secret = _expand_label(common, b"server in" if server else b"client in", 32)
        return cls(
            _expand_label(secret, known.label + b"key", 16),
            _expand_label(secret, known.label + b"iv", 12),
            _expand_label(secret, known.label + b"hp", 16),
        )

    def open(self, data: bytes, at: int, header: Header, largest: int = -1) -> tuple[int, bytes] | None:
        """(packet number, plain payload) of the Initial at `at`; None when the tag is wrong or the packet too short.

        `largest` is the highest packet number seen so far in this direction.
        """
        sample = data[header.number_at + 4 : header.number_at + 20]
        if len(sample) < 16 or header.end < header.number_at + 4 + TAG_BYTES:
            return None
        # One ECB block is how RFC 9001 section 5.4.3 makes the mask; nothing is encrypted with it.
        encryptor = Cipher(algorithms.AES(self.hp), modes.ECB()).encryptor()  # noqa: S305
        mask = encryptor.update(sample)
        first = data[at] ^ (mask[0] & 0x0F)
        width = (first & 3) + 1
        raw = bytes(data[header.number_at + i] ^ mask[1 + i] for i in range(width))
        number = _packet_number(largest, int.from_bytes(raw, "big"), width * 8)
        associated = bytes((first,)) + data[at + 1 : header.number_at] + raw
        nonce = (int.from_bytes(self.iv, "big") ^ number).to_bytes(12, "big")
        try:
            return number, self._aead.decrypt(nonce, data[header.number_at + width : header.end], associated)
        except InvalidTag:
            return None


def _packet_number(largest: int, truncated: int, bits: int) -> int:
    """The whole packet number (RFC 9000 appendix A.3)."""
    window = 1 << bits
    expected = largest + 1
    candidate = (expected & ~(window - 1)) | truncated
    if candidate <= expected - window // 2 and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    return candidate


def crypto_frames(payload: bytes) -> list[tuple[int, bytes]] | None:
    """(offset, data) of the CRYPTO frames of an Initial payload; None for a frame that may not be there or is cut."""
    found: list[tuple[int, bytes]] = []
    at, size = 0, len(payload)
    for _ in range(FRAMES_MAX):
        if at >= size:
            return found
        kind = payload[at]
        at += 1
        if kind == 0:  # PADDING, in runs
            while at < size and payload[at] == 0:
                at += 1
        elif kind == 1:  # PING
            continue
        elif kind in (2, 3):  # ACK
            after = _skip_ack(payload, at, kind == 3)
            if after is None:
                return None
            at = after
        elif kind == 6:  # CRYPTO
            offset = _varint(payload, at)
            length = _varint(payload, offset[1]) if offset else None
            if offset is None or length is None or length[1] + length[0] > size:
                return None
            at = length[1] + length[0]
            found.append((offset[0], payload[length[1] : at]))
        elif kind == 0x1C:  # CONNECTION_CLOSE: nothing after it matters
            return found
        else:
            return None
    return None


def _skip_ack(payload: bytes, at: int, ecn: bool) -> int | None:
    fields: list[int] = []
    for _ in range(4):  # largest, delay, range count, first range
        value = _varint(payload, at)
        if value is None:
            return None
        fields.append(value[0])
        at = value[1]
    if fields[2] > FRAMES_MAX:
        return None
    for _ in range(2 * fields[2] + (3 if ecn else 0)):
        value = _varint(payload, at)
        if value is None:
            return None
        at = value[1]
    return at


class InitialStream:
    """The client's Initial packets of one connection, fed datagram by datagram, until its ClientHello can be read."""

    __slots__ = ("_keys", "_largest", "_stream", "decrypted", "failed")

    def __init__(self) -> None:
        self._stream = Stream()
        self._keys: dict[tuple[int, bytes], InitialKeys] = {}
        self._largest = -1
        self.decrypted = 0
        """Packets whose tag was right."""
        self.failed = 0
        """Initial packets that no key opened."""

    def feed(self, datagram: bytes) -> Hello | Outcome | Kind:
        """Take a UDP payload from the client.

        A Hello; NEED_MORE; BAD (malformed hello or frames, bounds exceeded); a Kind other than INITIAL when this
        datagram begins with no decodable Initial and none was decrypted before.
        """
        at = 0
        first: Kind | None = None
        for _ in range(PACKETS_MAX):
            if at >= len(datagram):
                break
            header = parse_header(datagram, at)
            first = first or header.kind
            if header.kind is Kind.INITIAL and not self._take(datagram, at, header):
                return BAD
            if header.end <= at:
                break
            at = header.end
        if self.decrypted == 0:
            if first is Kind.INITIAL:
                return NEED_MORE if self.failed < PACKETS_MAX else BAD
            return first or Kind.NOT_QUIC
        return parse_hello_message(self._stream.prefix())

    @property
    def conflict(self) -> bool:
        """Overlapping CRYPTO data that differed."""
        return self._stream.conflict

    def _take(self, datagram: bytes, at: int, header: Header) -> bool:
        """Decrypt one Initial and keep its CRYPTO data. False when the connection is beyond reading."""
        opened = self._open(datagram, at, header)
        if opened is None:
            # Not ours to judge: a forged packet beside a real one must not blind us.
            self.failed += 1
            return True
        self.decrypted += 1
        self._largest = max(self._largest, opened[0])
        frames = crypto_frames(opened[1])
        return frames is not None and all(self._stream.add(offset, data) for offset, data in frames)

    def _open(self, datagram: bytes, at: int, header: Header) -> tuple[int, bytes] | None:
        # After the server's answer the client writes to another connection id under the same keys; after a Retry, or
        # when compatible version negotiation changes the version, keys follow the new one. So: old keys, then new.
        for (version, _), keys in self._keys.items():
            if version == header.version:
                opened = keys.open(datagram, at, header, self._largest)
                if opened is not None:
                    return opened
        wanted = (header.version, header.dcid)
        if wanted in self._keys:
            return None
        keys = InitialKeys.derive(header.version, header.dcid)
        opened = keys.open(datagram, at, header, self._largest)
        if opened is not None and len(self._keys) < 4:
            self._keys[wanted] = keys
        return opened
