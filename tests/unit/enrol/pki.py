"""Keys and certificates of a small department, with dates as a test wants them."""

from __future__ import annotations

import datetime as dt
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def issue(
    name: str,
    by: Issued | None = None,
    *,
    ca: bool = False,
    eku: tuple[str, ...] = (),
    san: tuple[x509.GeneralName, ...] = (),
    start: dt.datetime = NOW - DAY,
    end: dt.datetime = NOW + 90 * DAY,
    public: ec.EllipticCurvePublicKey | None = None,
    path_length: int | None = None,
) -> Issued:
    """A certificate for `name`, signed by `by` (itself when None)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = by or None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(public or key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        .add_extension(
            x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public or key.public_key()), critical=False)
    )
    issuer_key = signer.key if signer else key
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
    )
    if eku:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ObjectIdentifier(oid) for oid in eku]), critical=False)
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=False)
    return Issued(builder.sign(issuer_key, hashes.SHA256()), key)


def server(name: str, by: Issued, start: dt.datetime = NOW - DAY, end: dt.datetime = NOW + 90 * DAY) -> Issued:
    """A TLS server's certificate."""
    oid = ExtendedKeyUsageOID.SERVER_AUTH.dotted_string
    return issue(name, by, eku=(oid,), san=(x509.DNSName(name),), start=start, end=end)


class OneShot:
    """A TLS server on loopback that completes handshakes until closed."""

    def __init__(self, folder: Path, identity: Issued, *above: Issued) -> None:
        import socket

        pem = folder / f"{identity.certificate.serial_number}.pem"
        pem.write_bytes(identity.key_pem + identity.pem + b"".join(c.pem for c in above))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._context = context
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                raw, _peer = self._socket.accept()
            except OSError:
                return
            raw.settimeout(5)
            try:
                with self._context.wrap_socket(raw, server_side=True) as tls:
                    tls.recv(1)
            except (OSError, ssl.SSLError):
                raw.close()

    def close(self) -> None:
        import socket

        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)
