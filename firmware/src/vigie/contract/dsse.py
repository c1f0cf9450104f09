"""DSSE envelopes (secure-systems-lab/dsse, protocol.md) with Ed25519: what changes a box's behaviour travels in one.

    {"payload": base64, "payloadType": text, "signatures": [{"keyid": text, "sig": base64}, ...]}

The signature is over PAE(payloadType, payload), so a command's signature never fits a desired state. `keyid` is the hex
SHA-256 of the raw 32-byte public key; it only says which key to try. Base64 is RFC 4648's standard alphabet, padded,
canonical; nothing else is accepted. Fields other than these three are refused: nobody signed them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vigie.contract import strictjson
from vigie.contract.errors import MessageError, SignatureError, TooLargeError
from vigie.contract.fields import Fields

ENVELOPE_MAX: Final = strictjson.MESSAGE_MAX
PAYLOAD_MAX: Final = 43 * 1024
"""Bytes of a payload: in base64, with 8 signatures, an envelope stays below ENVELOPE_MAX."""
SIGNATURES_MAX: Final = 8

DESIRED_TYPE: Final = "application/vnd.vigie.desired+json"
COMMAND_TYPE: Final = "application/vnd.vigie.command+json"

KEYID: Final = re.compile(r"[0-9a-f]{64}")
_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+/-]{1,127}")
_PUBLIC_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: whose, and its 64 bytes."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope. Nothing in it is true until `verify` says so."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> Envelope:
        """Parses; MessageError or TooLargeError."""
        f = Fields("envelope", strictjson.loads(data, ENVELOPE_MAX, "envelope"))
        payload = _base64(f, "payload", ENVELOPE_MAX)
        if len(payload) > PAYLOAD_MAX:
            raise TooLargeError("envelope.payload", f"{len(payload)} bytes, at most {PAYLOAD_MAX}")
        payload_type = f.text("payloadType", 127, _TYPE)
        signatures = []
        for s in f.objects("signatures", SIGNATURES_MAX):
            signatures.append(Signature(s.text("keyid", 64, KEYID), _base64(s, "sig", 2 * _SIGNATURE_BYTES)))
            s.done()
        f.done()
        return cls(payload, payload_type, tuple(signatures))

    def to_bytes(self) -> bytes:
        """As JSON."""
        return strictjson.dumps(
            {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": self.payload_type,
                "signatures": [{"keyid": s.keyid, "sig": base64.b64encode(s.sig).decode()} for s in self.signatures],
            }
        )


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: `DSSEv1 <length> <type> <length> <payload>`; lengths in bytes, decimal."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def public_bytes(key: Ed25519PrivateKey | Ed25519PublicKey) -> bytes:
    """The raw 32 bytes of a public key."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def keyid(public: bytes) -> str:
    """Key id of a raw public key. SignatureError when it is not 32 bytes."""
    if len(public) != _PUBLIC_BYTES:
        raise SignatureError(f"an Ed25519 public key has {_PUBLIC_BYTES} bytes, not {len(public)}")
    return hashlib.sha256(public).hexdigest()


def sign(payload: bytes, payload_type: str, *keys: Ed25519PrivateKey) -> Envelope:
    """An envelope around `payload` with one signature per key."""
    if len(payload) > PAYLOAD_MAX:
        raise TooLargeError("envelope.payload", f"{len(payload)} bytes, at most {PAYLOAD_MAX}")
    envelope = Envelope(payload, payload_type, ())
    for key in keys:
        envelope = add_signature(envelope, key)
    return envelope


def add_signature(envelope: Envelope, key: Ed25519PrivateKey) -> Envelope:
    """The envelope with one more signature, in place of an earlier one by the same key. Others are not verified."""
    mine = Signature(keyid(public_bytes(key)), key.sign(pae(envelope.payload_type, envelope.payload)))
    others = tuple(s for s in envelope.signatures if s.keyid != mine.keyid)
    if len(others) >= SIGNATURES_MAX:
        raise SignatureError(f"the envelope already has {SIGNATURES_MAX} signatures")
    return replace(envelope, signatures=(*others, mine))


def signers(envelope: Envelope, keys: Mapping[str, bytes]) -> frozenset[str]:
    """Key ids of `keys` (key id -> raw public key) whose signature on the envelope is right."""
    message = pae(envelope.payload_type, envelope.payload)
    good = set()
    for signature in envelope.signatures:
        public = keys.get(signature.keyid)
        if public is None or keyid(public) != signature.keyid or signature.keyid in good:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature.sig, message)
        except (InvalidSignature, ValueError):
            continue
        good.add(signature.keyid)
    return frozenset(good)


def verify(envelope: Envelope | bytes, keys: Mapping[str, bytes], threshold: int, payload_type: str) -> bytes:
    """The payload, signed by at least `threshold` different keys of `keys` over exactly `payload_type`.

    SignatureError when it is not; MessageError when `envelope` is given as bytes and malformed.
    """
    if threshold < 1:
        raise SignatureError("a threshold below 1 verifies nothing")
    parsed = Envelope.from_bytes(envelope) if isinstance(envelope, bytes) else envelope
    if parsed.payload_type != payload_type:
        raise SignatureError(f"the payload is `{parsed.payload_type[:60]}`, `{payload_type}` is expected")
    good = len(signers(parsed, keys))
    if good < threshold:
        raise SignatureError(f"{good} of the {threshold} signatures needed ({len(parsed.signatures)} present)")
    return parsed.payload


def _base64(f: Fields, name: str, most: int) -> bytes:
    text = f.text(name, most)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise MessageError(f.path(name), "base64 is expected") from e
    if base64.b64encode(data).decode() != text:
        f.fail(name, "canonical base64 is expected")
    return data
