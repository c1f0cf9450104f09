"""Client bytes made from the RFCs' text alone, independent of the decoders under test."""

from __future__ import annotations

import hashlib
import hmac
import socket
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SALT = {
    1: bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
    0x6B3343CF: bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
}
MAC_A = bytes.fromhex("020000000001")
MAC_B = bytes.fromhex("020000000002")


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack("!HH", kind, len(content)) + content


def server_name(name: bytes) -> bytes:
    entry = b"\0" + struct.pack("!H", len(name)) + name
    return extension(0, struct.pack("!H", len(entry)) + entry)


def hello_message(name: bytes | None = b"www.example.org", *, before: bytes = b"", after: bytes = b"") -> bytes:
    """A ClientHello handshake message with `before` and `after` around server_name."""
    extensions = before + (server_name(name) if name is not None else b"") + after
    body = b"\x03\x03" + bytes(range(32)) + b"\x20" + bytes(32) + b"\0\x04\x13\x01\x13\x02" + b"\x01\0"
    body += struct.pack("!H", len(extensions)) + extensions
    return b"\x01" + len(body).to_bytes(3, "big") + body


def records(message: bytes, sizes: list[int] | None = None) -> bytes:
    """TLS records; `sizes` are the content lengths of the first ones, the rest goes in one."""
    out, at = b"", 0
    for size in [*(sizes or []), len(message)]:
        part = message[at : at + size]
        if part:
            out += b"\x16\x03\x01" + struct.pack("!H", len(part)) + part
        at += size
    return out


# A key share of X25519MLKEM768 (1,216 bytes) makes the hello span two segments.
LARGE = extension(51, struct.pack("!HHH", 1220, 0x11EC, 1216) + bytes(1216))


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    label = b"tls13 " + label
    info = struct.pack("!H", length) + bytes([len(label)]) + label + b"\0"
    return hmac.new(secret, info + b"\x01", hashlib.sha256).digest()[:length]


def varint(value: int) -> bytes:
    for width, prefix in ((1, 0), (2, 0x40), (4, 0x80), (8, 0xC0)):
        if value < 1 << (8 * width - 2):
            raw = bytearray(value.to_bytes(width, "big"))
            raw[0] |= prefix
            return bytes(raw)
    raise ValueError(value)


def initial(
    payload: bytes,
    *,
    version: int = 1,
    key_id: bytes = b"\x83\x94\xc8\xf0\x3e\x51\x57\x08",
    dcid: bytes | None = None,
    number: int = 2,
    width: int = 4,
    token: bytes = b"",
    side: bytes = b"client in",
    scid: bytes = b"",
) -> bytes:
    """A protected Initial packet; `key_id` is the connection id that the keys come from."""
    dcid = key_id if dcid is None else dcid
    secret = _expand(hmac.new(SALT[version], key_id, hashlib.sha256).digest(), side, 32)
    prefix = b"quic " if version == 1 else b"quicv2 "
    key, iv, hp = (
        _expand(secret, prefix + b"key", 16),
        _expand(secret, prefix + b"iv", 12),
        _expand(secret, prefix + b"hp", 16),
    )
    first = (0xC0 if version == 1 else 0xD0) | (width - 1)
    raw = number.to_bytes(width, "big")
    length = struct.pack("!H", 0x4000 | (width + len(payload) + 16))
    header = bytes([first]) + struct.pack("!I", version) + bytes([len(dcid)]) + dcid + bytes([len(scid)]) + scid
    if side == b"client in" or token:
        header += varint(len(token)) + token
    else:
        header += b"\0"
    header += length + raw
    nonce = (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")
    sealed = AESGCM(key).encrypt(nonce, payload, header)
    sample = sealed[4 - width : 20 - width]
    mask = Cipher(algorithms.AES(hp), modes.ECB()).encryptor().update(sample)  # noqa: S305 - RFC 9001 section 5.4.3
    out = bytearray(header + sealed)
    out[0] ^= mask[0] & 0x0F
    at = len(header) - width
    for i in range(width):
        out[at + i] ^= mask[1 + i]
    return bytes(out)


def crypto(offset: int, data: bytes) -> bytes:
    return b"\x06" + varint(offset) + varint(len(data)) + data


def tcp_frame(
    payload: bytes, seq: int, *, flags: int = 0x18, sport: int = 40000, dport: int = 443, tags: tuple[int, ...] = ()
) -> bytes:
    """An Ethernet frame from 192.0.2.10 to 198.51.100.1 (checksums left at zero: no decoder looks at them)."""
    tcp = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, 1, 5 << 4, flags, 65535, 0, 0) + payload
    return ethernet(ipv4(6, tcp), tags)


def udp_frame(payload: bytes, *, sport: int = 40000, dport: int = 443) -> bytes:
    return ethernet(ipv4(17, struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload))


def ipv4(proto: int, payload: bytes, *, fragment: int = 0, options: bytes = b"") -> bytes:
    header = 20 + len(options)
    start = struct.pack("!BBHHHBBH", 0x40 | header // 4, 0, header + len(payload), 1, fragment, 64, proto, 0)
    return start + socket.inet_aton("192.0.2.10") + socket.inet_aton("198.51.100.1") + options + payload


def ipv6(proto: int, payload: bytes) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    return struct.pack("!IHBB", 6 << 28, len(payload), proto, 64) + ends + payload


def ethernet(packet: bytes, tags: tuple[int, ...] = (), ethertype: int | None = None) -> bytes:
    if ethertype is None:
        ethertype = 0x0800 if packet[:1] and packet[0] >> 4 == 4 else 0x86DD
    out = MAC_B + MAC_A
    for tag in tags:
        out += struct.pack("!HH", 0x8100, tag)
    return out + struct.pack("!H", ethertype) + packet
