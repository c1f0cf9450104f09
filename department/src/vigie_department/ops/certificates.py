"""Certificates of the department's own servers and of its MQTT client. The running authority signs; root asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from vigie.contract.identity import UNREADABLE
from vigie_department.config import Config
from vigie_department.errors import StateError, UnavailableError
from vigie_department.texts import _
from vigie_provisioning.authority import setup
from vigie_provisioning.authority.client import Admin
from vigie_provisioning.errors import ProvisioningError, UnreachableError
from vigie_provisioning.files import read_bounded

_UNUSABLE: Final[tuple[type[Exception], ...]] = (OSError, IndexError, ProvisioningError, *UNREADABLE)


@dataclass(frozen=True, slots=True)
class Ends:
    """A certificate's file, and when it ends. due: two thirds of its life are over."""

    name: str
    path: Path
    at: datetime
    due: bool


def servers(config: Config) -> list[setup.Server]:
    """The broker's, the web server's, and the ingest's (a client: no names)."""
    # the broker's name on port 443 reaches the broker itself: the web server never answers for it
    return [
        setup.Server("mqtt", (config.mqtt_host,)),
        setup.Server("web", (config.enrol_host, config.updates_host, config.console_host)),
        setup.Server("ingest", ()),
    ]


def show(config: Config) -> list[Ends]:
    """Those of `servers`. StateError names a file that is no certificate."""
    found = []
    for server in servers(config):
        path = config.paths.pki / f"{server.name}.pem"
        try:
            ends = x509.load_pem_x509_certificates(read_bounded(path))[0].not_valid_after_utc
            found.append(Ends(server.name, path, ends, setup.due(path)))
        except _UNUSABLE as error:
            text = _("{path} : ce n'est pas un certificat lisible ({error})").format(path=path, error=error)
            raise StateError(text) from error
    return found


def renew(config: Config, *, everything: bool = False) -> list[Path]:
    """Ask for new ones where two thirds of the life are over (or everywhere); returns the files replaced."""
    admin = Admin(config.paths.authority_admin)
    due = {ends.name for ends in show(config) if ends.due or everything}
    done = []
    for server in servers(config):
        if server.name not in due:
            continue
        try:
            setup.issue(admin, config.paths.pki, server)
        except UnreachableError as error:
            raise UnavailableError(str(error)) from error
        done.append(config.paths.pki / f"{server.name}.pem")
    return done
