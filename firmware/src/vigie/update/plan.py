"""What to do about the base, decided from what is published and what is in force. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vigie.contract.base import Delta, Descriptor, File
from vigie.contract.limits import VERSION_JUMP_MAX


@dataclass(frozen=True, slots=True)
class InForce:
    """The base that the filter runs. kept: its file is on the disk too, or on its way there."""

    version: int
    content: str
    candidate: bool
    kept: bool

    @classmethod
    def of(cls, said: dict[str, Any]) -> InForce:
        """From the filter's `base-show`. Raises KeyError, TypeError or ValueError."""
        kept = bool(said["kept"]) or said.get("keeping") is True
        return cls(int(said["version"]), str(said["content"]), bool(said["candidate"]), kept)


@dataclass(frozen=True, slots=True)
class Memory:
    """What this updater put into force last, and the newest release that it ever did; zeros and "" before the first.

    version, sha256: of the published file; content: of the base as the filter named it then.
    """

    version: int = 0
    sha256: str = ""
    content: str = ""
    newest: int = 0


@dataclass(frozen=True, slots=True)
class Nothing:
    """What is in force stays. older: because what is published is; leap: because its version is far above any seen."""

    older: bool = False
    leap: bool = False


@dataclass(frozen=True, slots=True)
class Take:
    """Bring `target` into force: by the deltas in this order when there are some, else (or when they fail) by the file.

    trial: it is a candidate.
    """

    target: File
    deltas: tuple[Delta, ...]
    trial: bool


def decide(
    published: Descriptor, box: str, in_force: InForce | None, memory: Memory, *, volunteer: bool, whole: bool = False
) -> Nothing | Take:
    """whole: no deltas (they failed, or an override is for the file).

    A release older than the newest one ever taken is never taken again, whatever is signed: going back is a new
    version. A candidate does not count as one, so a trial that was broken off gives way to the release before it.
    A candidate is what a release adds to the one before, so it is taken only on top of that one: the filter makes sure
    that it blocks nothing more.
    Versions do not leap: a stolen online key must not use them all up.
    """
    target, trial = published.wanted(box), False
    offered = published.candidate
    if volunteer and offered is not None and offered.version > memory.newest and in_force is not None:
        ready = target is not None and _same(target, in_force, memory)
        if ready or _same(offered, in_force, memory):
            target, trial = offered, True
    if target is None:
        return Nothing()
    if not trial and target.version < memory.newest:
        return Nothing(older=True)
    if target.version > max(memory.newest, in_force.version if in_force is not None else 0) + VERSION_JUMP_MAX:
        return Nothing(leap=True)
    if in_force is not None and _same(target, in_force, memory):
        return Nothing() if in_force.kept else Take(target, (), trial)
    chain = () if whole or in_force is None else cheapest(published, in_force.version, target)
    # by way of another base, a candidate could bring what that one blocks
    return Take(target, chain if not trial or len(chain) == 1 else (), trial)


def _same(target: File, in_force: InForce, memory: Memory) -> bool:
    """Whether the target is what is in force. The version alone does not say: the base that the image was built with
    has versions of its own."""
    return (
        (target.version, target.sha256) == (memory.version, memory.sha256)
        and (in_force.version, in_force.content) == (memory.version, memory.content)
    )  # fmt: skip


def cheapest(published: Descriptor, start: int, target: File) -> tuple[Delta, ...]:
    """The deltas that lead from a version to the target with the fewest bytes; none when the file has fewer."""
    best: dict[int, tuple[int, tuple[Delta, ...]]] = {start: (0, ())}
    for _ in published.deltas:  # Bellman-Ford: at most one round per edge, and there are at most 64
        moved = False
        for edge in published.deltas:
            if edge.old not in best:
                continue
            cost, way = best[edge.old]
            if edge.new not in best or cost + edge.length < best[edge.new][0]:
                best[edge.new] = (cost + edge.length, (*way, edge))
                moved = True
        if not moved:
            break
    cost, way = best.get(target.version, (0, ()))
    return way if way and cost < target.length else ()
