"""Reading requests and certificates: what is taken from them, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vigie_provisioning.authority.profiles import Issuer
from vigie_provisioning.errors import CaError

CSR_MAX = 4096


def csr_public_key(der: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request, which is all that is taken from it.

    CaError when it is too large, malformed, not of a P-256 key, or not signed by that key (proof of possession).
    """
    if len(der) > CSR_MAX:
        raise CaError(f"the request has {len(der)} bytes, at most {CSR_MAX}")
    try:
        request = x509.load_der_x509_csr(der)
        public = p256(request.public_key())
        if not request.is_signature_valid:
            raise CaError("the request is not signed by its own key")
    except CaError:
        raise
    except Exception as e:
        # Hostile bytes: the library documents ValueError, and raises more than that for odd algorithms.
        raise CaError(f"the request cannot be read ({type(e).__name__})") from e
    return public


def p256(key: object) -> ec.EllipticCurvePublicKey:
    """The key when it is P-256, else CaError."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CaError("only P-256 keys are used here")
    return key


def spki(public: ec.EllipticCurvePublicKey) -> bytes:
    """DER SubjectPublicKeyInfo."""
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_public(der: bytes) -> ec.EllipticCurvePublicKey:
    """A P-256 public key from its DER SubjectPublicKeyInfo."""
    try:
        key = serialization.load_der_public_key(der)
    except Exception as e:
        # ValueError, UnsupportedAlgorithm and more, by the library's version.
        raise CaError(f"not a public key ({type(e).__name__})") from e
    return p256(key)


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the names agree and the issuer's key signed it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def purposes(certificate: x509.Certificate) -> set[str]:
    """Extended key usages, dotted; none when the extension is missing."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return set()
    return {usage.dotted_string for usage in usages}


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether it may sign certificates and revocation lists."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign and usage.crl_sign


def valid_at(certificate: x509.Certificate, when: datetime) -> bool:
    """Whether `when` (aware) lies in its lifetime."""
    return certificate.not_valid_before_utc <= when <= certificate.not_valid_after_utc


def check_issuer(issuer: Issuer, roots: Iterable[x509.Certificate], wanted: Sequence[str], authority: bool) -> None:
    """CaError unless the key fits the certificate, a root signed it, and it is exactly what its role asks for."""
    certificate = issuer.certificate
    if spki(issuer.key.public_key()) != spki(p256(certificate.public_key())):
        raise CaError(f"{issuer.name}: key and certificate do not belong together; restore both from the same backup")
    if not any(issued_by(certificate, root) for root in roots):
        raise CaError(f"{issuer.name}: not signed by a root of this department")
    if is_ca(certificate) is not authority or purposes(certificate) != set(wanted):
        raise CaError(f"{issuer.name}: not made for its role; make a new one with `vigie-authority rotate`")
