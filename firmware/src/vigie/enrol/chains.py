"""Certificates that come in replies, checked against the roots of the trust bundle: a small part of RFC 5280.

Three shapes exist (`vigie.contract.identity`): a challenge certificate below a root, a box's certificate below an
issuing CA below a root, and nothing else. Whatever the reply holds beyond a path from its first certificate to a root
is refused, so that there is one way to read it. TLS servers are OpenSSL's business (`vigie.host.tls`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from vigie.contract.identity import EKU_BOX, EKU_CHALLENGE, EKU_ISSUING, UNREADABLE, box_uri
from vigie.enrol.errors import ChainError, EnrolError
from vigie.enrol.events import Lifetime
from vigie.errors import HostError
from vigie.host.files import read_small

_UNUSABLE: Final[tuple[type[Exception], ...]] = (HostError, *UNREADABLE)

SKEW_S: Final = 300.0
ROOTS_MAX: Final = 16
RENEW_AT: Final = 2 / 3
RENEW_SPREAD: Final = 0.1
_PATH_MAX: Final = 4
_CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string
_UNDERSTOOD: Final = frozenset(
    {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE}
)


def load_roots(path: Path) -> tuple[x509.Certificate, ...]:
    """The department's roots. Raises EnrolError: without them nothing can be believed."""
    try:
        roots = tuple(x509.load_pem_x509_certificates(read_small(path) or b""))
    except _UNUSABLE as e:
        raise EnrolError(f"{path}: no certificates of the department ({e}); the image is not made for one") from e
    if not 0 < len(roots) <= ROOTS_MAX:
        raise EnrolError(f"{path}: {len(roots)} certificates, 1 to {ROOTS_MAX} are expected")
    return roots


def challenge_key(
    chain: Sequence[str], roots: Sequence[x509.Certificate]
) -> tuple[ec.EllipticCurvePublicKey, tuple[x509.Certificate, ...]]:
    """The key that signs challenges and join states, and the path from its certificate to a root. Raises ChainError.

    Dates are not checked: the time is what the challenge is asked for. `check_time` does, with the time it gave.
    """
    path = _path(chain, roots)
    if _purposes(path[0]) != {EKU_CHALLENGE}:
        raise ChainError("the challenge is not signed by a certificate made for challenges")
    return _p256(path[0]), path


def check_time(path: Sequence[x509.Certificate], unix_s: float) -> None:
    """A signed time must lie in the life of every certificate that vouches for it: an authority whose clock says 2040
    cannot push the box's floor there. Raises ChainError."""
    for certificate in path:
        start, end = _dates(certificate)
        if not start - SKEW_S <= unix_s <= end:
            raise ChainError(f"`{_name(certificate)}` does not live at the time it signs ({_day(unix_s)})")


def check_operational(
    chain: Sequence[str], roots: Sequence[x509.Certificate], public: ec.EllipticCurvePublicKey, box: str, now: float
) -> Lifetime:
    """The certificate that was granted: our key, our id, for boxes, from an issuing CA of the department, alive.

    now: a signed time. Raises ChainError, which names what is wrong.
    """
    path = _path(chain, roots)
    own = path[0]
    if _spki(own) != public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise ChainError("the certificate is for another key")
    names = [a.value for a in own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [box]:
        raise ChainError(f"the certificate is for {names}, not for {box}")
    if _uris(own) != [box_uri(box)]:
        raise ChainError(f"the certificate's URI is not that of {box}")
    if _purposes(own) != {_CLIENT, EKU_BOX}:
        raise ChainError("the certificate is not one of a box")
    if len(path) < 3 or EKU_ISSUING not in _purposes(path[1]):
        raise ChainError("the certificate was not signed by an issuing CA")
    for certificate in path:
        start, end = _dates(certificate)
        if start > now + SKEW_S or end <= now:
            raise ChainError(f"`{_name(certificate)}` is not valid on {_day(now)}")
    return lifetime(own)


def lifetime(certificate: x509.Certificate) -> Lifetime:
    """Validity, and when to renew: at 2/3 of it +- 10 %, the same for each look at the same certificate."""
    start, end = _dates(certificate)
    draw = int.from_bytes(hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()[:4], "big") / 2**32
    return Lifetime(start, end, start + (end - start) * (RENEW_AT + RENEW_SPREAD * (2 * draw - 1)))


def _path(chain: Sequence[str], roots: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Certificates from the first of `chain` to a root, each signed by the next."""
    try:
        path = [x509.load_pem_x509_certificate(pem.encode()) for pem in chain]
        trusted = {root.fingerprint(hashes.SHA256()): root for root in roots}
        if path and path[-1].fingerprint(hashes.SHA256()) in trusted:
            path.pop()  # a server may send the root along; ours is the one that counts
        if not 0 < len(path) < _PATH_MAX:
            raise ChainError(f"{len(path)} certificates below the root, 1 to {_PATH_MAX - 1} are expected")
        root = next((r for r in roots if _signed_by(path[-1], r)), None)
        if root is None:
            raise ChainError(f"`{_name(path[-1])}` was not signed by a root of the department")
        path.append(root)
        for depth, certificate in enumerate(path):
            _check_place(certificate, depth, path)
    except ChainError:
        raise
    except Exception as e:
        # Hostile bytes: the library raises ValueError, and more than that for odd extensions and algorithms.
        raise ChainError(f"a certificate cannot be read ({type(e).__name__}: {e})") from e
    return tuple(path)


def _check_place(certificate: x509.Certificate, depth: int, path: Sequence[x509.Certificate]) -> None:
    """What RFC 5280 asks of a certificate at this depth (0: the end) of a path."""
    _p256(certificate)
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise ChainError(f"`{_name(certificate)}` has a critical extension that is not known here")
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    if depth == 0:
        if constraints.ca or not usage.digital_signature or usage.key_cert_sign:
            raise ChainError(f"`{_name(certificate)}` is not an end certificate")
        return
    if not constraints.ca or not usage.key_cert_sign:
        raise ChainError(f"`{_name(certificate)}` may not sign certificates")
    if constraints.path_length is not None and depth - 1 > constraints.path_length:
        raise ChainError(f"`{_name(certificate)}` may not have {depth - 1} CAs below it")
    if not _signed_by(path[depth - 1], certificate):
        raise ChainError(f"`{_name(path[depth - 1])}` was not signed by `{_name(certificate)}`")


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _p256(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ChainError(f"`{_name(certificate)}` has no P-256 key")
    return key


def _purposes(certificate: x509.Certificate) -> set[str]:
    try:
        return {u.dotted_string for u in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value}
    except x509.ExtensionNotFound:
        return set()


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier) if len(names) == 1 else []


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _dates(certificate: x509.Certificate) -> tuple[float, float]:
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def _day(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d}"
