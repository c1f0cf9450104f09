"""The keys of the authority on disk: made once, loaded and checked at each start, renewed below the offline root.

    STATE/ca/            0700  issuing-N.key/.pem  servers-N.key/.pem  challenge-N.key/.pem  roots.pem
    OFFLINE/ca/          0700  root-N.key (encrypted when a passphrase is given)  root-N.pem
    TRUST/roots.pem            for the boxes' image
    PUBLIC/roots.pem  PUBLIC/clients.pem       for the servers: roots, and roots plus every issuing CA

Of each role the highest number that is valid signs; the others are still accepted, and an older issuing CA still signs
its revocation list, until it expires. Several roots: the first signs, the others are spares whose keys lie elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from vigie.contract.identity import EKU_BOX, EKU_CHALLENGE, EKU_ISSUING, UNREADABLE
from vigie_provisioning.authority import profiles
from vigie_provisioning.authority.checks import check_issuer, is_ca, p256, purposes, valid_at
from vigie_provisioning.authority.profiles import Issuer
from vigie_provisioning.errors import CaError, NotFoundError, UsageError
from vigie_provisioning.files import read_bounded, write_atomic

ROLES = ("issuing", "servers", "challenge")
_PURPOSES: dict[str, tuple[str, ...]] = {
    "issuing": (ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string, EKU_BOX, EKU_ISSUING),
    "servers": (ExtendedKeyUsageOID.SERVER_AUTH.dotted_string,),
    "challenge": (EKU_CHALLENGE,),
}


@dataclass(slots=True, frozen=True)
class Ca:
    """What the authority signs with. The last of each role is the one in use."""

    roots: tuple[x509.Certificate, ...]
    issuing: tuple[Issuer, ...]
    servers: tuple[Issuer, ...]
    challenge: tuple[Issuer, ...]

    def current(self, role: str, now: datetime) -> Issuer:
        """The newest of a role that is valid. CaError when none is."""
        issuers: tuple[Issuer, ...] = getattr(self, role)
        for issuer in reversed(issuers):
            if valid_at(issuer.certificate, now):
                return issuer
        problem = f"no {role} certificate is valid at {now:%Y-%m-%d %H:%M}"
        raise CaError(f"{problem}; check the clock, or make one with `vigie-authority rotate {role}`")

    def chain(self, certificate: x509.Certificate) -> tuple[x509.Certificate, ...]:
        """A certificate of a box and its issuing CA, in that order, as a TLS client sends them."""
        for issuer in self.issuing:
            if certificate.issuer == issuer.certificate.subject:
                return (certificate, issuer.certificate)
        raise CaError(f"{certificate.issuer.rfc4514_string()}: not an issuing CA of this authority")


@dataclass(slots=True, frozen=True)
class Places:
    """Where the parts go; see the module. public and trust may be the same folder."""

    state: Path
    public: Path
    trust: Path

    @property
    def ca(self) -> Path:
        """Folder of the keys."""
        return self.state / "ca"


def create(
    places: Places,
    offline: Path,
    *,
    domain: str,
    organisation: str = "",
    roots: int = 2,
    passphrases: Sequence[str] = (),
    now: datetime | None = None,
) -> Ca:
    """Makes everything. UsageError when something is there already: keys are never overwritten.

    domain: names of servers lie below it. passphrases: one per root (then its key is encrypted), or none.
    """
    now = now or profiles.now()
    vault = offline / "ca"
    for folder in (places.ca, vault):
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder}: not empty; keys are never overwritten, move the folder away to start anew")
    if not 1 <= roots <= 5:
        raise UsageError(f"{roots} roots: from 1 to 5")
    if passphrases and len(passphrases) != roots:
        raise UsageError(f"{len(passphrases)} passphrases for {roots} roots: one each, or none")
    for folder, mode in ((places.ca, 0o700), (vault, 0o700), (places.public, 0o755), (places.trust, 0o755)):
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    made: list[Issuer] = []
    for i in range(roots):
        key = profiles.new_key()
        name = profiles.common_name(f"Vigie {domain} root {i + 1}", organisation)
        issuer = Issuer(f"root-{i + 1}", profiles.root(key, name, now), key)
        _store(vault, issuer, passphrases[i] if passphrases else None)
        made.append(issuer)
    certificates = [issuer.certificate for issuer in made]
    write_atomic(places.ca / "roots.pem", pem(certificates))
    for role in ROLES:
        _store(places.ca, _new(role, 1, made[0], domain, organisation, now))
    ca = load(places)
    publish(places, ca)
    write_atomic(places.trust / "roots.pem", pem(ca.roots))
    return ca


def rotate(
    places: Places,
    offline: Path,
    role: str,
    *,
    passphrase: str | None = None,
    root: int = 1,
    now: datetime | None = None,
) -> Ca:
    """A new key of `role` below root number `root`; the older ones stay. The running authority must be restarted."""
    if role not in ROLES:
        raise UsageError(f"{role}: one of {', '.join(ROLES)}")
    now = now or profiles.now()
    ca = load(places)
    parent = load_issuer(offline / "ca", f"root-{root}", passphrase)
    if parent.certificate not in ca.roots:
        raise CaError(f"{offline}/ca/root-{root}.pem: not a root of this department")
    example = ca.servers[-1].certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    domain = str((example.permitted_subtrees or [])[0].value)
    organisations = parent.certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    organisation = str(organisations[0].value) if organisations else ""
    number = 1 + max(_number(issuer.name) for issuer in getattr(ca, role))
    _store(places.ca, _new(role, number, parent, domain, organisation, now))
    ca = load(places)
    publish(places, ca)
    return ca


def load(places: Places) -> Ca:
    """Reads and checks every key. CaError or NotFoundError name the file and what to do."""
    try:
        roots = tuple(x509.load_pem_x509_certificates(read_bounded(places.ca / "roots.pem")))
    except UNREADABLE as e:
        raise CaError(f"{places.ca}/roots.pem: not certificates; restore it from a backup") from e
    for root in roots:
        if not is_ca(root) or purposes(root):
            raise CaError(f"{places.ca}/roots.pem: {root.subject.rfc4514_string()} is not a root")
    found = {role: _load_role(places.ca, role, roots) for role in ROLES}
    return Ca(roots, found["issuing"], found["servers"], found["challenge"])


def publish(places: Places, ca: Ca) -> None:
    """Writes the public parts where servers find them."""
    write_atomic(places.public / "roots.pem", pem(ca.roots))
    write_atomic(places.public / "clients.pem", pem([*ca.roots, *(i.certificate for i in ca.issuing)]))


def load_issuer(folder: Path, name: str, passphrase: str | None = None) -> Issuer:
    """A key and its certificate. CaError tells a wrong passphrase from a damaged file."""
    path = folder / f"{name}.key"
    try:
        certificate = x509.load_pem_x509_certificate(read_bounded(folder / f"{name}.pem"))
    except UNREADABLE as e:
        raise CaError(f"{folder}/{name}.pem: not a certificate; restore it from a backup") from e
    try:
        key = serialization.load_pem_private_key(read_bounded(path), passphrase.encode() if passphrase else None)
    except TypeError as e:
        raise CaError(
            f"{path}: {'is encrypted, a passphrase is needed' if passphrase is None else 'is not encrypted'}"
        ) from e
    except ValueError as e:
        raise CaError(f"{path}: wrong passphrase, or damaged") from e
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CaError(f"{path}: only P-256 keys are used here")
    p256(key.public_key())
    return Issuer(name, certificate, key)


def save_key(
    path: Path, key: ec.EllipticCurvePrivateKey, passphrase: str | None = None, group: str | None = None
) -> None:
    """A private key as PKCS#8 PEM, 0600 (0640 with a group), encrypted when there is a passphrase."""
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        protection = serialization.BestAvailableEncryption(passphrase.encode())
    data = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    write_atomic(path, data, 0o600 if group is None else 0o640, group)


def pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """Certificates one after the other."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _new(role: str, number: int, parent: Issuer, domain: str, organisation: str, now: datetime) -> Issuer:
    key = profiles.new_key()
    name = profiles.common_name(f"Vigie {domain} {role} {number}", organisation)
    public = key.public_key()
    if role == "issuing":
        certificate = profiles.issuing_ca(public, name, parent, now)
    elif role == "servers":
        certificate = profiles.server_ca(public, name, parent, now, domain)
    else:
        certificate = profiles.challenge(public, name, parent, now)
    return Issuer(f"{role}-{number}", certificate, key)


def _store(folder: Path, issuer: Issuer, passphrase: str | None = None) -> None:
    # The certificate last: a power cut between the two leaves a key that nothing knows, not a certificate without key.
    save_key(folder / f"{issuer.name}.key", issuer.key, passphrase)
    write_atomic(folder / f"{issuer.name}.pem", pem([issuer.certificate]))


def _load_role(folder: Path, role: str, roots: Sequence[x509.Certificate]) -> tuple[Issuer, ...]:
    names = sorted((p.stem for p in folder.glob(f"{role}-*.pem")), key=_number)
    if not names:
        raise NotFoundError(f"{folder}: no {role} certificate; run `vigie-department init`, or restore a backup")
    issuers = tuple(load_issuer(folder, name) for name in names)
    for issuer in issuers:
        check_issuer(issuer, roots, _PURPOSES[role], authority=role != "challenge")
    return issuers


def _number(name: str) -> int:
    _role, _dash, digits = name.rpartition("-")
    if not digits.isascii() or not digits.isdecimal():
        raise CaError(f"{name}.pem: the name is not ROLE-NUMBER")
    return int(digits)
