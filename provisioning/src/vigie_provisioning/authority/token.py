"""Challenges that need no memory: everything the authority must know again travels in the challenge's own id.

The id is opaque to the box: version, time, both nonces and the serial, and an HMAC over them. Asking for challenges
therefore looks up nothing (an unknown serial cannot be told from a known one) and stores nothing (a flood fills
nothing, a restart forgets nothing). That a challenge is used once is enforced where a certificate is issued.

    version 1 | time 8, big endian | srv_nonce 32 | dev_nonce 32 | serial 3..48 | HMAC-SHA256 32        in hex
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION = 1
_HEAD = struct.Struct(">BQ32s32s")
_TAG = 32
FUTURE_S = 5
"""A challenge of this authority is never from the future, except when its clock was just set back a little."""


@dataclass(slots=True, frozen=True)
class Ticket:
    """What a challenge's id holds. Nonces are 32 bytes; time in Unix seconds."""

    serial: str
    time: int
    srv_nonce: bytes
    dev_nonce: bytes


class Tickets:
    """Makes and reads ids with a key of its own."""

    def __init__(self, key: bytes, life_s: int) -> None:
        self._key = key
        self.life_s = life_s

    def issue(self, serial: str, dev_nonce: bytes, now: int) -> tuple[str, Ticket]:
        """A fresh id and what it holds."""
        ticket = Ticket(serial, now, secrets.token_bytes(32), dev_nonce)
        data = _HEAD.pack(_VERSION, now, ticket.srv_nonce, dev_nonce) + serial.encode()
        return (data + self._tag(data)).hex(), ticket

    def read(self, sid: str, now: int) -> Ticket | None:
        """What an id holds; None when it is not ours, or older than its life."""
        try:
            raw = bytes.fromhex(sid)
        except ValueError:
            return None
        data, tag = raw[:-_TAG], raw[-_TAG:]
        if len(data) <= _HEAD.size or not hmac.compare_digest(tag, self._tag(data)):
            return None
        version, time, srv_nonce, dev_nonce = _HEAD.unpack_from(data)
        if version != _VERSION or not -FUTURE_S <= now - time <= self.life_s:
            return None
        return Ticket(data[_HEAD.size :].decode(), time, srv_nonce, dev_nonce)

    def _tag(self, data: bytes) -> bytes:
        return hmac.new(self._key, data, hashlib.sha256).digest()


def derived_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The HMAC key that goes with a challenge key: the same after a restart, another after a rotation."""
    secret = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return HKDF(hashes.SHA256(), 32, None, b"vigie challenge id").derive(secret)
