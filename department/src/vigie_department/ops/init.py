"""`vigie-department init`: a whole department from nothing. Overwrites nothing; a failure undoes what it made."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vigie_department import config as configuration
from vigie_department.config import Config
from vigie_department.console import setup
from vigie_department.errors import StateError, UsageError
from vigie_department.ops import certificates, owners
from vigie_department.texts import _
from vigie_provisioning.authority.config import Config as AuthorityConfig

ROOTS: Final = 2
KEYHOLDERS: Final = 5
PASSPHRASE_MIN: Final = 12
PASSWORD_MIN: Final = 12
SECRETS: Final = tuple(f"root-{n}" for n in range(1, ROOTS + 1)) + tuple(
    f"keyholder-{n}" for n in range(1, KEYHOLDERS + 1)
)
"""what each passphrase opens"""


@dataclass(frozen=True, slots=True)
class Request:
    """What the person chose."""

    text: str
    """the configuration file"""
    path: Path
    passphrases: Sequence[str]
    """in the order of SECRETS"""
    administrator: str
    password: str


def check(request: Request) -> Config:
    """Everything that can be known before the first key. UsageError, ConfigError or StateError: nothing was made."""
    import tomllib

    if request.path.exists():
        raise StateError(
            _("{path} existe : ce département est déjà fait, init n'écrase rien").format(path=request.path)
        )
    config = configuration.from_table(tomllib.loads(request.text), request.path)
    owners.check_root(config)
    paths = config.paths
    for folder in (
        paths.data,
        paths.repository,
        paths.base,
        paths.trust,
        paths.pki,
        paths.authority,
        paths.signer,
        paths.offline,
    ):
        if folder.exists() and any(folder.iterdir()):
            raise StateError(
                _("{path} n'est pas vide : init n'écrase rien ; déplacez ce dossier pour repartir de zéro").format(
                    path=folder
                )
            )
    if len(request.passphrases) != len(SECRETS):
        raise UsageError(
            _("{n} phrases de passe sont attendues : {names}").format(n=len(SECRETS), names=", ".join(SECRETS))
        )
    for name, phrase in zip(SECRETS, request.passphrases, strict=True):
        if len(phrase) < PASSPHRASE_MIN:
            raise UsageError(
                _("{name} : une phrase de passe a {n} caractères au moins").format(name=name, n=PASSPHRASE_MIN)
            )
    if len(set(request.passphrases)) != len(SECRETS):
        raise UsageError(_("deux phrases de passe sont les mêmes : chaque détenteur a la sienne"))
    if len(request.password) < PASSWORD_MIN:
        raise UsageError(_("un mot de passe a {n} caractères au moins").format(n=PASSWORD_MIN))
    return config


def run(request: Request, tell: Callable[[str], None]) -> Config:
    """Make everything. A failure removes what this call made, so that it may be tried again."""
    config = check(request)
    existed = {place for place in _places(config) if place.exists()}
    try:
        _make(config, request, tell)
    except BaseException:
        for place in _places(config):
            if place not in existed:
                shutil.rmtree(place, ignore_errors=True)
        request.path.unlink(missing_ok=True)
        for place in existed - {config.paths.etc}:
            _empty(place)
        raise
    return config


def _places(config: Config) -> list[Path]:
    paths = config.paths
    return [
        *(paths.trust, paths.pki, paths.nginx, paths.data, paths.static, paths.repository, paths.base),
        *(paths.offline, paths.broker, paths.authority, paths.signer),
    ]


def _empty(folder: Path) -> None:
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _make(config: Config, request: Request, tell: Callable[[str], None]) -> None:
    tell(_("Dossiers et configuration"))
    owners.make_folders(config)
    # every process of the department reads it: a password of the database has no place in it (doctor says so)
    _write(request.path, request.text.encode(), 0o644)
    _write(config.paths.data / setup.SECRET_FILE, secrets.token_urlsafe(64).encode(), 0o600)
    tell(_("Autorité : racines hors ligne, autorités de délivrance, certificats des serveurs"))
    _authority(config, request.passphrases[:ROOTS])
    _write(config.paths.trust / "domain", f"{config.domain}\n".encode(), 0o644)
    tell(_("Signataire : clés des cinq détenteurs, clés en ligne, dépôt TUF"))
    from vigie_department.signer import keys

    keys.create(config, config.paths.offline, request.passphrases[ROOTS:])
    tell(_("Base de données et premier administrateur"))
    database(config)
    administrator(config, request.administrator, request.password)
    tell(_("Configuration de mosquitto et de nginx"))
    from vigie_department.broker.configure import configure

    owners.give(config)
    configure(config)
    static(config)
    owners.give(config)


def _write(path: Path, data: bytes, mode: int) -> None:
    """A new file with its mode from the first byte."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _authority(config: Config, passphrases: Sequence[str]) -> None:
    from vigie_provisioning.authority import setup as authority

    authority.create(
        authority_config(config),
        config.paths.authority_config,
        config.paths.offline,
        certificates.servers(config),
        organisation=config.organisation,
        roots=ROOTS,
        passphrases=passphrases,
    )


def authority_config(config: Config) -> AuthorityConfig:
    """What the authority is told, made from our own configuration."""
    paths, users = config.paths, config.users
    return AuthorityConfig(
        domain=config.domain,
        state=paths.authority,
        public=paths.pki,
        trust=paths.trust,
        http_socket=paths.authority_socket,
        admin_socket=paths.authority_admin,
        operators=paths.etc / "operators.json",
        server_certificates=(paths.pki / "web.pem",),
        admin_users=tuple(dict.fromkeys(name for name in (users.console, users.ingest) if name)),
        http_group=users.web,
        mqtt_ports=tuple(dict.fromkeys((config.ports.mqtt, config.ports.https))),
    )


def database(config: Config) -> None:
    """Make or bring up to date the tables."""
    setup.start(config)
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)


def static(config: Config) -> None:
    """Gather the console's style sheets and scripts for nginx."""
    setup.start(config)
    from django.core.management import call_command

    call_command("collectstatic", verbosity=0, interactive=False, clear=True)


def administrator(config: Config, name: str, password: str) -> None:
    """The first person of the console. The second factor is enrolled at the first login."""
    setup.start(config)
    from vigie_department.console.services import audit, people

    people.add(audit.shell(), name, "administrator", password)


def next_steps(config: Config) -> str:
    """What the person does now."""
    offline = config.paths.offline
    return _(
        """\
Le département est prêt. Ce qui reste à faire par des personnes :

1. Les clés hors ligne sont dans {offline}, chiffrées chacune par sa phrase de passe.
   keyholder-1 à keyholder-5 : une clé USB par détenteur, rangées en cinq lieux ; deux suffisent pour signer.
   ca/ : racines de l'autorité ; deux copies sur deux clés USB, dans deux coffres.
   Vérifiez que chaque clé USB se relit, puis effacez {offline} de ce serveur.
2. {trust} va dans l'image des boîtiers : domain, roots.pem, tuf-root.json, steering.json (rien de secret).
3. Les opérateurs d'atelier qui enregistrent des boîtiers : leurs clés publiques dans {operators}.
4. Faites pointer {hosts} vers ce serveur.
5. Démarrez les services, ouvrez https://{console}/ : le second facteur se règle à la première connexion.
6. `vigie-department doctor` dit ce qui manque ; `vigie-department backup` fait la première sauvegarde."""
    ).format(
        offline=offline,
        trust=config.paths.trust,
        operators=config.paths.etc / "operators.json",
        hosts=", ".join(config.hosts),
        console=config.console_host,
    )
