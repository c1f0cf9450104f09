"""One look for a newer base: what is published, what follows from it, and the base in force afterwards."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from vigie.contract.base import (
    CURRENT,
    DESCRIPTOR_MAX,
    STEERING,
    Descriptor,
    File,
    override_path,
)
from vigie.contract.dsse import ENVELOPE_MAX
from vigie.contract.errors import ContractError
from vigie.contract.trust import FILE_MAX, SteeringKeys
from vigie.enrol import credentials
from vigie.enrol.errors import NotEnrolled
from vigie.errors import DaemonError, UsageError
from vigie.filter import client
from vigie.host.boxconfig import BoxConfig
from vigie.host.files import read_small, write_atomic
from vigie.host.trusted_clock import ClockReader

from .codes import Code, UpdateError
from .plan import InForce, Memory, Nothing, Take, decide
from .repository import Repository
from .store import Status, Store, volunteers

log = logging.getLogger("vigie.update")

#: A whole base of millions of entries on a slow board, behind one that is still being written to the disk.
APPLY_S: Final = 300.0
_LIMIT: Final = re.compile(r"\[(limit-[a-z0-9]+)\]")


class Filter(Protocol):
    """The filter's socket."""

    def call(self, op: str, /, **params: Any) -> dict[str, Any]:
        """The answer to one request. Raises DaemonError or UsageError."""


@dataclass(frozen=True, slots=True)
class FilterSocket:
    """The real one."""

    path: Path

    def call(self, op: str, /, **params: Any) -> dict[str, Any]:
        """The answer to one request."""
        return client.call_within(APPLY_S, self.path, op, **params)


