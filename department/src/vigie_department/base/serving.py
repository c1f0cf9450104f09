"""From a decision to what boxes fetch: target files, then the signer, then metadata; kept fresh and small."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vigie.contract.base import CURRENT, DESCRIPTOR_MAX, Delta, Descriptor
from vigie_department.base.build import Workshop
from vigie_department.base.release import Built, Release, describe
from vigie_department.errors import PublishError
from vigie_department.signer import tufstate
from vigie_department.signer.client import Signer
from vigie_department.signer.files import read_bounded, write_atomically
from vigie_department.signer.metadata import TargetInfo
from vigie_department.signer.repository import Repository
from vigie_department.signer.tufstate import TufState

log = logging.getLogger("vigie.publish")


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What a refresh found. missing: targets that are listed and not there."""

    expires: Mapping[str, datetime]
    missing: tuple[str, ...]
    removed: int
    listed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Serving:
    """The repository, the signer and the workshop together."""

    repository: Repository
    signer: Signer
    workshop: Workshop

    def tuf(self) -> TufState:
        """What was signed last."""
        return tufstate.from_files(self.signer.tuf_current())

    def publish(
        self,
        released: Release,
        share: int,
        *,
        previous: Release | None,
        candidate: Built | None,
        deltas: Iterable[Delta],
        now: float,
        approval: str = "",
        revert: int | None = None,
    ) -> None:
        """Makes this what boxes find. Every step may be repeated; clients see nothing before the last one."""
        tuf = self.tuf()
        served = self._descriptor(tuf)
        known = {(d.old, d.new): d for d in (*(served.deltas if served is not None else ()), *deltas)}
        descriptor = describe(released, share, previous, candidate, known.values(), now)
        data = descriptor.to_bytes()
        listed = self._target_files(descriptor)
        listed[CURRENT] = self.repository.add(CURRENT, data)
        gone = [path for path in tuf.base_files() if path.startswith("base/") and path not in listed]
        files = self.signer.tuf_publish(
            listed, released.operator, remove=gone, descriptor=data, approval=approval, revert=revert
        )
        self.repository.publish(files)

    def _target_files(self, descriptor: Descriptor) -> dict[str, TargetInfo]:
        """Every file that the descriptor names, copied into the repository where it is not yet."""
        wanted: dict[str, tuple[Path, TargetInfo]] = {}
        for file in (descriptor.released, descriptor.previous, descriptor.candidate):
            if file is not None:
                wanted[file.path] = (self.workshop.base(file.version), TargetInfo(file.length, file.sha256))
        for delta in descriptor.deltas:
            source = self.workshop.delta_file(delta.old, delta.new)
            wanted[delta.path] = (source, TargetInfo(delta.length, delta.sha256))
        for path in self.repository.missing({path: info for path, (_source, info) in wanted.items()}):
            source, info = wanted[path]
            if self.repository.add_file(path, source).sha256 != info.sha256:
                raise PublishError(f"{source}: has changed since it was made; publish a new version")
        return {path: info for path, (_source, info) in wanted.items()}

    def _descriptor(self, tuf: TufState) -> Descriptor | None:
        info = tuf.base_files().get(CURRENT)
        if info is None:
            return None
        return Descriptor.from_bytes(read_bounded(self.repository.path_of(CURRENT, info.sha256), DESCRIPTOR_MAX))

    def refresh(self, memory: Path, now: float, age_s: float) -> Upkeep:
        """Fresh timestamp, whatever else is due, and what the repository missed after a crash; then the old files go.

        memory: a file that remembers since when each file has been without use.
        """
        files = self.signer.tuf_refresh()
        self.repository.publish(files)
        state = tufstate.from_files(files)
        listed = {**state.base_files(), **state.offline_files()}
        missing = tuple(self.repository.missing(listed))
        for path in missing:
            log.error("%s is listed but its file is not in the repository: publish again", path)
        before = _read(memory)
        after = self.repository.collect(files, listed, before, now, age_s)
        write_atomically(memory, json.dumps(after).encode())
        return Upkeep(state.expires(), missing, len(before.keys() - after.keys()), frozenset(listed))


def _read(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_bytes())
        return {str(name): float(since) for name, since in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # files then live longer, which harms nobody
