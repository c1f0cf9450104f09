"""The department's TUF repository, as a box sees it: metadata verified and kept, targets by name.

python-tuf does the protocol (roots, rollback, freeze, mix-and-match, delegation). What is ours: the network, the clock
by which things expire, files that survive a power cut, and one error with a code for all that can go wrong.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tuf.api import exceptions
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater, UpdaterConfig

from vigie.errors import HostError
from vigie.host.boxconfig import BoxConfig
from vigie.host.files import DiskFull, read_small, write_atomic
from vigie.host.trusted_clock import ClockReader

from .codes import Code, UpdateError
from .fetch import Fetcher, FetchError

ROOT_FILE: Final = "tuf-root.json"
ROOT_MAX: Final = 256 * 1024
LIMITS: Final = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=8,
    root_max_length=ROOT_MAX,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=64 * 1024,
    targets_max_length=1 << 20,
)
LATEST: Final = 253_402_300_799  # 9999-12-31: what datetime can hold


class Repository:
    """One look at the repository; use it as a context, `refresh` first. Raises UpdateError throughout.

    What is known goes on: a look that fails half way has kept the metadata that it verified.
    """

    def __init__(self, config: BoxConfig, clock: ClockReader, folder: Path | None = None) -> None:
        """folder: where metadata and downloads are kept, of this user alone; the updater's own by default."""
        paths = config.paths
        folder = folder or paths.update
        self._folder = folder / "tuf"
        self._download = folder / "download"
        self._clock = clock
        self._trusted = paths.trust / ROOT_FILE
        port = "" if config.ports.https == 443 else f":{config.ports.https}"
        self._url = f"https://{config.update_host}{port}/tuf/"
        self.fetcher = Fetcher(config, clock, folder / "partial")
        self._updater: _Updater | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.fetcher.close()

    def refresh(self) -> None:
        """Newest metadata, as far as it is signed, in force and not older than what was seen."""
        with _told(self._url):
            root = read_small(self._trusted, ROOT_MAX)
            if root is None:
                raise UpdateError(Code.TRUST, f"{self._trusted}: missing; the image is not complete")
            self._folder.mkdir(parents=True, exist_ok=True)
            now = datetime.fromtimestamp(min(self._clock.now(), LATEST), UTC)
            self._updater = _Updater(self._folder, self._url, self.fetcher, root, now)
            self._updater.refresh()

    def find(self, path: str) -> TargetFile | None:
        """What is signed about a target; None when no role that may name it does."""
        with _told(path):
            return self._looked().get_targetinfo(path)

    def small(self, path: str, most: int) -> bytes | None:
        """The content of a small target, None when there is none."""
        info = self.find(path)
        if info is None:
            return None
        if info.length > most:
            raise UpdateError(Code.TOO_LARGE, f"{path}: {info.length} bytes, at most {most}")
        return self.download(path, info).read_bytes()

    def download(self, path: str, info: TargetFile) -> Path:
        """A target as a file of ours, whole and verified; it goes with the next download of that name."""
        target = self._download / path.replace("/", "_")
        with _told(path):
            self._download.mkdir(parents=True, exist_ok=True)
            self._looked().download_target(info, str(target))
        return target

    def url(self, path: str) -> str:
        """Address of a file that lies beside the metadata and is bound to it by something else than its digest."""
        return self._url + path

    def size(self, path: str) -> int:
        """Bytes of such a file, of which the server gives parts."""
        with _told(path):
            return self.fetcher.size(self._url + path)

    def clean(self) -> None:
        """Removes what was downloaded."""
        for path in self._download.glob("*"):
            path.unlink(missing_ok=True)

    def _looked(self) -> Updater:
        if self._updater is None:
            raise UpdateError(Code.STARTING, "the repository was not looked at yet")
        return self._updater


class _Updater(Updater):
    """python-tuf's client with the trusted clock instead of the system's, and files that survive a power cut."""

    def __init__(self, folder: Path, url: str, fetcher: Fetcher, root: bytes, now: datetime) -> None:
        super().__init__(
            str(folder), f"{url}metadata/", None, f"{url}targets/", fetcher, LIMITS, bootstrap=root
        )  # fmt: skip
        # There is no public way to give the time; the system clock may say 1970, or what a lying NTP server told it.
        self._trusted_set.reference_time = now

    def _persist_file(self, filename: str, data: bytes) -> None:
        write_atomic(Path(filename), data)


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except UpdateError:
        raise
    except (exceptions.RepositoryError, exceptions.DownloadError, HostError, OSError, ValueError, KeyError) as e:
        code = code_of(e)
        raise UpdateError(code, f"{what}: {type(e).__name__}: {e}"[:400]) from e


def code_of(error: Exception) -> Code:
    """The code of whatever python-tuf, the network or the disk raised."""
    for kinds, code in _CODES:
        if isinstance(error, kinds):
            return code(error) if callable(code) else code
    return Code.MALFORMED


def _disk(error: Exception) -> Code:
    full = isinstance(error, DiskFull) or getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT)
    return Code.DISK_FULL if full else Code.DISK


def _http(error: Exception) -> Code:
    return Code.MISSING if getattr(error, "status_code", 0) in (403, 404, 410) else Code.HTTP


_Judge = Callable[[Exception], Code]
_CODES: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], Code | _Judge], ...]] = (
    (FetchError, lambda e: e.code if isinstance(e, FetchError) else Code.UNREACHABLE),
    (exceptions.DownloadLengthMismatchError, Code.TOO_LARGE),
    (exceptions.SlowRetrievalError, Code.SLOW),
    (exceptions.DownloadHTTPError, _http),
    (exceptions.DownloadError, Code.UNREACHABLE),
    (exceptions.UnsignedMetadataError, Code.SIGNATURE),
    (exceptions.BadVersionNumberError, Code.ROLLBACK),
    (exceptions.ExpiredMetadataError, Code.EXPIRED),
    (exceptions.LengthOrHashMismatchError, Code.MISMATCH),
    (exceptions.RepositoryError, Code.MALFORMED),
    ((HostError, OSError), _disk),
)