class BaseUpdate:
    """The base part of `vigie update`. `clock` judges expiry; `mono` measures."""

    def __init__(
        self, config: BoxConfig, clock: ClockReader, port: Filter, mono: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._clock = clock
        self._filter = port
        self._mono = mono
        self.store = Store(config.paths.update)

    def look(self) -> Status:
        """One look, whatever comes of it: never raises but for what nobody could write down either (HostError)."""
        before = self.store.status()
        try:
            with self.store.alone():
                after = self._look(before)
        except UpdateError as e:
            log.warning("%s: %s", e.code.value, e)
            after = replace(before, code=e.code.value, detail=str(e), limits=())
        now = self._clock.now()
        after = replace(after, at=now, since=before.since if after.code == before.code and before.since else now)
        self.store.tell(after)
        return after

    def enrolled(self) -> bool:
        """Whether this box has an id, so that it can know which wave it is in. Cheap."""
        try:
            credentials.load(self._config.paths)
        except NotEnrolled:
            return False
        return True

    # ---- the steps ---------------------------------------------------------------------------------------------

    def _look(self, before: Status) -> Status:
        start = self._mono()
        try:
            box = credentials.load(self._config.paths).box_id
        except NotEnrolled as e:
            raise UpdateError(Code.NOT_ENROLLED, str(e)) from e
        with Repository(self._config, self._clock) as repository:
            repository.refresh()
            self._steering(repository)
            data = repository.small(CURRENT, DESCRIPTOR_MAX)
            if data is None:
                return replace(before, code=Code.NOTHING.value, detail="", limits=(), wanted=0)
            try:
                published = Descriptor.from_bytes(data)
            except ContractError as e:
                raise UpdateError(Code.MALFORMED, f"{CURRENT}: {e}") from e
            status = self._act(repository, published, box, before, start)
            if status.code == Code.UPDATED.value and published.candidate is not None and not status.candidate:
                # now that it has the release which the candidate adds to
                more = self._act(repository, published, box, status, start)
                status = more if more.code in (Code.UPDATED.value, Code.REFUSED.value) else status
            repository.clean()
            return replace(status, received=repository.fetcher.received)

    def _act(self, repository: Repository, published: Descriptor, box: str, before: Status, start: float) -> Status:
        in_force, memory = self._in_force(), self.store.memory()
        volunteer = volunteers(self._config.paths.link)
        todo = decide(published, box, in_force, memory, volunteer=volunteer)
        now = replace(
            before, version=in_force.version if in_force else 0, candidate=bool(in_force and in_force.candidate),
            detail="", limits=(),
        )  # fmt: skip
        if isinstance(todo, Nothing):
            wanted = published.wanted(box)
            code = Code.UP_TO_DATE if wanted is not None else Code.NOTHING
            code = Code.OLDER if todo.older else Code.LEAP if todo.leap else code
            return replace(now, code=code.value, wanted=wanted.version if wanted is not None else 0)
        now = replace(now, wanted=todo.target.version)
        try:
            said = self._take(repository, todo)
        except UpdateError as e:
            if e.code is not Code.REFUSED:
                raise
            log.warning("%s", e)
            return replace(now, code=e.code.value, detail=str(e), limits=tuple(_LIMIT.findall(str(e))))
        log.info("base %d in force (%s)", todo.target.version, said["way"])
        newest = memory.newest if todo.trial else max(memory.newest, todo.target.version)
        self.store.remember(Memory(todo.target.version, todo.target.sha256, str(said["content"]), newest))
        return replace(
            now, code=Code.UPDATED.value, version=int(said["version"]), candidate=bool(said["candidate"]),
            updated=self._clock.now(), seconds=round(self._mono() - start, 3), way=str(said["way"]),
        )  # fmt: skip

    def _in_force(self) -> InForce | None:
        try:
            return InForce.of(self._filter.call("base-show"))
        except (DaemonError, UsageError) as e:
            raise UpdateError(Code.FILTER, str(e)) from e
        except (KeyError, TypeError, ValueError) as e:
            raise UpdateError(Code.FILTER, f"base-show: {e!r}") from e

    def _take(self, repository: Repository, todo: Take) -> dict[str, Any]:
        """What the filter says once the target is in force. Raises UpdateError."""
        override = self._override(repository, todo.target)
        if not override:
            codes = self.store.refused(todo.target.sha256, self._clock.now())
            if codes:
                reasons = " ".join(f"[{code}]" for code in codes)
                raise UpdateError(Code.REFUSED, f"base {todo.target.version}: refused before ({reasons}), not tried")
        try:
            if todo.deltas and not override:
                said = self._by_deltas(repository, todo)
                if said is not None:
                    return said
            return self._by_file(repository, todo, override)
        except UpdateError as e:
            if e.code is Code.REFUSED:
                codes = tuple(_LIMIT.findall(str(e))) or ("override",)
                self.store.refuse(todo.target.sha256, codes, self._clock.now())
            raise

    def _by_deltas(self, repository: Repository, todo: Take) -> dict[str, Any] | None:
        """None when a delta does not fit or cannot be had: the whole file will do."""
        said: dict[str, Any] | None = None
        try:
            files = [(edge, self._target(repository, edge.path, edge.sha256, edge.length)) for edge in todo.deltas]
            for edge, path in files:
                kind = {"candidate": todo.trial} if edge is todo.deltas[-1] else {}
                said = self._apply("base-apply-delta", path, edge.new, **kind)
        except UpdateError as e:
            if e.code in (Code.REFUSED, Code.DISK_FULL) or (e.code is Code.FILTER and said is None and _gone(e)):
                raise
            log.warning("by deltas: %s; the whole base is fetched", e)
            return None
        return said

    def _by_file(self, repository: Repository, todo: Take, override: str) -> dict[str, Any]:
        target = todo.target
        path = self._target(repository, target.path, target.sha256, target.length)
        more = {"override": override} if override else {}
        return self._apply("base-apply", path, target.version, candidate=todo.trial, **more)

    def _target(self, repository: Repository, path: str, sha256: str, length: int) -> Path:
        """A target whose descriptor and TUF metadata say the same of it, downloaded."""
        info = repository.find(path)
        if info is None:
            raise UpdateError(Code.MISSING, f"{path}: announced, and signed by nobody")
        if info.hashes.get("sha256") != sha256 or info.length != length:
            raise UpdateError(Code.MALFORMED, f"{path}: {CURRENT} says another digest or length than the metadata")
        return repository.download(path, info)

    def _apply(self, op: str, path: Path, version: int, **more: str | bool) -> dict[str, Any]:
        try:
            return self._filter.call(op, path=str(path.absolute()), expect_version=version, **more)
        except (DaemonError, UsageError) as e:
            code = Code.REFUSED if _LIMIT.search(str(e)) or "[override]" in str(e) else Code.FILTER
            raise UpdateError(code, str(e)) from e

    def _override(self, repository: Repository, target: File) -> str:
        """The envelope that lifts the box's limits for this file, "" when there is none. The filter verifies it."""
        data = repository.small(override_path(target.version), ENVELOPE_MAX)
        return data.decode("utf-8", "replace") if data is not None else ""

    def _steering(self, repository: Repository) -> None:
        """New steering keys, signed offline, for the link."""
        data = repository.small(STEERING, FILE_MAX)
        if data is None:
            return
        path = self._config.paths.update / "steering.json"
        try:
            SteeringKeys.from_bytes(data)
        except ContractError as e:
            log.error("%s: %s", STEERING, e)  # the base must not wait for it
            return
        if read_small(path, FILE_MAX) != data:
            write_atomic(path, data)
            log.warning("new steering keys of the department")


def _gone(error: UpdateError) -> bool:
    """Whether the filter did not answer at all, so that a whole file would fare no better."""
    cause = error.__cause__
    return isinstance(cause, DaemonError) and isinstance(cause.__cause__, OSError)
