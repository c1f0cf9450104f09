"""`vigie enrol reset`: a request in a file that the service carries out, or the command itself when no service runs.

One of them holds the lock; the file outlives a power cut, so that a reset that was begun is finished.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

from vigie.enrol import layout
from vigie.enrol.store import Store
from vigie.errors import HostError
from vigie.host.boxconfig import BoxConfig, Paths
from vigie.host.files import read_json, remove, sync_folder, write_json

REQUEST: Final = "reset.json"
LOCK: Final = "enrol.lock"


class What(StrEnum):
    """configuration: the box forgets what it was told, stays itself and enrols again. decommission: its keys go."""

    CONFIGURATION = "configuration"
    DECOMMISSION = "decommission"


@contextlib.contextmanager
def lock(run: Path) -> Iterator[bool]:
    """Holds the lock of enrolment while the body runs; yields False when somebody else holds it."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        fd = os.open(run / LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)  # root may come before the service
    except OSError as e:
        raise HostError(f"{run / LOCK}: cannot be opened ({e.strerror})") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


def ask(paths: Paths, what: What) -> None:
    """Leaves a request for the service. Raises HostError."""
    write_json(paths.enrol / REQUEST, {"what": what.value})


def asked(paths: Paths) -> What | None:
    """The request that waits."""
    try:
        value = read_json(paths.enrol / REQUEST)
    except HostError:
        return None
    what = None if value is None else value.get("what")
    return What(what) if what in set(What) else None


def done(paths: Paths) -> None:
    """The request was carried out."""
    remove(paths.enrol / REQUEST)


def configuration(config: BoxConfig) -> None:
    """Forgets everything but identity, join state and the clock's floor: credentials, the link's and the updater's
    state, a fixed address. The filter's rules and journal are the filter's own. Raises HostError.

    A request whose reply has not come yet stays: it may have been granted, and another one would look like a copy's.
    """
    paths = config.paths
    store = Store(paths)
    if store.granted() is not None:
        store.forget()
    layout.withdraw(paths)
    for folder in (paths.link, paths.update, paths.address):
        _empty(folder)


def _empty(folder: Path) -> None:
    """Removes what is in a folder; the folder stays, for it belongs to a service of another user. Raises HostError."""
    try:
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        sync_folder(folder)
    except FileNotFoundError:
        return
    except OSError as e:
        raise HostError(f"{folder}: cannot be emptied ({e.strerror})") from e
