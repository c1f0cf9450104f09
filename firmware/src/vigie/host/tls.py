"""TLS to the department: its roots alone, names checked, and dates judged by the trusted clock.

A box whose clock says 1970 finds every certificate not valid yet; one whose NTP server lied finds all of them expired.
So OpenSSL verifies signatures, purposes and names but not dates (X509_V_FLAG_NO_CHECK_TIME), and `check_dates` judges
the verified chain by the trusted clock. Call it after each handshake, before anything is sent.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vigie.errors import HostError
from vigie.host.trusted_clock import Time

NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, openssl/x509_vfy.h (OpenSSL 1.1.0 and later); ssl.VerifyFlags has no name for it."""
SKEW_S: Final = 300.0
"""A certificate made a moment ago by a server whose clock is a little ahead."""
_ENCODING_DER: Final = 2


class CertificateDateError(HostError):
    """The server's certificate, or one above it, has expired or is not valid yet by the trusted clock."""


def client_context(roots: Path, chain: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """A context for department servers: TLS 1.2 or later, `roots` alone, name checked, dates left to `check_dates`.

    chain, key: the client's certificate chain and private key (PEM). Raises HostError when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= NO_CHECK_TIME
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_verify_locations(cafile=roots)
        if chain is not None:
            context.load_cert_chain(chain, key)
    except (OSError, ssl.SSLError) as e:
        raise HostError(f"{roots if chain is None else chain}: cannot be used for TLS ({e})") from e
    return context


def verified_chain(sock: ssl.SSLSocket) -> list[bytes]:
    """The chain that OpenSSL verified, server's certificate first, root last, each in DER."""
    if hasattr(sock, "get_verified_chain"):  # Python 3.13
        return [bytes(der) for der in sock.get_verified_chain()]
    handle: Any = sock._sslobj  # type: ignore[attr-defined]  # 3.11 and 3.12 have it below the public class only
    return [certificate.public_bytes(_ENCODING_DER) for certificate in handle.get_verified_chain()]


def server_spki(sock: ssl.SSLSocket) -> bytes:
    """DER SubjectPublicKeyInfo of the server of this very session."""
    der = sock.getpeercert(binary_form=True)
    if not der:
        raise HostError("the TLS session has no server certificate")
    return spki(der)


def spki(certificate: bytes) -> bytes:
    """DER SubjectPublicKeyInfo of a certificate in DER."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check_dates(chain: list[bytes], now: Time, floor: float) -> None:
    """Raises CertificateDateError when a certificate of the chain is out of date.

    Expired before the floor is expired, whatever any clock says. Only a signed time judges the rest: an NTP server may
    lie, and a clock at its floor runs behind.
    """
    for der in chain:
        certificate = x509.load_der_x509_certificate(der)
        start, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        name = certificate.subject.rfc4514_string()
        if end < (now.unix_s if now.known else floor):
            raise CertificateDateError(f"certificate `{name}`: expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
        if now.known and start > now.unix_s + SKEW_S:
            raise CertificateDateError(
                f"certificate `{name}`: not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
            )
