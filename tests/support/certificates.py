"""A department's certificates without its authority process: real CA files, and revocation lists of any shape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vigie.contract.identity import box_id
from vigie_department.config import Config
from vigie_department.signer.files import write_atomically
from vigie_provisioning.authority import ca as authority_ca
from vigie_provisioning.authority import profiles


@dataclass(frozen=True, slots=True)
class Client:
    """An MQTT client: name in its certificate, chain and key as PEM files."""

    name: str
    chain: Path
    key: Path
    certificate: x509.Certificate


class Certificates:
    """Makes the pki folder of `config`; `clients` get theirs in `folder`."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        paths = config.paths
        places = authority_ca.Places(paths.authority, paths.pki, paths.trust)
        self.ca = authority_ca.create(places, paths.offline, domain=config.domain)
        self.roots = paths.pki / "roots.pem"
        self.number = 0
        now = profiles.now()
        servers = self.ca.current("servers", now)
        for name, hosts in (("mqtt", [config.mqtt_host]), ("web", [*config.hosts[1:], config.mqtt_host])):
            key = profiles.new_key()
            certificate = profiles.server(key.public_key(), hosts, servers, now)
            authority_ca.save_key(paths.pki / f"{name}.key", key)
            write_atomically(paths.pki / f"{name}.pem", authority_ca.pem([certificate, servers.certificate]))
        self.publish()

    @property
    def issuing(self) -> profiles.Issuer:
        return self.ca.current("issuing", profiles.now())

    def department(self) -> Client:
        """The ingest's."""
        key = profiles.new_key()
        certificate = profiles.department_client(key.public_key(), self.issuing, profiles.now())
        return self._client(profiles.DEPARTMENT_CN, key, certificate)

    def box(self, life: timedelta = profiles.BOX_LIFE) -> Client:
        """Of a new box."""
        identity = profiles.new_key().public_key()
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        name = box_id(identity.public_bytes(serialization.Encoding.DER, spki))
        key = profiles.new_key()
        return self._client(name, key, profiles.box(key.public_key(), name, self.issuing, profiles.now(), life))

    def _client(self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> Client:
        chain, place = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        authority_ca.save_key(place, key)
        chain.write_bytes(authority_ca.pem([certificate, self.issuing.certificate]))
        return Client(name, chain, place, certificate)

    # -- what the authority publishes -------------------------------------------------------------

    def publish(
        self,
        revoked: tuple[Client, ...] = (),
        denied: tuple[Client, ...] | None = None,
        *,
        life: timedelta = timedelta(days=30),
        since: timedelta = timedelta(minutes=-5),
    ) -> None:
        """Both files, in the authority's order. denied: the revoked ones unless said otherwise."""
        self.number += 1
        write_atomically(self.config.paths.pki / "crl.pem", self.crl(revoked, self.number, life=life, since=since))
        names = sorted(client.name for client in (revoked if denied is None else denied))
        write_atomically(self.config.paths.pki / "denied.json", json.dumps({"v": 1, "boxes": names}).encode())

    def crl(
        self,
        revoked: tuple[Client, ...],
        number: int,
        *,
        issuer: profiles.Issuer | None = None,
        life: timedelta = timedelta(days=30),
        since: timedelta = timedelta(minutes=-5),
    ) -> bytes:
        """A list as PEM; `life` and `since` count from now."""
        issuer = issuer or self.issuing
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.certificate.subject)
            .last_update(now + since)
            .next_update(now + life)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for client in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(client.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now).build())
        return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
