"""Which version a box installs next: the release itself, or one on the way that it requires. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vigie.contract.firmware import NO_RELEASE, Version


@dataclass(frozen=True, slots=True)
class Release:
    """A published release, as far as a rollout asks. requires: lowest version that may install it."""

    version: Version
    requires: Version = NO_RELEASE


def next_step(running: Version, goal: Version, releases: Iterable[Release]) -> Version | None:
    """The first version on the shortest way from `running` to `goal`; of equal ways, the one through the newest.

    None when there is no way: a release that is needed in between was never published, or the goal was withdrawn.
    """
    known: Mapping[Version, Release] = {one.version: one for one in releases if one.version <= goal}
    if goal not in known or running >= goal:
        return None
    # backwards from the goal, so that every version learns how far it is
    distance = {goal: 0}
    queue = deque([goal])
    while queue:
        reached = queue.popleft()
        for version in known:
            if version not in distance and known[reached].requires <= version < reached:
                distance[version] = distance[reached] + 1
                queue.append(version)
    open_now = [v for v in distance if running < v and known[v].requires <= running]
    return max(open_now, key=lambda v: (-distance[v], v), default=None)
