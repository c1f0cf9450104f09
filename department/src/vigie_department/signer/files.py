"""Files that survive a power cut: whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vigie_department.errors import DepartmentError


class FileError(DepartmentError):
    """A file of the signer or the publisher cannot be read or written."""


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """`path` holds `data` after this, on the disk too, or is as before. mode: of the new file, whatever the umask."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as e:
        temporary.unlink(missing_ok=True)
        raise FileError(f"{path}: cannot be written ({e.strerror or e})") from e


def sync_folder(folder: Path) -> None:
    """Names in `folder` (new, renamed, removed) are on the disk after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bounded(path: Path, limit: int) -> bytes:
    """The content. FileError when it is missing, or larger than `limit` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as e:
        raise FileError(f"{path}: cannot be read ({e.strerror or e})") from e
    if len(data) > limit:
        raise FileError(f"{path}: larger than {limit} bytes, which is more than such a file can be")
    return data


def make_folder(path: Path, mode: int) -> None:
    """A folder with exactly this mode; its parents are made as usual."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)
    except OSError as e:
        raise FileError(f"{path}: cannot be made ({e.strerror or e})") from e
