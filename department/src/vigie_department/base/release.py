"""A release and its way through the waves. Pure.

    prepared ──► candidate ──► wave (5 %) ──► all ──► superseded
        │            │             │           │
        └────────────┴─► waiting ◄─┴──► all    └──► reverted
                     └─► stopped ◄─┘ ──► reverted, or on by an operator's word

`waiting`: an emergency that wants its two operators. A base goes down this list; it never comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from vigie.contract.base import Delta, Descriptor, File, base_path
from vigie_department.errors import StateError

WAVE_SHARE: Final = 5
ALL_SHARE: Final = 100


class Stage(StrEnum):
    """Where a release is."""

    PREPARED = "prepared"
    WAITING = "waiting"
    CANDIDATE = "candidate"
    WAVE = "wave"
    ALL = "all"
    SUPERSEDED = "superseded"
    STOPPED = "stopped"
    REVERTED = "reverted"


NEXT: Final[Mapping[Stage, frozenset[Stage]]] = {
    Stage.PREPARED: frozenset({Stage.CANDIDATE, Stage.WAVE, Stage.ALL, Stage.WAITING, Stage.SUPERSEDED}),
    Stage.WAITING: frozenset({Stage.ALL, Stage.STOPPED, Stage.SUPERSEDED}),
    Stage.CANDIDATE: frozenset({Stage.WAVE, Stage.ALL, Stage.STOPPED, Stage.WAITING, Stage.SUPERSEDED}),
    Stage.WAVE: frozenset({Stage.ALL, Stage.STOPPED, Stage.WAITING, Stage.SUPERSEDED, Stage.REVERTED}),
    Stage.STOPPED: frozenset({Stage.WAVE, Stage.ALL, Stage.WAITING, Stage.SUPERSEDED, Stage.REVERTED}),
    Stage.ALL: frozenset({Stage.SUPERSEDED, Stage.REVERTED}),
    Stage.SUPERSEDED: frozenset(),
    Stage.REVERTED: frozenset(),
}
#: Stages that wait for something: at most one release is in one of them.
ACTIVE: Final = frozenset({Stage.CANDIDATE, Stage.WAVE, Stage.WAITING, Stage.STOPPED})


@dataclass(frozen=True, slots=True)
class Built:
    """A base file that was made."""

    version: int
    sha256: str
    length: int

    @property
    def file(self) -> File:
        """As the descriptor tells it."""
        return File(self.version, base_path(self.version), self.sha256, self.length)


@dataclass(frozen=True, slots=True)
class Release:
    """One version. Times are Unix seconds.

    candidate: what volunteers observe before, None when there is nothing to compare with. previous: the version that
    everybody had before. reverts: the version that this one takes back. report: what the compiler, the comparison and
    each wave showed.
    """

    base: Built
    stage: Stage
    stage_since: float
    created: float
    operator: str
    candidate: Built | None = None
    previous: int | None = None
    reverts: int | None = None
    emergency: bool = False
    approval: str = ""
    note: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """Of the base that it releases."""
        return self.base.version

    @property
    def share(self) -> int:
        """Per cent of the boxes that were told to take it."""
        return int(self.report.get("share", 0))

    def moved(self, stage: Stage, now: float, note: str = "", **report: Any) -> Release:
        """At another stage. StateError when it cannot go there."""
        if stage not in NEXT[self.stage]:
            raise StateError(f"base {self.version} is {self.stage.value}: it cannot become {stage.value}")
        shares = {Stage.WAVE: WAVE_SHARE, Stage.ALL: ALL_SHARE}
        share = max(self.share, shares.get(stage, 0))
        return replace(
            self, stage=stage, stage_since=now, note=note or self.note, report={**self.report, "share": share, **report}
        )


def current(releases: Iterable[Release]) -> Release | None:
    """What all boxes have."""
    return max((r for r in releases if r.stage is Stage.ALL), key=lambda r: r.version, default=None)


def active(releases: Iterable[Release]) -> Release | None:
    """What is on its way."""
    return max((r for r in releases if r.stage in ACTIVE), key=lambda r: r.version, default=None)


def describe(
    released: Release,
    share: int,
    previous: Release | None,
    candidate: Built | None,
    deltas: Iterable[Delta],
    now: float,
) -> Descriptor:
    """`base/current.json` for this state. Deltas that nobody can use are left out."""
    wanted = {released.version}
    wanted |= {previous.version} if previous is not None and share < ALL_SHARE else set()
    wanted |= {candidate.version} if candidate is not None else set()
    kept = tuple(sorted((d for d in deltas if d.new in wanted), key=lambda d: (d.new, d.old)))
    before = previous.base.file if previous is not None else None
    return Descriptor(
        released.base.file, share, int(now), before, candidate.file if candidate is not None else None, kept
    )
