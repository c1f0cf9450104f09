"""Who is who: box ids, serials, claim ids, and the purposes that certificates carry.

**Certificates** (P-256 everywhere). All chain to the roots of the trust bundle (`roots.pem`). Extended key usages:

| certificate | CA | extended key usages |
|---|---|---|
| root | yes | none |
| issuing CA (signs box certificates) | yes, path length 0 | clientAuth, EKU_BOX, EKU_ISSUING |
| server CA (signs mqtt., enrol., maj.), where one is used | yes, path length 0 | serverAuth |
| challenge (signs challenges, signed time, join states) | no | EKU_CHALLENGE only |
| server | no | serverAuth |
| box, CN = box id, SAN = URI `urn:vigie:box:<box id>` | no | clientAuth, EKU_BOX |

An OID under 2.25 is a UUID (ITU-T X.667): unique without a registration.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from vigie.contract.errors import IdentityError

EKU_CHALLENGE: Final = "2.25.155917900327926617456330785366831461040"
EKU_ISSUING: Final = "2.25.103662511483768978251533184155738934819"
EKU_BOX: Final = "2.25.172657535543010126733319724577017691947"

UNREADABLE: Final[tuple[type[Exception], ...]] = (
    ValueError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    UnsupportedAlgorithm,
)
"""What `cryptography` raises for bytes that are no certificate, request or revocation list: more than ValueError."""

BOX_ID: Final = re.compile(r"vg-[a-z2-7]{16}")
SERIAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,47}")
MODEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
PSEUDONYM: Final = re.compile(r"d-[0-9a-f]{16}")
"""A device of the LAN in upward messages: keyed by a salt of the commune that stays on the box and changes monthly."""

# Crockford's base 32: no I, L, O, U, so that a label read aloud or typed by hand survives.
_CLAIM_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CLAIM_LENGTH: Final = 12
_CLAIM_LOOKALIKE: Final = str.maketrans({"I": "1", "L": "1", "O": "0"})
_SPKI_MAX: Final = 1024


def box_id(spki_der: bytes) -> str:
    """Box id of an identity public key, given as DER SubjectPublicKeyInfo: `vg-` + 16 characters of base32(SHA-256).

    80 bits: two boxes of a fleet of 10^6 share an id with probability 4e-13; making a key for a given id costs 2^80.
    """
    if not 0 < len(spki_der) <= _SPKI_MAX:
        raise IdentityError(f"identity public key: {len(spki_der)} bytes is not the DER of a public key")
    digest = hashlib.sha256(spki_der).digest()
    return "vg-" + base64.b32encode(digest).decode().lower()[:16]


def check_box_id(text: str) -> str:
    """The text when it is a box id, else IdentityError."""
    if BOX_ID.fullmatch(text) is None:
        raise IdentityError(f"{text[:40]!r} is not a box id (vg- and 16 characters a-z, 2-7)")
    return text


def box_uri(box: str) -> str:
    """The URI of a box in the SAN of its certificates."""
    return f"urn:vigie:box:{check_box_id(box)}"


def check_serial(text: str) -> str:
    """The text when it is a serial number, else IdentityError."""
    if SERIAL.fullmatch(text) is None:
        raise IdentityError(f"{text[:48]!r} is not a serial number (3 to 48 letters, digits, `.`, `_`, `-`)")
    return text


def claim_id(random: bytes) -> str:
    """A claim id from 7 random bytes or more (the label's): `XXXX-XXXX-XXXX`, 55 random bits and a check character."""
    if len(random) < 7:
        raise IdentityError("a claim id needs 7 random bytes")
    number = int.from_bytes(random[:7], "big")
    symbols = [(number >> (5 * i)) & 31 for i in range(_CLAIM_LENGTH - 1)]
    return _grouped([*symbols, _check(symbols)])


def check_claim_id(text: str) -> str:
    """Canonical form of a claim id as typed (spaces, hyphens, case, I for 1, O for 0). IdentityError when wrong."""
    word = re.sub(r"[\s-]", "", text[:64]).upper().translate(_CLAIM_LOOKALIKE)
    if len(word) != _CLAIM_LENGTH or any(c not in _CLAIM_ALPHABET for c in word):
        raise IdentityError(f"{text[:40]!r} is not a claim id (12 letters and digits, as on the label)")
    symbols = [_CLAIM_ALPHABET.index(c) for c in word]
    if _check(symbols[:-1]) != symbols[-1]:
        raise IdentityError(f"{text[:40]!r}: the check character is wrong, probably a typing error")
    return _grouped(symbols)


def _check(symbols: list[int]) -> int:
    """Check symbol over GF(32): catches each wrong character and each swap of two different neighbours.

    Sum of symbol times a distinct power of the generator 2 (polynomial x^5 + x^2 + 1).
    """
    total = 0
    for symbol in symbols:
        total = _double(total ^ symbol)
    return total


def _double(value: int) -> int:
    value <<= 1
    return value ^ 0b100101 if value & 32 else value


def _grouped(symbols: list[int]) -> str:
    word = "".join(_CLAIM_ALPHABET[s] for s in symbols)
    return "-".join(word[i : i + 4] for i in range(0, _CLAIM_LENGTH, 4))
