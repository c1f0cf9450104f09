"""What the updater remembers, in its own folder: the last base taken, one that was refused, and how it stands."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from vigie.errors import HostError
from vigie.host.files import read_json, write_json

from .codes import Code, UpdateError
from .plan import Memory

MEMORY: Final = "base.json"
STATUS: Final = "status.json"
REFUSED: Final = "refused.json"
LOCK: Final = "lock"
#: A base that the filter refused is not fetched again for so long: its limits look back a day.
REFUSED_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Status:
    """`status.json`, for the link, the page and `vigie update status`.

    code: of the last look, since: Unix time of its first such answer; at: of the look. version: in force after it, with
    the candidate's mark. detail: English, for engineers. limits: codes of a refusal. seconds: how long the last base
    took from the look to being in force; way: patched, rebuilt or loaded.
    """

    code: str = Code.STARTING.value
    since: float = 0.0
    at: float = 0.0
    detail: str = ""
    version: int = 0
    candidate: bool = False
    wanted: int = 0
    limits: tuple[str, ...] = ()
    updated: float = 0.0
    seconds: float = 0.0
    way: str = ""
    received: int = 0


class Store:
    """The folder `update/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def memory(self) -> Memory:
        """What was taken last."""
        said = read_json(self.folder / MEMORY) or {}
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return Memory(int(said["version"]), str(said["sha256"]), str(said["content"]), int(said["newest"]))
        return Memory()

    def remember(self, memory: Memory) -> None:
        """Keeps what was taken. Raises HostError."""
        write_json(self.folder / MEMORY, asdict(memory))

    def status(self) -> Status:
        """How it stood last."""
        said = read_json(self.folder / STATUS) or {}
        with contextlib.suppress(TypeError, ValueError):
            known = {key: value for key, value in said.items() if key in Status.__dataclass_fields__}
            return Status(**{**known, "limits": tuple(known.get("limits", ()))})
        return Status()

    def tell(self, status: Status) -> None:
        """Writes how it stands. Raises HostError."""
        write_json(self.folder / STATUS, asdict(status))

    def refused(self, sha256: str, now: float) -> tuple[str, ...]:
        """Codes for which this file was refused within a day; none when it was not."""
        said = read_json(self.folder / REFUSED) or {}
        with contextlib.suppress(KeyError, TypeError, ValueError):
            if said["sha256"] == sha256 and abs(now - float(said["at"])) < REFUSED_S:
                return tuple(str(code) for code in said["codes"])
        return ()

    def refuse(self, sha256: str, codes: tuple[str, ...], now: float) -> None:
        """Remembers a refusal. Raises HostError."""
        write_json(self.folder / REFUSED, {"sha256": sha256, "codes": list(codes), "at": now})

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One updater at a time. Raises UpdateError when another is at work."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise UpdateError(Code.DISK, f"{self.folder / LOCK}: {e.strerror}") from e
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                raise UpdateError(Code.STARTING, f"{self.folder}: another `vigie update` is at work") from e
            yield
        finally:
            os.close(fd)


def volunteers(link: Path) -> bool:
    """Whether the commune tries candidates, as the department ordered (`settings.json` of the link)."""
    with contextlib.suppress(HostError):
        said: dict[str, Any] = read_json(link / "settings.json") or {}
        return said.get("volunteer") is True
    return False
