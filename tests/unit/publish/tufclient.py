"""python-tuf's own client, reading a repository folder as a box would read it over HTTPS."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

BASE = "https://maj.test/tuf/"


class FolderFetcher(FetcherInterface):
    """Serves a folder; `asked` is what was fetched, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        assert url.startswith(BASE), url
        name = url.removeprefix(BASE)
        self.asked.append(name)
        try:
            yield (self.folder / name).read_bytes()
        except FileNotFoundError as e:
            raise DownloadHTTPError(f"{name}: 404", 404) from e


def client(repository: Path, folder: Path, root: bytes, now: float) -> Updater:
    """An updated client whose clock says `now`; `folder` keeps what it trusts from one call to the next."""
    for name in ("metadata", "targets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    known = folder / "metadata" / "root.json"
    updater = Updater(
        str(folder / "metadata"),
        BASE + "metadata",
        str(folder / "targets"),
        BASE + "targets",
        FolderFetcher(repository),
        bootstrap=None if known.exists() else root,
    )
    # the library has no parameter for the time
    updater._trusted_set.reference_time = datetime.fromtimestamp(now, UTC)
    updater.refresh()
    return updater


def fetched(updater: Updater, path: str) -> bytes:
    """A target's verified content."""
    info = updater.get_targetinfo(path)
    assert info is not None, f"{path} is not listed"
    return Path(updater.download_target(info)).read_bytes()
