"""A new authority, whole: keys, configuration, store, certificates of the servers, first revocation lists.

`vigie-department init` calls `create`; nothing that exists is overwritten. `issue` makes or renews a server's
certificate later, through the running authority.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vigie.contract.identity import UNREADABLE
from vigie_provisioning.authority import ca as authority
from vigie_provisioning.authority import crl, profiles, records, schema
from vigie_provisioning.authority.ca import Ca, pem, save_key
from vigie_provisioning.authority.checks import p256, spki
from vigie_provisioning.authority.client import Admin
from vigie_provisioning.authority.config import Config, render
from vigie_provisioning.errors import CaError, ProvisioningError, UsageError
from vigie_provisioning.files import read_bounded, write_atomic


@dataclass(slots=True, frozen=True)
class Server:
    """A server to certify.

    name: of its files in `Config.public` (NAME.pem, NAME.key). names: its DNS names, none for the department's MQTT
    client. group: who may read its key besides the owner ("" = nobody).
    """

    name: str
    names: tuple[str, ...]
    group: str = ""


def create(
    config: Config,
    config_file: Path,
    offline: Path,
    servers: Sequence[Server],
    *,
    organisation: str = "",
    roots: int = 2,
    passphrases: Sequence[str] = (),
    owner: str = "",
) -> Ca:
    """Makes everything. UsageError when keys or a configuration are there already.

    offline: folder of the root keys, to be moved away afterwards. owner: system user of the authority ("" = this one).
    """
    if config_file.exists():
        raise UsageError(f"{config_file}: is there already; an authority is set up once")
    for server in servers:
        if (config.public / f"{server.name}.key").exists():
            raise UsageError(f"{config.public / server.name}.key: is there already; keys are not overwritten")
    ca = authority.create(
        config.places, offline, domain=config.domain, organisation=organisation, roots=roots, passphrases=passphrases
    )
    now = int(time.time())
    db = schema.open_store(config.store)
    try:
        for server in servers:
            _certify(config, ca, server, db, now)
        records.remember(db, "crl_number", str(now))
        what = crl.content(db, now, now, config.superseded_s)
    finally:
        db.close()
    write_atomic(config.public / "crl.pem", crl.sign(ca, what, now, timedelta(days=config.crl_days)))
    write_atomic(config.public / "denied.json", crl.denied_json(what))
    config_file.parent.mkdir(parents=True, exist_ok=True)
    if not config.operators.exists():
        config.operators.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(config.operators, b'{"v":1,"operators":[]}\n')
    write_atomic(config_file, render(config).encode())
    if owner:
        _give(config, owner)
    return ca


def issue(
    admin: Admin, folder: Path, server: Server, *, days: int | None = None, new_key: bool = False
) -> x509.Certificate:
    """Makes or renews FOLDER/NAME.pem through the running authority.

    The key stays, unless there is none yet or `new_key` says so: boxes that enrol attest which key they saw, and the
    web server takes up a new file later than the authority.
    """
    key_file = folder / f"{server.name}.key"
    fresh = new_key or not key_file.exists()
    key = profiles.new_key() if fresh else _load_key(key_file)
    csr = base64.b64encode(request(key)).decode()
    chain = admin.issue_server(server.names, csr, days) if server.names else admin.issue_client(csr)
    if fresh:
        save_key(key_file, key, group=server.group or None)
    write_atomic(folder / f"{server.name}.pem", chain.encode())
    return x509.load_pem_x509_certificate(chain.encode())


def names_of(certificate_file: Path) -> tuple[str, ...]:
    """The DNS names of a certificate, to renew it with the same; none for a client's."""
    try:
        certificate = x509.load_pem_x509_certificate(read_bounded(certificate_file))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except UNREADABLE as e:
        raise CaError(f"{certificate_file}: not a certificate") from e
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))


def due(certificate_file: Path, now: datetime | None = None) -> bool:
    """Whether two thirds of a certificate's life are over."""
    try:
        certificate = x509.load_pem_x509_certificate(read_bounded(certificate_file))
    except UNREADABLE as e:
        raise CaError(f"{certificate_file}: not a certificate") from e
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return (now or datetime.now(UTC)) >= certificate.not_valid_before_utc + life * 2 / 3


