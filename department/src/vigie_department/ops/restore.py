"""`vigie-department restore`: a department on an empty server, from a backup. Touches no box: they come back by
themselves, to the same names and the same keys.

Everything is read and checked against the manifest before anything is put in its place.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vigie_department import config as configuration
from vigie_department.config import Config
from vigie_department.console import database, setup
from vigie_department.errors import BackupError, StateError
from vigie_department.ops import backup, init, owners
from vigie_department.texts import _
from vigie_provisioning.errors import ProvisioningError

MANIFEST_MAX: Final = 64 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9._~+@-]+(/[A-Za-z0-9._~+@-]+)*")


@dataclass(frozen=True, slots=True)
class Request:
    """archive: the backup; path: of the configuration to write; root, database: where this server has them."""

    archive: Path
    path: Path
    root: Path | None = None
    database: str = ""


def run(request: Request, tell: Callable[[str], None]) -> tuple[Config, float]:
    """Put everything back; returns the configuration and how many seconds it took. BackupError or StateError."""
    started = time.monotonic()
    if request.path.exists():
        raise StateError(_("{path} existe : on ne restaure que sur un serveur vide").format(path=request.path))
    request.path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.path.parent, prefix=".restore-") as name:
        work = Path(name)
        work.chmod(0o700)
        tell(_("Lecture et vérification de {path}").format(path=request.archive))
        manifest = unpack(request.archive, work)
        text = _text(request, (work / "department.toml").read_text(encoding="utf-8"))

        config = configuration.from_table(tomllib.loads(text), request.path)
        _check_empty(config, manifest)
        owners.check_root(config)
        try:
            _put(config, text, work, manifest, tell)
        except (OSError, ProvisioningError) as error:
            raise BackupError(_("la restauration s'est arrêtée en route : {error}").format(error=error)) from error
    return config, time.monotonic() - started


def unpack(archive: Path, work: Path) -> dict[str, Any]:
    """Every file below `work`, each with the digest that the manifest gives; returns the manifest. BackupError."""
    try:
        with tarfile.open(archive, "r:") as tar:
            found: dict[str, str] = {}
            for member in tar:
                if not member.isfile() or _NAME.fullmatch(member.name) is None or ".." in member.name.split("/"):
                    raise BackupError(
                        _("{path} : {name} n'a rien à faire dans une sauvegarde").format(path=archive, name=member.name)
                    )
                source = tar.extractfile(member)
                if source is None:
                    raise BackupError(f"{archive}: {member.name}")
                target = work / member.name
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                digest = hashlib.sha256()
                with target.open("xb") as file:
                    target.chmod(0o600)
                    while chunk := source.read(1 << 20):
                        digest.update(chunk)
                        file.write(chunk)
                found[member.name] = digest.hexdigest()
        manifest: dict[str, Any] = json.loads((work / backup.MANIFEST).read_bytes()[:MANIFEST_MAX])
    except (OSError, tarfile.TarError, ValueError) as error:
        raise BackupError(_("{path} ne se lit pas : {error}").format(path=archive, error=error)) from error
    found.pop(backup.MANIFEST)
    if manifest.get("v") != backup.VERSION:
        raise BackupError(_("{path} : fait par une autre version").format(path=archive))
    if manifest["files"] != found:
        wrong = sorted(set(manifest["files"].items()) ^ set(found.items()))
        raise BackupError(_("{path} : {name} manque ou a changé").format(path=archive, name=wrong[0][0]))
    return manifest


def _text(request: Request, text: str) -> str:
    """The configuration as this server wants it: another root, another database; the rest is as it was."""

    def replaced(key: str, value: str, text: str) -> str:
        line = f"{key} = {json.dumps(value, ensure_ascii=False)}"
        changed, count = re.subn(rf"(?m)^{key}\s*=.*$", lambda _match: line, text, count=1)
        return changed if count else f"{line}\n{text}"

    if request.root is not None:
        text = replaced("root", str(request.root.absolute()), text)
    if request.database:
        text = replaced("database", request.database, text)
    return text


def _check_empty(config: Config, manifest: dict[str, Any]) -> None:
    paths = config.paths
    for folder in (paths.data, paths.pki, paths.trust, paths.authority, paths.signer, paths.repository, paths.base):
        if folder.exists() and any(folder.iterdir()):
            raise StateError(_("{path} n'est pas vide : on ne restaure que sur un serveur vide").format(path=folder))
    here = "sqlite" if database.sqlite_path(config) is not None else "postgresql"
    if manifest["database"] != here:
        raise BackupError(
            _("la sauvegarde contient une base {there}, la configuration veut {here}").format(
                there=manifest["database"], here=here
            )
        )


def _put(config: Config, text: str, work: Path, manifest: dict[str, Any], tell: Callable[[str], None]) -> None:
    from vigie_provisioning.authority import setup as authority
    from vigie_provisioning.authority.config import render
    from vigie_provisioning.files import write_atomic

    owners.make_folders(config)
    tell(_("Autorité"))
    ours = init.authority_config(config)
    digests = {
        name.removeprefix("authority/"): digest
        for name, digest in manifest["files"].items()
        if name.startswith("authority/")
    }
    authority.restore(ours, work / "authority", digests)
    write_atomic(config.paths.authority_config, render(ours).encode(), 0o644)
    tell(_("Clés, dépôt, bases"))
    for tree in backup.trees(config):
        _copy(tree, work / tree.name)
    tell(_("Base de données"))
    write_atomic(config.paths.data / setup.SECRET_FILE, (work / setup.SECRET_FILE).read_bytes(), 0o600)
    _database(config, work)
    write_atomic(config.path, text.encode(), 0o644)
    tell(_("Tables, pages, serveurs"))
    init.database(config)
    init.static(config)
    from vigie_department.broker.configure import configure

    owners.give(config)
    configure(config)
    owners.give(config)


def _copy(tree: backup.Tree, source: Path) -> None:
    """Private trees stay private; what servers publish is readable. Folders that are there keep their mode."""
    public = tree.name in ("repository", "trust", "nginx")
    for path in sorted(source.rglob("*")) if source.is_dir() else ():
        target = tree.path / path.relative_to(source)
        if path.is_dir():
            target.mkdir(mode=0o755 if public else 0o700, parents=True, exist_ok=True)
        elif not (tree.name in ("pki", "trust") and target.exists()):
            # what the authority has just published there is newer than the copy
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            readable = public or (tree.name == "pki" and path.suffix != ".key")
            target.chmod(0o644 if readable else 0o600)


def _database(config: Config, work: Path) -> None:
    path = database.sqlite_path(config)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(work / backup.SQLITE, path)
        path.chmod(0o660)
        return
    dump = work / backup.POSTGRESQL
    backup.run(["pg_restore", "--no-owner", "--exit-on-error", f"--dbname={config.database}", str(dump)])


def after(config: Config) -> str:
    """What the person does now."""
    return _(
        """\
Le département est restauré. Ce qui reste à faire :

1. Démarrez les services, puis : vigie-department doctor.
2. Faites pointer {hosts} vers ce serveur : les boîtiers reviennent d'eux-mêmes.
3. Les révocations et exceptions décidées après la sauvegarde ({domain}) sont à refaire : relisez vos notes.
4. Si l'ancien serveur a pu être copié, changez les clés en ligne avec les clés hors ligne :
   vigie-department keys rotate-online, vigie-authority rotate."""
    ).format(hosts=", ".join(config.hosts), domain=config.domain)
