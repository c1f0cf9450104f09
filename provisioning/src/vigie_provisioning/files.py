"""Files that survive a power cut: written beside, flushed, renamed; and reads that have a bound."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from vigie_provisioning.errors import NotFoundError, ProvisioningError

PEM_MAX = 1 << 20


def write_atomic(path: Path, data: bytes, mode: int = 0o644, group: str | None = None) -> None:
    """Replaces `path` whole or not at all. group: owner group by name, None leaves the process's own.

    The mode is set before the content is there. ProvisioningError when the disk or the rights refuse.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            os.fchmod(fd, mode)
            if group is not None:
                shutil.chown(beside, group=group)
            with os.fdopen(fd, "wb", closefd=False) as stream:
                stream.write(data)
            os.fsync(fd)
        finally:
            os.close(fd)
        beside.replace(path)
        sync_folder(path.parent)
    except (OSError, LookupError) as e:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        reason = e.strerror if isinstance(e, OSError) else e
        raise ProvisioningError(f"{path}: cannot be written ({reason}); check space, rights and group") from e


def sync_folder(path: Path) -> None:
    """Makes renames and new names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_bounded(path: Path, most: int = PEM_MAX) -> bytes:
    """The content of a file of at most `most` bytes. NotFoundError when there is none."""
    try:
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except FileNotFoundError as e:
        raise NotFoundError(f"{path}: there is no such file") from e
    except OSError as e:
        raise ProvisioningError(f"{path}: cannot be read ({e.strerror})") from e
    if len(data) > most:
        raise ProvisioningError(f"{path}: larger than {most} bytes, which is not what is expected there")
    return data
