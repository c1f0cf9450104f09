"""From a base file to the data path's image, in a process of its own.

`python -m vigie.filter.base_builder BASE FD LISTS` writes the image, with its digest, into the file descriptor FD and
prints one JSON line: what the base is, or `{"error": ...}`. An empty BASE gives the image of a base without feeds;
LISTS is the department's own protected and essential names, empty for none.

A process of its own: decompressing and splicing a million indicators takes as much memory again as the daemon has, and
holds the interpreter; both are given back when it ends, and a file that brings it down does not bring the filter down.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import sys
from pathlib import Path

from vigie.errors import ListError, VigieError
from vigie.filter.base import lists
from vigie.filter.base.additions import Additions
from vigie.filter.base.basefile import load_base
from vigie.filter.base.image import plan_image
from vigie.filter.base.model import Base
from vigie.filter.base.names import name_keys
from vigie.filter.ordered_lists import with_ordered


@dataclasses.dataclass(frozen=True, slots=True)
class BaseInfo:
    """What is said of a base. `path` is empty for the one without feeds that a box without a file starts with.

    `problem`: what was wrong with the lists shipped with the box, "" when nothing.
    """

    serial: int
    created: int
    v4: int
    v6: int
    names: int
    feeds: tuple[str, ...]
    path: str
    problem: str = ""


def box_lists(ordered: Path | None = None) -> tuple[Additions, str]:
    """The lists shipped with the box, and those that the department ordered, as additions to any base; and what was
    wrong with them ("" when nothing)."""
    try:
        never, essential = lists.never_block(), lists.essential()
    except (ListError, OSError) as e:
        # The base's own protections and the built-in indicators are better than no filtering at all; status says so.
        return Additions(), str(e)
    own = Additions(
        never_names=never.names,
        never_networks=tuple(map(str, never.prefixes)),
        essential_names={name: e.rank for e in reversed(essential) for name in e.names},
        essential_networks={str(prefix): e.rank for e in reversed(essential) for prefix in e.prefixes},
    )
    try:
        return with_ordered(own, ordered), ""
    except ListError as e:
        return own, str(e)


def build(path: str, fd: int, ordered: str = "") -> BaseInfo:
    """Writes the image of the base at `path` into `fd`. Raises BaseError."""
    if path:
        base = load_base(Path(path), sources=False, texts=False)
    else:
        key, seed = name_keys()
        base = Base(serial=0, created=0, name_key=key, name_seed=seed)
    additions, problem = box_lists(Path(ordered) if ordered else None)
    plan = plan_image(base, additions)
    os.ftruncate(fd, plan.nbytes)
    with mmap.mmap(fd, plan.nbytes) as memory, memoryview(memory) as view:
        plan.write(view, digest=True)
    feeds = tuple(f.feed.name for f in base.feeds)
    return BaseInfo(base.serial, base.created, len(base.v4), len(base.v6), len(base.names), feeds, path, problem)


def main(argv: list[str]) -> int:
    """Prints the info or the error as one JSON line."""
    try:
        print(json.dumps(dataclasses.asdict(build(argv[1], int(argv[2]), argv[3]))))
    except (VigieError, OSError, MemoryError, ValueError) as e:
        print(json.dumps({"error": str(e) or type(e).__name__}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
