"""The release authority: a certificate that boxes know from their image, and the one that signs bundles.

Both keys are offline and encrypted. The authority's key stays in a safe: it is only needed to replace the release
certificate. Boxes judge a certificate at the time of signing (`use-bundle-signing-time`), so that neither a box whose
clock is wrong nor one that was off for years is cut off from updates; who has the right to a release at all is TUF's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vigie_department.signer.files import make_folder, read_bounded, write_atomically
from vigie_ota.errors import UsageError

AUTHORITY_DAYS: Final = 30 * 365
RELEASE_DAYS: Final = 5 * 365
PASSPHRASE_MIN: Final = 12
KEYRING: Final = "rauc.pem"
"""The authority's certificate among the trust files, as system.conf names it."""
_MAX_FILE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class ReleaseFiles:
    """Where the parts are in an offline folder."""

    folder: Path

    @property
    def authority_key(self) -> Path:
        """Encrypted; for the safe."""
        return self.folder / "release-authority.key"

    @property
    def authority(self) -> Path:
        """Public: what boxes know."""
        return self.folder / "release-authority.pem"

    @property
    def key(self) -> Path:
        """Encrypted; signs bundles."""
        return self.folder / "release.key"

    @property
    def certificate(self) -> Path:
        """Public; travels inside each signature."""
        return self.folder / "release.pem"


def create(
    folder: Path, authority_passphrase: str, release_passphrase: str, now: datetime | None = None
) -> ReleaseFiles:
    """Authority and first release certificate. Refuses to overwrite: UsageError."""
    files = ReleaseFiles(folder)
    for path in (files.authority_key, files.authority, files.key, files.certificate):
        if path.exists():
            raise UsageError(f"{path}: exists already; keys are never overwritten")
    _long_enough(authority_passphrase)
    _long_enough(release_passphrase)
    make_folder(folder, 0o700)
    now = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Vigie release authority")
    certificate = (
        _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_atomically(files.authority_key, _pem(key, authority_passphrase), 0o600)
    write_atomically(files.authority, certificate.public_bytes(Encoding.PEM))
    _issue(files, key, certificate, release_passphrase, now)
    return files


def renew(
    folder: Path, authority_passphrase: str, release_passphrase: str, now: datetime | None = None
) -> ReleaseFiles:
    """A new release key and certificate under the same authority; boxes need nothing new.

    The former pair is kept beside (`release-old.*`), so that an interrupted change loses nothing.
    """
    files = ReleaseFiles(folder)
    _long_enough(release_passphrase)
    key = _load(files.authority_key, authority_passphrase)
    certificate = load_certificate(files.authority)
    for path in (files.key, files.certificate):
        if path.exists():
            path.replace(path.with_name(path.name.replace("release.", "release-old.")))
    _issue(files, key, certificate, release_passphrase, now or datetime.now(UTC))
    return files


def load_certificate(path: Path) -> x509.Certificate:
    """The certificate of a PEM file; UsageError."""
    try:
        return x509.load_pem_x509_certificate(read_bounded(path, _MAX_FILE))
    except ValueError as e:
        raise UsageError(f"{path}: not a certificate ({e})") from e


def check_usage(certificate: x509.Certificate, where: str) -> None:
    """UsageError unless RAUC would take it for signing bundles (`check-purpose=codesign`)."""
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as e:
        raise UsageError(f"{where}: says nothing about its purpose; it is no release certificate") from e
    if ExtendedKeyUsageOID.CODE_SIGNING not in purposes or not usage.digital_signature:
        raise UsageError(f"{where}: is not for signing code; boxes would refuse the bundle")


def _issue(
    files: ReleaseFiles,
    authority: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
    passphrase: str,
    now: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        _builder(certificate.subject, _name(f"Vigie release {now:%Y-%m}"), key.public_key(), now, RELEASE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        .sign(authority, hashes.SHA256())
    )
    write_atomically(files.key, _pem(key, passphrase), 0o600)
    write_atomically(files.certificate, made.public_bytes(Encoding.PEM))


def _builder(
    issuer: x509.Name, subject: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey, passphrase: str) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode()))


def _load(path: Path, passphrase: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(read_bounded(path, _MAX_FILE), passphrase.encode())
    except (ValueError, TypeError) as e:
        raise UsageError(f"{path}: not an encrypted key in PEM, or the passphrase is wrong") from e
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{path}: a P-256 key is expected")
    return key


def _long_enough(passphrase: str) -> None:
    if len(passphrase) < PASSPHRASE_MIN:
        raise UsageError(f"a passphrase needs at least {PASSPHRASE_MIN} characters")
