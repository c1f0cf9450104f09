"""Feeds in, a base out, and an account of every decision on the way.

`compile_entries` is pure; `compile_feeds` reads the files and applies the protections before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from vigie.errors import BaseError

from .columns import Entries, Feed
from .feeds import FeedRefused, FeedReport, read_feed
from .intervals import flatten4, flatten6, numbers_for
from .merge import merge_names
from .model import Base, FeedCount
from .protect import Protected, Protection, protect
from .readers.options import Options

#: Protections quoted one by one in a report for people; the JSON has them all.
SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Input:
    """A feed ready to be compiled, with what its reading and its protection took out."""

    feed: Feed
    entries: Entries
    bad_lines: int = 0
    protected: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A feed that is not in the base, and why."""

    feed: str
    path: Path
    reason: str


@dataclass(slots=True)
class CompileReport:
    """What became of the feeds. `below_parent`: names left out because a listed parent of the same class covers them;
    `too_wide`: port-scoped ranges left out; `coverage4`: IPv4 addresses under a class."""

    feeds: list[FeedReport] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    protected: list[Protected] = field(default_factory=list)
    addresses4: int = 0
    addresses6: int = 0
    names: int = 0
    below_parent: int = 0
    too_wide: dict[str, int] = field(default_factory=dict)
    coverage4: int = 0

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "v4": self.addresses4, "v6": self.addresses6, "names": self.names, "below_parent": self.below_parent,
            "coverage4": self.coverage4, "too_wide": self.too_wide,
            "feeds": [report.to_json() for report in self.feeds],
            "refused": [{"feed": r.feed, "file": str(r.path), "reason": r.reason} for r in self.refused],
            "protected": [
                {"feed": p.feed, "line": p.line, "indicator": p.indicator, "by": p.by, "why": p.why, "cut": p.cut}
                for p in self.protected
            ],
        }  # fmt: skip

    def protected_by(self) -> Counter[str]:
        """How many entries each protection took out."""
        return Counter(p.by for p in self.protected)


def compile_entries(inputs: Sequence[Input], *, serial: int, created: int) -> tuple[Base, CompileReport]:
    """The base of these feeds. created: Unix time. Raises BaseError when names collide beyond repair, ValueError for
    columns that contradict themselves."""
    for one in inputs:
        one.entries.check()
    feeds = [one.feed for one in inputs]
    entries = [one.entries for one in inputs]
    numbers = numbers_for(feeds)
    flat4, flat6 = flatten4(entries, numbers), flatten6(entries, numbers)
    merged = merge_names([e.names for e in entries], numbers)
    counts = tuple(
        FeedCount(one.feed, len(e.v4_first), len(e.v6_first), len(e.names), one.bad_lines, one.protected)
        for one, e in zip(inputs, entries, strict=True)
    )
    base = Base(
        serial, created, merged.key, merged.seed, counts, numbers.table.classes, numbers.sources,
        flat4.intervals, flat4.ports, flat6.intervals, flat6.ports, merged.names, merged.texts,
    )  # fmt: skip
    too_wide = {feed.name: a + b for feed, a, b in zip(feeds, flat4.too_wide, flat6.too_wide, strict=True) if a + b}
    v4 = base.v4
    return base, CompileReport(
        addresses4=len(v4), addresses6=len(base.v6), names=len(base.names), below_parent=merged.below_parent,
        too_wide=too_wide, coverage4=int((v4.last.astype(np.int64) - v4.start + 1).sum()),
    )  # fmt: skip


def compile_feeds(
    sources: Iterable[tuple[Feed, Path, Options]], protection: Protection | None, *, serial: int, created: int
) -> tuple[Base, CompileReport]:
    """Read, protect and compile. A feed that is refused is left out and named in the report.

    Raises BaseError when no feed is left, FeedError when a file cannot be read.
    """
    inputs: list[Input] = []
    reports: list[FeedReport] = []
    refused: list[Refusal] = []
    taken_out: list[Protected] = []
    for feed, path, options in sources:
        try:
            entries, read = read_feed(feed, path, options)
        except FeedRefused as error:
            refused.append(Refusal(feed.name, path, error.reason))
            continue
        spared: list[Protected] = []
        if protection is not None:
            entries, spared = protect(feed, entries, protection)
        reports.append(read)
        taken_out += spared
        inputs.append(Input(feed, entries, read.tally.bad, len(spared)))
    if not inputs:
        reasons = "".join(f"\n  {r.path}: {r.reason}" for r in refused)
        raise BaseError(f"no feed can be used, no base was made{reasons}")
    base, report = compile_entries(inputs, serial=serial, created=created)
    report.feeds, report.refused, report.protected = reports, refused, taken_out
    return base, report
