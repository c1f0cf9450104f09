"""Certificates of the department's own servers and of its MQTT client, signed with the authority's keys.

Only root reads those keys from here, at `init` and at renewal: no running process of the department does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from vigie_department.config import Config
from vigie_department.errors import StateError
from vigie_department.texts import _
from vigie_provisioning.authority import ca as authority_ca
from vigie_provisioning.authority import profiles
from vigie_provisioning.files import read_bounded, write_atomic

NAMES: Final = ("mqtt", "web", "ingest")
RENEW_DAYS: Final = 60


@dataclass(frozen=True, slots=True)
class Server:
    """One of `NAMES`, and the host names of a server."""

    name: str
    hosts: Sequence[str] = ()


def wanted(config: Config) -> list[Server]:
    """The broker's, the web server's, and the ingest's."""
    web = [config.enrol_host, config.updates_host, config.console_host]
    # 443 of the broker's name reaches the broker itself: the web server never answers for it
    return [Server("mqtt", [config.mqtt_host]), Server("web", web), Server("ingest")]


def places(config: Config) -> authority_ca.Places:
    """Where the authority keeps its keys and publishes."""
    return authority_ca.Places(config.paths.authority, config.paths.pki, config.paths.trust)


def issue(config: Config, ca: authority_ca.Ca, one: Server, now: datetime) -> Path:
    """A fresh key and certificate; returns the certificate's file."""
    key = profiles.new_key()
    if one.hosts:
        issuer = ca.current("servers", now)
        certificate = profiles.server(key.public_key(), list(one.hosts), issuer, now)
    else:
        issuer = ca.current("issuing", now)
        certificate = profiles.department_client(key.public_key(), issuer, now)
    pki = config.paths.pki
    # key first: a server that restarts in between refuses to start, where the other order might serve the old key
    authority_ca.save_key(pki / f"{one.name}.key", key)
    path = pki / f"{one.name}.pem"
    write_atomic(path, authority_ca.pem([certificate, issuer.certificate]), 0o644)
    return path


def expires(path: Path) -> datetime:
    """End of the first certificate of a file. StateError."""
    try:
        return x509.load_pem_x509_certificates(read_bounded(path, 1 << 20))[0].not_valid_after_utc
    except (OSError, ValueError, IndexError) as error:
        raise StateError(
            _("{path} : ce n'est pas un certificat lisible ({error})").format(path=path, error=error)
        ) from error


def renew(config: Config, now: datetime, *, everything: bool = False) -> list[Path]:
    """Replace what ends within `RENEW_DAYS` days (or everything); returns the files replaced."""
    ca = authority_ca.load(places(config))
    done = []
    for one in wanted(config):
        path = config.paths.pki / f"{one.name}.pem"
        if everything or not path.exists() or (expires(path) - now).days < RENEW_DAYS:
            done.append(issue(config, ca, one, now))
    return done
