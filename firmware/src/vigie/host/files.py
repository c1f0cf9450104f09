"""Small files of state: read bounded, written so that a power cut leaves the old or the new one, whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any, Final

from vigie.errors import HostError

SMALL: Final = 64 * 1024


class DiskFull(HostError):
    """There is no room left (or no quota): what was to be written is not, the old file is whole."""


def read_small(path: Path, most: int = SMALL) -> bytes | None:
    """The content of a file of at most `most` bytes; None when there is none. HostError when unreadable or larger."""
    try:
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise HostError(f"{path}: cannot be read ({e.strerror})") from e
    if len(data) > most:
        raise HostError(f"{path}: larger than {most} bytes, not a file of this program")
    return data


def read_json(path: Path, most: int = SMALL) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is no file, or one that a power cut or a bad block has spoilt.

    For state that can be made again: a spoilt file counts as none. HostError when the file cannot be read at all.
    """
    data = read_small(path, most)
    if data is None:
        return None
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(data)
        if isinstance(value, dict):
            return value
    return None


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replaces a file in one step, on the disk before this returns. DiskFull or HostError: the old file stays."""
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as stream:
            os.fchmod(fd, mode)  # whatever the umask says
            stream.write(data)
            stream.flush()
            os.fsync(fd)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as e:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        kind = DiskFull if e.errno in (errno.ENOSPC, errno.EDQUOT) else HostError
        raise kind(f"{path}: cannot be written ({e.strerror}); free some room or check the partition") from e


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """`write_atomic` of a JSON value."""
    write_atomic(path, (json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n").encode(), mode)


def remove(path: Path) -> None:
    """Removes a file, on the disk before this returns; nothing happens when there is none."""
    try:
        path.unlink()
        sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as e:
        raise HostError(f"{path}: cannot be removed ({e.strerror})") from e


def sync_folder(path: Path) -> None:
    """Makes renames and removals in a folder outlive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
