"""The TUF repository on disk, as nginx serves it: metadata/ and targets/, consistent snapshot names.

Written so that a client, or a process killed at any instant, always finds a whole repository: files whose name holds
their digest or version first, `timestamp.json` last. What nothing refers to any more stays for some days, as a box on
a slow line may be in the middle of the former state.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vigie_department.errors import PublishError
from vigie_department.signer.files import FileError, make_folder, sync_folder, write_atomically
from vigie_department.signer.metadata import TargetInfo

_METADATA: Final = re.compile(r"(?:\d{1,20}\.(?:root|targets|base|snapshot)|timestamp)\.json")
_CHUNK: Final = 1 << 20


def sha256(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()


def served_name(path: str, digest: str) -> str:
    """Where a target file is below targets/: `base/x` -> `base/<sha256>.x`."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{digest}.{name}" if folder else f"{digest}.{name}"


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository. `folder` is what https://maj.D/tuf/ shows."""

    folder: Path

    @property
    def metadata(self) -> Path:
        """Signed by the signer."""
        return self.folder / "metadata"

    @property
    def targets(self) -> Path:
        """Target files."""
        return self.folder / "targets"

    def path_of(self, path: str, digest: str) -> Path:
        """File of a target."""
        return self.targets / served_name(path, digest)

    def add(self, path: str, data: bytes) -> TargetInfo:
        """Puts a small target file in its place; nothing refers to it until `publish`."""
        info = TargetInfo(len(data), sha256(data))
        place = self.path_of(path, info.sha256)
        self._make(place.parent)
        if not place.exists():
            write_atomically(place, data)
        return info

    def add_file(self, path: str, source: Path) -> TargetInfo:
        """Same for a file of any size, copied."""
        self._make(self.targets / path.rpartition("/")[0])
        temporary = self.targets / path.rpartition("/")[0] / f".{source.name}.{os.getpid()}.new"
        digest, length = hashlib.sha256(), 0
        try:
            with source.open("rb") as reader, temporary.open("wb") as writer:
                while chunk := reader.read(_CHUNK):
                    digest.update(chunk)
                    length += len(chunk)
                    writer.write(chunk)
                os.fchmod(writer.fileno(), 0o644)
                writer.flush()
                os.fsync(writer.fileno())
            place = self.path_of(path, digest.hexdigest())
            temporary.rename(place)
            sync_folder(place.parent)
        except OSError as e:
            raise PublishError(f"{self.targets}: {source} cannot be copied there ({e.strerror or e})") from e
        finally:
            temporary.unlink(missing_ok=True)
        return TargetInfo(length, digest.hexdigest())

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Metadata from the signer. timestamp.json goes last: the rest is invisible until then."""
        for name in files:
            if not _METADATA.fullmatch(name):
                raise PublishError(f"{name!r} is not a name of TUF metadata; is that really the signer?")
        self._make(self.metadata)
        for name in sorted(files, key=lambda name: name == "timestamp.json"):
            place = self.metadata / name
            if name == "timestamp.json" or not place.exists() or place.read_bytes() != files[name]:
                write_atomically(place, files[name])

    def give_back(self) -> None:
        """What root wrote in a ceremony belongs to the owner of the repository again."""
        if os.geteuid() != 0:
            return
        owner = self.folder.stat()
        for path in self.folder.rglob("*"):
            if path.stat().st_uid != owner.st_uid:
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def missing(self, listed: Mapping[str, TargetInfo]) -> list[str]:
        """Target paths whose file is not there with its length."""
        gone = []
        for path, info in listed.items():
            place = self.path_of(path, info.sha256)
            if not place.is_file() or place.stat().st_size != info.length:
                gone.append(path)
        return gone

    def collect(
        self,
        keep: Iterable[str],
        listed: Mapping[str, TargetInfo],
        retired: Mapping[str, float],
        now: float,
        age_s: float,
    ) -> dict[str, float]:
        """Removes what was neither metadata named in `keep` nor a listed target for `age_s`.

        retired: when each file was first found without use, as the call before returned it; the new one is returned.
        Every N.root.json stays: boxes that were off for years walk from one to the next.
        """
        wanted = {self.metadata / name for name in keep}
        wanted |= {self.path_of(path, info.sha256) for path, info in listed.items()}
        found: dict[str, float] = {}
        for path in [*self.metadata.glob("*"), *self.targets.rglob("*")]:
            if path in wanted or path.name.endswith(".root.json") or not path.is_file():
                continue
            name = str(path.relative_to(self.folder))
            since = retired.get(name, now)
            if since + age_s <= now:
                path.unlink()
            else:
                found[name] = since
        return found

    def _make(self, folder: Path) -> None:
        try:
            current = self.folder
            make_folder(current, 0o755)
            for part in folder.relative_to(self.folder).parts:
                current /= part
                make_folder(current, 0o755)
        except (FileError, ValueError) as e:
            raise PublishError(str(e)) from e