def request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request (DER) that carries nothing but the key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def backup(config: Config, config_file: Path, folder: Path) -> dict[str, str]:
    """Copies keys, store (SQLite's online backup) and configuration into a new `folder` (0700).

    The authority may run. Returns {name: hex SHA-256}. Without the challenge key in it every box of a restored
    authority would be in conflict: the copy is as secret as the original.
    """
    folder.mkdir(mode=0o700, parents=True)
    schema.backup(config.store, folder / "authority.db")
    (folder / "ca").mkdir(mode=0o700)
    for file in sorted(config.places.ca.iterdir()):
        if file.suffix in (".key", ".pem"):
            write_atomic(folder / "ca" / file.name, read_bounded(file), 0o600)
    for file in (config_file, config.operators):
        write_atomic(folder / file.name, read_bounded(file), 0o600)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def restore(config: Config, folder: Path, digests: Mapping[str, str], *, owner: str = "") -> Ca:
    """Puts a backup back into an empty state folder. Checks every file against `digests` first.

    The configuration is not put back: the new server has its own. Revocations after the backup are not in it; they
    must be made again. The rest mends by itself: boxes that enrolled since show a newer join state, and are accepted.
    """
    for name, digest in digests.items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise ProvisioningError(f"{file}: missing or changed since the backup; take another one")
    if config.store.exists() or config.places.ca.exists():
        raise UsageError(f"{config.state}: holds an authority already; restore into an empty folder")
    config.places.ca.mkdir(mode=0o700, parents=True)
    for name in digests:
        if name.startswith("ca/"):
            write_atomic(config.state / name, read_bounded(folder / name), 0o600)
    shutil.copyfile(folder / "authority.db", config.store)
    config.store.chmod(0o600)
    db = schema.open_store(config.store)
    # The clock of the backup is long past: the next start looks at none.
    db.execute("DELETE FROM facts WHERE name = 'clock'")
    db.close()
    if not config.operators.exists():
        config.operators.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(config.operators, read_bounded(folder / config.operators.name))
    ca = authority.load(config.places)
    for place in (config.public, config.trust):
        place.mkdir(parents=True, exist_ok=True)
    authority.publish(config.places, ca)
    write_atomic(config.trust / "roots.pem", pem(ca.roots))
    if owner:
        _give(config, owner)
    return ca


def _certify(config: Config, ca: Ca, server: Server, db: sqlite3.Connection, now: int) -> None:
    """A server's first key and certificate, before the authority runs."""
    when = datetime.fromtimestamp(now, UTC)
    key = profiles.new_key()
    public = key.public_key()
    if server.names:
        issuer = ca.current("servers", when)
        made = profiles.server(public, server.names, issuer, when)
    else:
        issuer = ca.current("issuing", when)
        made = profiles.department_client(public, issuer, when)
        digest = hashlib.sha256(spki(public)).digest()
        records.add_certificate(db, made, serial=None, box=profiles.DEPARTMENT_CN, key=digest, state="active", now=now)
    save_key(config.public / f"{server.name}.key", key, group=server.group or None)
    write_atomic(config.public / f"{server.name}.pem", pem([made, issuer.certificate]))


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_bounded(path), None)
    except (ValueError, TypeError) as e:
        raise CaError(f"{path}: not a private key without passphrase") from e
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CaError(f"{path}: only P-256 keys are used here")
    p256(key.public_key())
    return key


def _give(config: Config, owner: str) -> None:
    """Hands the private folder, and the folder of public files, to the authority's user."""
    try:
        for path in [config.state, *config.state.rglob("*")]:
            shutil.chown(path, owner, owner)
        config.state.chmod(0o700)
        for name in ("roots.pem", "clients.pem", "crl.pem", "denied.json"):
            if (config.public / name).exists():
                shutil.chown(config.public / name, owner)
        shutil.chown(config.public, owner)
    except (OSError, LookupError) as e:
        remedy = "run as root, and make the user first"
        raise ProvisioningError(f"{config.state}: cannot be given to {owner} ({e}); {remedy}") from e
