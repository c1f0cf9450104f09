"""What is published, as boxes find it in the repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vigie.contract.errors import MessageError
from vigie.contract.firmware import DESCRIPTOR_MAX, FOLDER, FirmwareDescriptor
from vigie_department.errors import DepartmentError
from vigie_department.signer import tufstate
from vigie_department.signer.files import read_bounded
from vigie_department.signer.repository import Repository, sha256
from vigie_ota.errors import ReleaseError


@dataclass(frozen=True, slots=True)
class Shown:
    """A release. problems: what keeps boxes from installing it."""

    path: str
    descriptor: FirmwareDescriptor | None
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        one = self.descriptor
        if one is None:
            return {"path": self.path, "problems": list(self.problems)}
        return {
            "path": self.path,
            "version": str(one.version),
            "boards": {board: {"length": b.length, "manifest": b.manifest} for board, b in one.bundles.items()},
            "floor": str(one.floor),
            "requires": None if one.requires is None else str(one.requires),
            "severity": one.severity.value,
            "earliest": one.earliest,
            "problems": list(self.problems),
        }

    def lines(self) -> list[str]:
        """For people."""
        one = self.descriptor
        if one is None:
            return [self.path, *(f"  PROBLEM: {text}" for text in self.problems)]
        boards = ", ".join(f"{board} ({b.length / 1e6:.0f} MB)" for board, b in one.bundles.items())
        head = f"{one.version}  {one.severity.value}  floor {one.floor}  requires {one.requires or '-'}  {boards}"
        return [head, *(f"  PROBLEM: {text}" for text in self.problems)]


def published(folder: Path) -> list[Shown]:
    """Every release that the metadata in the repository lists, newest first. ReleaseError when there is no metadata."""
    repository = Repository(folder)
    try:
        state = tufstate.load(repository.metadata)
    except DepartmentError as e:
        raise ReleaseError(f"{folder}: no repository that a box could use ({e})") from e
    listed = {path: info for path, info in state.offline_files().items() if path.startswith(f"{FOLDER}/")}
    found = [_look(repository, path, info.sha256) for path, info in listed.items()]
    return sorted(found, key=_newest, reverse=True)


def _newest(one: Shown) -> tuple[int, int, int]:
    version = None if one.descriptor is None else one.descriptor.version
    return (0, 0, 0) if version is None else (version.year, version.month, version.number)


def _look(repository: Repository, path: str, digest: str) -> Shown:
    try:
        data = read_bounded(repository.path_of(path, digest), DESCRIPTOR_MAX)
        descriptor = FirmwareDescriptor.from_bytes(data)
    except (DepartmentError, MessageError) as e:
        return Shown(path, None, (str(e),))
    problems = [] if sha256(data) == digest else ["the descriptor is not the one that was signed"]
    for board, bundle in descriptor.bundles.items():
        file = repository.folder / bundle.path
        if not file.is_file():
            problems.append(f"{board}: {file} is missing: `vigie-ota publish` again puts it back")
        elif file.stat().st_size != bundle.length:
            problems.append(f"{board}: {file} has {file.stat().st_size} bytes, {bundle.length} were signed")
    return Shown(path, descriptor, tuple(problems))
