"""The jobs' files: one a board, replaced whole, one station at a time on each.

STATE/jobs/CHIP.json   the job
STATE/locks/CHIP       locked while a station works on that board
STATE/logs/CHIP.log    what its console said, the last megabyte
STATE/labels/          PDF and PNG
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from vigie_provisioning.errors import BusyError, NotFoundError, ProvisioningError
from vigie_provisioning.factory.jobs import JOB_MAX, Job
from vigie_provisioning.files import read_bounded, write_atomic

LOG_MAX: Final = 1 << 20


class JobStore:
    """The state folder, shared by the stations of one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("jobs", "locks", "logs", "labels"):
            try:
                (folder / name).mkdir(parents=True, exist_ok=True)
            except OSError as e:
                raise ProvisioningError(f"{folder / name}: cannot be made ({e.strerror}); check --state") from e

    def read(self, chip: str) -> Job | None:
        """The job of a board, None when there is none. StoreError when its file is damaged."""
        path = self._job(chip)
        try:
            return Job.from_bytes(read_bounded(path, JOB_MAX), str(path))
        except NotFoundError:
            return None

    def write(self, job: Job) -> None:
        """On the disk before this returns. ProvisioningError when it is full."""
        write_atomic(self._job(job.chip), job.to_bytes())

    def all(self) -> list[Job]:
        """Every job, by chip."""
        chips = sorted(path.stem for path in (self.folder / "jobs").glob("*.json"))
        return [job for chip in chips if (job := self.read(chip)) is not None]

    @contextmanager
    def claim(self, chip: str) -> Iterator[None]:
        """While it lasts, no other station touches the board. BusyError when one does already."""
        fd = lock_file(self.folder / "locks" / chip)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as e:
                raise BusyError(f"board {chip}: another station is working on it") from e
            yield
        finally:
            os.close(fd)

    def log(self, chip: str, lines: list[str]) -> None:
        """Adds to the console's log. A disk that refuses costs the log, not the board."""
        if not lines:
            return
        path = self.folder / "logs" / f"{chip}.log"
        with contextlib.suppress(OSError):
            if path.exists() and path.stat().st_size > LOG_MAX:
                path.replace(path.with_suffix(".log.1"))
            with path.open("a", encoding="utf-8") as stream:
                stream.write("".join(line + "\n" for line in lines))

    def last_words(self, chip: str, most: int = 3) -> str:
        """The last lines of the console's log."""
        path = self.folder / "logs" / f"{chip}.log"
        with contextlib.suppress(OSError):
            return " | ".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-most:])
        return ""

    def _job(self, chip: str) -> Path:
        return self.folder / "jobs" / f"{chip}.json"


def lock_file(path: Path) -> int:
    """The open file that a lock is taken on. ProvisioningError when it cannot be made."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise ProvisioningError(f"{path}: cannot be opened ({e.strerror}); check space and rights") from e
