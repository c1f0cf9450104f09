"""Statements of the enrolment authority: ECDSA P-256 with SHA-256 (DER) over DSSE's PAE, so that types never mix.

    {"payload": base64 of JSON, "signature": base64}

Signed with the key of the challenge certificate (EKU_CHALLENGE), which travels beside it as PEM; the receiver checks
that certificate against its roots first. X.509 keys are P-256 everywhere, hence not Ed25519.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from vigie.contract import strictjson
from vigie.contract.dsse import pae
from vigie.contract.errors import MessageError, SignatureError
from vigie.contract.fields import Fields

CHALLENGE_TYPE: Final = "application/vnd.vigie.challenge+json"
JOIN_STATE_TYPE: Final = "application/vnd.vigie.join-state+json"
STATEMENT_MAX: Final = 8 * 1024


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement and its signature; true only after `verify`."""

    payload: bytes
    signature: bytes

    @classmethod
    def read(cls, f: Fields) -> Self:
        """From `{"payload", "signature"}`."""
        out = cls(_base64(f, "payload", STATEMENT_MAX), _base64(f, "signature", 256))
        f.done()
        return out

    def to_dict(self) -> dict[str, str]:
        """As JSON."""
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "signature": base64.b64encode(self.signature).decode(),
        }

    def to_bytes(self) -> bytes:
        """As a file (`join_state.json`); also what the attestation hashes."""
        return strictjson.dumps(self.to_dict())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """From a file."""
        return cls.read(Fields("signed", strictjson.loads(data, 2 * STATEMENT_MAX, "signed statement")))

    def verify(self, statement_type: str, key: ec.EllipticCurvePublicKey) -> Fields:
        """The statement's fields. SignatureError; MessageError when what was signed is not an object."""
        verify_es256(key, self.signature, pae(statement_type, self.payload))
        return Fields(statement_type, strictjson.loads(self.payload, STATEMENT_MAX, statement_type))


def sign(statement: dict[str, Any], statement_type: str, key: ec.EllipticCurvePrivateKey) -> Signed:
    """A signed statement."""
    payload = strictjson.dumps(statement)
    return Signed(payload, key.sign(pae(statement_type, payload), ec.ECDSA(hashes.SHA256())))


def verify_es256(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> None:
    """Checks an ECDSA P-256 SHA-256 signature (DER). SignatureError when it, or the key's curve, is wrong."""
    if not isinstance(key.curve, ec.SECP256R1):
        raise SignatureError("a P-256 key is expected")
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as e:
        raise SignatureError("the signature does not match") from e


def _base64(f: Fields, name: str, most: int) -> bytes:
    text = f.text(name, 2 * most)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise MessageError(f.path(name), "base64 is expected") from e
    if len(data) > most:
        f.fail(name, f"at most {most} bytes are expected")
    return data
