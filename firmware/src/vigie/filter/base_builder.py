"""From a base file to the data path's image, in a process of its own.

`python -m vigie.filter.base_builder BASE FD LISTS [IMAGE_FD:PAGES]` writes the image, with its digest, into the file
descriptor FD and prints one JSON line: what the base is, or `{"error": ...}`. An empty BASE gives the image of a base
without feeds; LISTS is the department's own protected and essential names, empty for none. With the image in force at
hand the new one is held against it, and the line says what it blocks that the other does not (`limits`).

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
from typing import Any

from vigie.errors import ListError, VigieError
from vigie.filter.base import limits, lists, trial
from vigie.filter.base.additions import Additions
from vigie.filter.base.basefile import open_base
from vigie.filter.base.image import Columns, plan_image
from vigie.filter.base.imageformat import PAGE_BYTES
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.model import FLAG_CANDIDATE, Base, zeros8, zeros64
from vigie.filter.base.names import name_keys
from vigie.filter.ordered_lists import with_ordered


@dataclasses.dataclass(frozen=True, slots=True)
class BaseInfo:
    """What is said of a base. `path` is empty for the one without feeds that a box without a file starts with.

    `problem`: what was wrong with the lists shipped with the box, "" when nothing. content: its content id. blocking,
    cover4, cover6: entries, addresses and networks of /64 that it blocks (`limits.Coverage`).
    """

    serial: int
    created: int
    v4: int
    v6: int
    names: int
    feeds: tuple[str, ...]
    path: str
    problem: str = ""
    content: str = ""
    flags: int = 0
    blocking: int = 0
    cover4: int = 0
    cover6: int = 0

    @property
    def coverage(self) -> limits.Coverage:
        """What it blocks."""
        return limits.Coverage(self.blocking, self.cover4, self.cover6)

    def to_json(self) -> dict[str, Any]:
        """For `base-show` and `status`."""
        return {**dataclasses.asdict(self), "version": self.serial, "candidate": bool(self.flags & FLAG_CANDIDATE)}


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """A base held against the one in force: what it blocks more, what is wrong with its names, and, of a candidate,
    why it is none."""

    growth: limits.Growth
    names: tuple[limits.Refusal, ...]
    trial: tuple[limits.Refusal, ...] = ()

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Judged:
        """From what the process printed. Raises TypeError or KeyError."""
        more = said["growth"]
        growth = limits.Growth(int(more["v4"]), int(more["v6"]), tuple(more["wide4"]), tuple(more["wide6"]))
        names, wrong = (tuple(limits.Refusal(**one) for one in said[what]) for what in ("names", "trial"))
        return cls(growth, names, wrong)


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


def build(path: str, fd: int, ordered: str = "", in_force: str = "") -> dict[str, Any]:
    """Writes the image of the base at `path` into `fd`. The fields of BaseInfo and, with `in_force`, of Judged.

    Raises BaseError.
    """
    content, text = "", None
    if path:
        with open_base(Path(path)) as file:
            base, content = file.read(sources=False, texts=False), file.content()
            text = file.column("names.text") if in_force else None
    else:
        key, seed = name_keys()
        base = Base(serial=0, created=0, name_key=key, name_seed=seed)
    additions, problem = box_lists(Path(ordered) if ordered else None)
    plan = plan_image(base, additions)
    os.ftruncate(fd, plan.nbytes)
    judged: dict[str, Any] = {"names": [], "trial": []}
    with mmap.mmap(fd, plan.nbytes) as memory, memoryview(memory) as view:
        plan.write(view, digest=True)
        if in_force:
            growth, wrong = _held(in_force, view, is_trial=bool(base.flags & FLAG_CANDIDATE))
            judged["growth"] = dataclasses.asdict(growth)
            judged["trial"] = [dataclasses.asdict(refusal) for refusal in wrong]
    if text is not None:
        found = limits.name_refusals(text, base.names.hash, base.name_key, base.name_seed)
        judged["names"] = [dataclasses.asdict(refusal) for refusal in found]
    rows = limits.blocking(limits.base_rows(base), base.classes)
    covered = limits.coverage(rows, limits.blocking_names(base.names.cls, base.classes))
    info = BaseInfo(
        base.serial, base.created, len(base.v4), len(base.v6), len(base.names), tuple(f.feed.name for f in base.feeds),
        path, problem, content, base.flags, covered.entries, covered.v4, covered.v6,
    )  # fmt: skip
    return {"info": dataclasses.asdict(info), **judged}


def _held(in_force: str, view: memoryview, *, is_trial: bool) -> tuple[limits.Growth, list[limits.Refusal]]:
    """What the image in `view` blocks and the one in force does not; that one is the kernel's own array, mapped. Of a
    candidate also why it is none."""
    fd, pages = (int(number) for number in in_force.split(":"))
    with mmap.mmap(fd, pages * PAGE_BYTES, prot=mmap.PROT_READ) as memory, memoryview(memory) as other:
        # not by name: no view of the two may be left when they are closed
        growth = limits.growth(
            *(limits.blocking(image_rows(look), look.classes) for look in (Lookup(other), Lookup(view)))
        )
        return growth, trial.of_images(Lookup(other), Lookup(view)) if is_trial else []


def image_rows(look: Lookup) -> Columns:
    """Columns of an image, without its names. Views of it."""
    return Columns(
        look.start4, look.last4, look.class4, (look.start6_hi, look.start6_lo), (look.last6_hi, look.last6_lo),
        look.class6, zeros64(), zeros8(),
    )  # fmt: skip


def main(argv: list[str]) -> int:
    """Prints what the base is, or the error, as one JSON line."""
    try:
        print(json.dumps(build(argv[1], int(argv[2]), argv[3], argv[4] if len(argv) > 4 else "")))
    except (VigieError, OSError, MemoryError, ValueError) as e:
        print(json.dumps({"error": str(e) or type(e).__name__}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
