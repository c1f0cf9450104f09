"""Revocation lists, checked before mosquitto sees them.

Mosquitto (2.0.11 to 2.0.22) that reloads with a file it cannot parse goes on *without* any list: revoked certificates
are let in. And with a list past its date it refuses everybody. So only lists that are whole, signed, complete and not
older than those in force are passed on.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from vigie.contract.identity import UNREADABLE
from vigie_department.broker.errors import BrokerError

_UNUSABLE: Final[tuple[type[Exception], ...]] = (x509.ExtensionNotFound, x509.DuplicateExtension, *UNREADABLE)

MAX_BYTES: Final = 16 << 20
"""about 300,000 revoked certificates"""
MAX_LISTS: Final = 16
_BLOCK: Final = re.compile(rb"-----BEGIN X509 CRL-----[A-Za-z0-9+/=\s]+-----END X509 CRL-----")


@dataclass(frozen=True, slots=True)
class Revocations:
    """One list. `number` increases with each issue (RFC 5280, 5.2.3); times in unix seconds."""

    issuer: str
    number: int
    since: float
    expires: float
    revoked: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """One list of each issuing authority, and the PEM text that mosquitto may read."""

    lists: tuple[Revocations, ...]
    pem: bytes

    @property
    def expires(self) -> float:
        """When the first of them ends: from then on nobody gets in."""
        return min(one.expires for one in self.lists)

    @property
    def numbers(self) -> dict[str, int]:
        return {one.issuer: one.number for one in self.lists}

    @property
    def revoked(self) -> int:
        return sum(one.revoked for one in self.lists)


Issuers = tuple[x509.Certificate, ...]


def parse_issuers(data: bytes, now: float) -> Issuers:
    """The issuing authorities among the authority's `clients.pem` (roots are there too) that have not expired."""
    try:
        found = x509.load_pem_x509_certificates(data)
    except UNREADABLE as error:
        raise BrokerError(f"certificates of the issuing authorities: {error}") from error
    issuers = tuple(c for c in found if c.subject != c.issuer and c.not_valid_after_utc.timestamp() > now)
    if not issuers:
        raise BrokerError("certificates of the issuing authorities: none that is valid")
    return issuers


def parse(data: bytes, issuers: Issuers) -> Bundle:
    """The published lists: each signed by one of `issuers`, each issuer with exactly one. BrokerError otherwise."""
    blocks = _BLOCK.findall(data)
    if not 0 < len(blocks) <= MAX_LISTS or data.count(b"-----BEGIN") != len(blocks):
        raise BrokerError(
            f"revocation lists: 1 to {MAX_LISTS} whole PEM blocks `X509 CRL` are expected, and nothing else"
        )
    found: dict[str, tuple[Revocations, bytes]] = {}
    for block in blocks:
        one, pem = _parse_one(block, issuers)
        if one.issuer in found:
            raise BrokerError(f"revocation lists: two of {one.issuer}")
        found[one.issuer] = (one, pem)
    missing = {issuer.subject.rfc4514_string() for issuer in issuers} - found.keys()
    if missing:
        raise BrokerError(f"revocation lists: none of {', '.join(sorted(missing))}; its certificates would be refused")
    lists = tuple(one for one, _ in found.values())
    return Bundle(lists, b"".join(pem for _, pem in found.values()))


def _parse_one(block: bytes, issuers: Issuers) -> tuple[Revocations, bytes]:
    try:
        crl = x509.load_pem_x509_crl(block)
        name = crl.issuer.rfc4514_string()
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        expires = crl.next_update_utc
    except _UNUSABLE as error:
        raise BrokerError(f"revocation list: {error}") from error
    if expires is None:
        raise BrokerError(f"revocation list of {name}: has no date of its next issue")
    if not any(_signed_by(crl, issuer) for issuer in issuers if issuer.subject == crl.issuer):
        raise BrokerError(f"revocation list of {name}: not signed by an issuing authority of this department")
    one = Revocations(name, number, crl.last_update_utc.timestamp(), expires.timestamp(), len(crl))
    return one, crl.public_bytes(Encoding.PEM)


def _signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return False
    try:
        return crl.is_signature_valid(key)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False


def older(offered: Bundle, in_force: Bundle) -> str:
    """Why `offered` must not replace `in_force`: an issuer whose number went back; "" when it may."""
    for issuer, number in in_force.numbers.items():
        now = offered.numbers.get(issuer)
        if now is not None and now < number:
            return f"number {now} of {issuer} is older than {number}, which is in force"
    return ""


def date(moment: float) -> str:
    """A moment as operators read it (UTC)."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
