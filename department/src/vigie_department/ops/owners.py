"""Which system user owns what. Under `--root` without users everything belongs to whoever runs the command."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vigie_department.config import Config, Users
from vigie_department.errors import StateError, UsageError
from vigie_department.texts import _

DEBIAN = Users(
    console="vigie-console",
    ingest="vigie-ingest",
    authority="vigie-authority",
    signer="vigie-signer",
    publisher="vigie-publisher",
    web="vigie-web",
    broker="vigie-broker",
)
GROUP = "vigie"
"""group of the users that share the console's database: console, ingest, publisher"""


def plan(config: Config) -> Iterator[tuple[Path, str, int]]:
    """(path, user, mode); folders and what is in them belong to the user, the mode is the folder's own."""
    paths, users = config.paths, config.users
    yield paths.etc, "", 0o755
    yield paths.trust, "", 0o755
    # the database of SQLite is written by two users: their group
    yield paths.data, users.console, 0o2770
    yield paths.run, users.console, 0o2775
    yield paths.static, users.console, 0o755
    yield paths.repository, users.publisher, 0o755
    yield paths.base, users.publisher, 0o755
    yield paths.pki, users.authority, 0o755
    yield paths.authority, users.authority, 0o700
    yield paths.signer, users.signer, 0o700
    yield paths.broker, users.broker, 0o700
    yield paths.nginx_run, users.web, 0o755
    for socket, user in (
        (paths.authority_socket, users.authority),
        (paths.authority_admin, users.authority),
        (paths.signer_socket, users.signer),
    ):
        if socket.parent != paths.run:
            yield socket.parent, user, 0o755
    for name, user in (("mqtt", users.broker), ("web", users.web), ("ingest", users.ingest)):
        yield paths.pki / f"{name}.key", user, 0o600
    yield paths.offline, "", 0o700
    yield paths.backup, "", 0o700


def make_folders(config: Config) -> None:
    """Every folder of the department, with its mode; owners come last (`give`)."""
    for path, _user, mode in plan(config):
        if path.suffix != ".key":
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)
    for extra in (config.paths.nginx,):
        extra.mkdir(parents=True, exist_ok=True)


def give(config: Config) -> None:
    """Everything to its user. StateError names a user that the machine does not have."""
    if os.geteuid() != 0 or config.users == Users():
        return
    for path, user, mode in plan(config):
        if not user or not path.exists():
            continue
        group = _group(config, path)
        try:
            for one in [path, *(sorted(path.rglob("*")) if path.is_dir() and path != config.paths.pki else [])]:
                if one.is_symlink():
                    continue
                shutil.chown(one, user, group or user)
                if group and one.is_file():
                    # SQLite gives its journals the mode of the database
                    one.chmod(0o660 if one.name.startswith("console.db") else 0o640)
            path.chmod(mode)
        except LookupError as error:
            raise StateError(
                _("l'utilisateur {user} n'existe pas ici : installez le paquet, ou lancez init avec --no-users").format(
                    user=user
                )
            ) from error


def _group(config: Config, path: Path) -> str:
    import grp

    shared = (config.paths.data, config.paths.run)
    if path not in shared:
        return ""
    try:
        return grp.getgrnam(GROUP).gr_name
    except KeyError:
        # a machine without the group: console and ingest then run as the same user, or on PostgreSQL
        return ""


def check_root(config: Config) -> None:
    """UsageError when users are wanted and this is not root."""
    if config.users != Users() and os.geteuid() != 0:
        raise UsageError(_("il faut être root pour donner chaque dossier à son utilisateur"))
