"""`vigie-department backup`: one file with all that a new server needs, while everything goes on running.

A tar archive, 0600, as secret as the server itself: it holds the online keys. `manifest.json` is its last member and
names every file with its SHA-256. Order matters: the console's database first, the authority after it, so that what the
console remembers of the authority's log is never ahead of that log.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from vigie_department.config import Config
from vigie_department.console import database, setup
from vigie_department.errors import BackupError
from vigie_department.texts import _
from vigie_provisioning.errors import ProvisioningError

VERSION: Final = 1
MANIFEST: Final = "manifest.json"
PREFIX: Final = "vigie-"
SUFFIX: Final = ".tar"
SQLITE: Final = "database.sqlite3"
POSTGRESQL: Final = "database.pgdump"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder that is copied whole. name: in the archive."""

    name: str
    path: Path


def trees(config: Config) -> list[Tree]:
    """Everything but the database and the authority, which know themselves how they are copied."""
    paths = config.paths
    return [
        Tree("pki", paths.pki),
        Tree("trust", paths.trust),
        Tree("signer", paths.signer),
        Tree("repository", paths.repository),
        Tree("base", paths.base),
        Tree("nginx", paths.nginx / "console.d"),
    ]


def latest(folder: Path) -> Path | None:
    """The newest backup of a folder."""
    found = sorted(folder.glob(f"{PREFIX}*{SUFFIX}")) if folder.is_dir() else []
    return found[-1] if found else None


def make(config: Config, folder: Path) -> Path:
    """Write a backup into `folder`; returns its file. BackupError, and no file then."""
    name = f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%SZ}{SUFFIX}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target, part = folder / name, folder / f".{name}.part"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, tempfile.TemporaryDirectory(dir=folder) as work:
            with tarfile.open(fileobj=file, mode="w") as archive:
                _fill(config, Writer(archive), Path(work))
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
    except (OSError, sqlite3.Error, subprocess.SubprocessError, ProvisioningError) as error:
        part.unlink(missing_ok=True)
        raise BackupError(_("{path} n'a pas été fait : {error}").format(path=target, error=error)) from error
    return target


class Writer:
    """Adds files and remembers their digests."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self.digests: dict[str, str] = {}

    def file(self, name: str, path: Path) -> None:
        """A file as it is now; one that vanishes meanwhile (a temporary one) is left out."""
        with contextlib.suppress(FileNotFoundError), path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = size, 0o600, int(path.stat().st_mtime)
            hashed = _Hashed(source, size)
            self._archive.addfile(info, hashed)
            self.digests[name] = hashed.digest.hexdigest()

    def data(self, name: str, data: bytes) -> None:
        """A few bytes."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o600
        self._archive.addfile(info, io.BytesIO(data))
        self.digests[name] = hashlib.sha256(data).hexdigest()

    def tree(self, tree: Tree) -> None:
        """Every regular file below a folder; sockets and links stay behind."""
        for path in _files(tree.path):
            self.file(f"{tree.name}/{path.relative_to(tree.path)}", path)


class _Hashed:
    """A file of known length, hashed as it is read: one that grows meanwhile (a log) ends where it did."""

    def __init__(self, source: Any, size: int) -> None:
        self._source, self._left = source, size
        self.digest = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        count = self._left if count < 0 else min(count, self._left)
        data: bytes = self._source.read(count)
        self._left -= len(data)
        self.digest.update(data)
        return data


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _fill(config: Config, writer: Writer, work: Path) -> None:
    kind = _database(config, writer, work)
    _authority(config, writer, work)
    writer.file("department.toml", config.path)
    writer.file(setup.SECRET_FILE, config.paths.data / setup.SECRET_FILE)
    for tree in trees(config):
        writer.tree(tree)
    manifest = {
        "v": VERSION,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "domain": config.domain,
        "database": kind,
        "files": writer.digests,
    }
    writer.data(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())


def _database(config: Config, writer: Writer, work: Path) -> str:
    path = database.sqlite_path(config)
    if path is not None:
        copy = work / SQLITE
        with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        writer.file(SQLITE, copy)
        return "sqlite"
    copy = work / POSTGRESQL
    run(["pg_dump", "--format=custom", "--no-owner", f"--file={copy}", f"--dbname={config.database}"])
    writer.file(POSTGRESQL, copy)
    return "postgresql"


def _authority(config: Config, writer: Writer, work: Path) -> None:
    from vigie_provisioning.authority import setup as authority
    from vigie_provisioning.authority.config import load

    copy = work / "authority"
    authority.backup(load(config.paths.authority_config), config.paths.authority_config, copy)
    writer.tree(Tree("authority", copy))


def run(argv: list[str]) -> None:
    """A program of PostgreSQL. BackupError quotes its last words."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BackupError(_("{name} manque : installez postgresql-client").format(name=argv[0])) from error
    if done.returncode:
        raise BackupError(f"{argv[0]}: {done.stderr.strip()[-500:]}")
