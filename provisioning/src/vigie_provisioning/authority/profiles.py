"""What each certificate of Vigie looks like (RFC 5280), as pure functions of keys, names and time.

The table is that of `vigie.contract.identity`: P-256 and ECDSA with SHA-256 everywhere; key usage, extended key usage,
basic constraints, path length, subject and authority key identifiers are always set. Nothing of a request is copied
except its public key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from vigie.contract.identity import EKU_BOX, EKU_CHALLENGE, EKU_ISSUING, box_uri
from vigie_provisioning.errors import CaError

ROOT_LIFE = timedelta(days=20 * 365 + 5)
CA_LIFE = timedelta(days=10 * 365 + 2)
CHALLENGE_LIFE = timedelta(days=5 * 365 + 1)
SERVER_LIFE = timedelta(days=397)
SERVER_LIFE_MAX = timedelta(days=825)
BOX_LIFE = timedelta(days=90)
BACKDATE = timedelta(minutes=5)
"""Before the moment of signing: the clock of whoever checks may be a little slow."""

DEPARTMENT_CN = "department"
"""CN of the department's own MQTT client; no box id looks like it."""


@dataclass(slots=True, frozen=True)
class Issuer:
    """A key that signs, and its certificate. name: of its files, for messages."""

    name: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def root(key: ec.EllipticCurvePrivateKey, name: x509.Name, now: datetime) -> x509.Certificate:
    """A self-signed root: may have one level of CA below it."""
    builder = _builder(key.public_key(), name, name, now, now + ROOT_LIFE)
    builder = _authority(builder, path_length=1)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
    return builder.sign(key, hashes.SHA256())


def issuing_ca(public: ec.EllipticCurvePublicKey, name: x509.Name, issuer: Issuer, now: datetime) -> x509.Certificate:
    """The CA of boxes and of other MQTT clients. It cannot make a server: its purposes do not hold serverAuth."""
    builder = _builder(public, name, issuer.certificate.subject, now, _until(now, CA_LIFE, issuer))
    builder = _authority(builder, path_length=0)
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ObjectIdentifier(EKU_BOX), ObjectIdentifier(EKU_ISSUING)]
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), False)
    return _sign(builder, issuer)


def server_ca(
    public: ec.EllipticCurvePublicKey, name: x509.Name, issuer: Issuer, now: datetime, domain: str
) -> x509.Certificate:
    """The CA of the department's servers: serverAuth only, names below `domain` only, no bare addresses."""
    builder = _builder(public, name, issuer.certificate.subject, now, _until(now, CA_LIFE, issuer))
    builder = _authority(builder, path_length=0)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    builder = builder.add_extension(x509.NameConstraints([x509.DNSName(domain)], None), True)
    return _sign(builder, issuer)


def challenge(public: ec.EllipticCurvePublicKey, name: x509.Name, issuer: Issuer, now: datetime) -> x509.Certificate:
    """Signs challenges, the time in them and join states; directly below a root, for no other purpose."""
    builder = _builder(public, name, issuer.certificate.subject, now, _until(now, CHALLENGE_LIFE, issuer))
    builder = _leaf(builder, [ObjectIdentifier(EKU_CHALLENGE)])
    return _sign(builder, issuer)


def box(
    public: ec.EllipticCurvePublicKey, box_id: str, issuer: Issuer, now: datetime, life: timedelta = BOX_LIFE
) -> x509.Certificate:
    """An operational certificate: CN and SAN are the box id, whatever the request said."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, box_id)])
    builder = _builder(public, name, issuer.certificate.subject, now, _until(now, life, issuer))
    builder = _leaf(builder, [ExtendedKeyUsageOID.CLIENT_AUTH, ObjectIdentifier(EKU_BOX)])
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(box_uri(box_id))])
    return _sign(builder.add_extension(san, False), issuer)


def department_client(
    public: ec.EllipticCurvePublicKey, issuer: Issuer, now: datetime, life: timedelta = SERVER_LIFE
) -> x509.Certificate:
    """The department's own MQTT client (CN `department`): clientAuth without the purpose of boxes."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DEPARTMENT_CN)])
    builder = _builder(public, name, issuer.certificate.subject, now, _until(now, life, issuer))
    return _sign(_leaf(builder, [ExtendedKeyUsageOID.CLIENT_AUTH]), issuer)


def server(
    public: ec.EllipticCurvePublicKey,
    names: Sequence[str],
    issuer: Issuer,
    now: datetime,
    life: timedelta = SERVER_LIFE,
) -> x509.Certificate:
    """A server's certificate for DNS names, at most 825 days (the first name is its CN)."""
    if not names:
        raise CaError("a server certificate needs at least one name")
    if life > SERVER_LIFE_MAX:
        raise CaError(f"a server certificate lasts at most {SERVER_LIFE_MAX.days} days, {life.days} were asked for")
    try:
        alternatives = [x509.DNSName(name) for name in names]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    except ValueError as e:
        raise CaError(f"{', '.join(names)}: not names of servers ({e})") from e
    check_below(names, issuer.certificate)
    builder = _builder(public, subject, issuer.certificate.subject, now, _until(now, life, issuer))
    builder = _leaf(builder, [ExtendedKeyUsageOID.SERVER_AUTH])
    return _sign(builder.add_extension(x509.SubjectAlternativeName(alternatives), False), issuer)


def check_below(names: Sequence[str], ca: x509.Certificate) -> None:
    """CaError when a name is outside the name constraints of a server CA: no client would accept it."""
    permitted = ca.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    for name in names:
        below = any(name == tree.value or name.endswith(f".{tree.value}") for tree in permitted)
        if not below:
            allowed = ", ".join(str(tree.value) for tree in permitted)
            raise CaError(f"{name}: the CA of servers only signs names below {allowed}")


def common_name(name: str, organisation: str = "") -> x509.Name:
    """A subject of a CA."""
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation[:64])] if organisation else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def now() -> datetime:
    """The present, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def _builder(
    public: ec.EllipticCurvePublicKey, subject: x509.Name, issuer: x509.Name, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    if not isinstance(public.curve, ec.SECP256R1):
        raise CaError(f"only P-256 keys are certified, this one is {public.curve.name}")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
    )


def _authority(builder: x509.CertificateBuilder, path_length: int) -> x509.CertificateBuilder:
    usage = _usage(key_cert_sign=True, crl_sign=True)
    return builder.add_extension(x509.BasicConstraints(True, path_length), True).add_extension(usage, True)


def _leaf(builder: x509.CertificateBuilder, purposes: Sequence[ObjectIdentifier]) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(_usage(digital_signature=True), True)
        .add_extension(x509.ExtendedKeyUsage(purposes), False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _until(now: datetime, life: timedelta, issuer: Issuer) -> datetime:
    """End of a certificate: never after its issuer's, which would make it useless without a warning."""
    end = issuer.certificate.not_valid_after_utc
    if end <= now:
        raise CaError(f"{issuer.name}: expired on {end:%Y-%m-%d}; make a new one with `vigie-authority rotate`")
    return min(now + life, end)


def _sign(builder: x509.CertificateBuilder, issuer: Issuer) -> x509.Certificate:
    key_id = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)
    return builder.add_extension(identifier, False).sign(issuer.key, hashes.SHA256())
