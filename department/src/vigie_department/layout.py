"""Where everything of a department is: Debian's places, or all of it under one folder (`--root DIR`), so that many
departments live on one machine."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SOCKET_LIMIT: Final = 107  # bytes of sun_path, without its end (unix(7))


@dataclass(frozen=True, slots=True)
class Paths:
    """Where everything is. Folders, except sockets and where said otherwise."""

    etc: Path
    """this file and what belongs to it"""
    data: Path
    """the console's own state: SQLite database, secret of the sessions, aside (messages that could not be read)"""
    run: Path
    """sockets and pid files; empty at boot"""
    static: Path
    """style sheets and scripts of the console, served by nginx"""
    repository: Path
    """TUF repository, served by nginx as https://maj.D/tuf/"""
    base: Path
    """the publisher's working folder: feeds, compiled bases, what each wave showed"""
    offline: Path
    """offline keys, to be moved to USB sticks after `init`"""
    trust: Path
    """public trust bundle for the boxes' image: domain, roots.pem, tuf-root.json, steering.json"""
    pki: Path
    """certificates and keys of the servers and of the ingest: <name>.pem, <name>.key; roots.pem; crl.pem"""
    broker: Path
    """generated configuration and persistence of mosquitto"""
    nginx: Path
    """generated configuration of nginx"""
    nginx_run: Path
    """nginx's pid file, temporary bodies and inner socket"""
    authority: Path
    """the authority's store and keys; only its own user reads it"""
    signer: Path
    """the signer's keys, state and log; only its own user reads it"""
    backup: Path
    """where backups go"""
    authority_config: Path
    """file"""
    authority_socket: Path
    """the authority's HTTP API, for nginx"""
    authority_admin: Path
    """the authority's admin socket"""
    signer_socket: Path
    console_socket: Path
    """the console's HTTP, for nginx"""

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            value: Path = getattr(self, entry.name)
            if not value.is_absolute():
                raise ValueError(f"paths.{entry.name}: {value} is not an absolute path")
            if entry.name.endswith(("_socket", "_admin")) and len(os.fsencode(value)) > _SOCKET_LIMIT:
                raise ValueError(f"paths.{entry.name}: longer than {_SOCKET_LIMIT} bytes; choose a shorter folder")


def debian() -> Paths:
    """Debian's places: one folder per user, so that file permissions separate the processes."""
    etc, state, run = Path("/etc/vigie-department"), Path("/var/lib"), Path("/run")
    return Paths(
        etc=etc,
        data=state / "vigie-department",
        run=run / "vigie-department",
        static=state / "vigie-static",
        repository=state / "vigie-repository",
        base=state / "vigie-base",
        offline=Path("/var/lib/vigie-offline"),
        trust=etc / "trust",
        pki=etc / "pki",
        broker=state / "vigie-broker",
        nginx=etc / "nginx",
        nginx_run=run / "vigie-nginx",
        authority=state / "vigie-authority",
        signer=state / "vigie-signer",
        backup=Path("/var/backups/vigie-department"),
        authority_config=etc / "authority.toml",
        authority_socket=run / "vigie-authority/http.sock",
        authority_admin=run / "vigie-authority/admin.sock",
        signer_socket=run / "vigie-signer/signer.sock",
        console_socket=run / "vigie-department/console.sock",
    )


def under(root: Path) -> Paths:
    """The same, all below one folder."""
    root = root.absolute()
    state, run = root / "state", root / "run"
    return Paths(
        etc=root / "etc",
        data=state / "console",
        run=run,
        static=state / "static",
        repository=state / "repository",
        base=state / "base",
        offline=root / "offline",
        trust=root / "etc/trust",
        pki=root / "etc/pki",
        broker=state / "broker",
        nginx=root / "etc/nginx",
        nginx_run=run / "nginx",
        authority=state / "authority",
        signer=state / "signer",
        backup=root / "backup",
        authority_config=root / "etc/authority.toml",
        authority_socket=run / "authority/http.sock",
        authority_admin=run / "authority/admin.sock",
        signer_socket=run / "signer/signer.sock",
        console_socket=run / "console.sock",
    )
