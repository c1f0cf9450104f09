"""Feeds in, a base out, and an account of every decision on the way.

`compile_entries` is pure; `compile_feeds` reads the files and applies the protections before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from vigie.contract.codes import Action
from vigie.contract.limits import BASE_PREFIX4_MIN, BASE_PREFIX6_MIN
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
    `too_wide`: port-scoped ranges left out; `too_short`: prefixes left out that no box takes; `coverage4`: IPv4
    addresses under a class."""

    feeds: list[FeedReport] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    protected: list[Protected] = field(default_factory=list)
    addresses4: int = 0
    addresses6: int = 0
    names: int = 0
    below_parent: int = 0
    too_wide: dict[str, int] = field(default_factory=dict)
    too_short: dict[str, int] = field(default_factory=dict)
    coverage4: int = 0

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "v4": self.addresses4, "v6": self.addresses6, "names": self.names, "below_parent": self.below_parent,
            "coverage4": self.coverage4, "too_wide": self.too_wide,
            "too_short": self.too_short,
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


def narrow(entries: Entries) -> tuple[Entries, int]:
    """Entries without the ranges larger than a box takes, and how many these were."""
    v4 = entries.v4_last - entries.v4_first < np.uint32(1 << (32 - BASE_PREFIX4_MIN))
    v6 = entries.v6_last[:, 0] - entries.v6_first[:, 0] < np.uint64(1 << (64 - BASE_PREFIX6_MIN))
    kept = replace(
        entries, v4_first=entries.v4_first[v4], v4_last=entries.v4_last[v4], v4_port=entries.v4_port[v4],
        v4_line=entries.v4_line[v4], v6_first=entries.v6_first[v6], v6_last=entries.v6_last[v6],
        v6_port=entries.v6_port[v6], v6_line=entries.v6_line[v6],
    )  # fmt: skip
    return kept, int(np.count_nonzero(~v4)) + int(np.count_nonzero(~v6))


def compile_feeds(
    sources: Iterable[tuple[Feed, Path, Options]],
    protection: Protection | None,
    *,
    serial: int,
    created: int,
    for_boxes: bool = False,
) -> tuple[Base, CompileReport]:
    """Read, protect and compile. A feed that is refused is left out and named in the report.

    for_boxes: leave out what a box refuses without an override (prefixes shorter than its limits). Raises BaseError
    when no feed is left, FeedError when a file cannot be read.
    """
    inputs: list[Input] = []
    reports: list[FeedReport] = []
    refused: list[Refusal] = []
    taken_out: list[Protected] = []
    too_short: dict[str, int] = {}
    for feed, path, options in sources:
        try:
            entries, read = read_feed(feed, path, options)
        except FeedRefused as error:
            refused.append(Refusal(feed.name, path, error.reason))
            continue
        spared: list[Protected] = []
        if protection is not None:
            entries, spared = protect(feed, entries, protection)
        if for_boxes and feed.action is Action.BLOCK:
            entries, left = narrow(entries)
            too_short |= {feed.name: left} if left else {}
        reports.append(read)
        taken_out += spared
        inputs.append(Input(feed, entries, read.tally.bad, len(spared)))
    if not inputs:
        reasons = "".join(f"\n  {r.path}: {r.reason}" for r in refused)
        raise BaseError(f"no feed can be used, no base was made{reasons}")
    base, report = compile_entries(inputs, serial=serial, created=created)
    report.feeds, report.refused, report.protected = reports, refused, taken_out
    report.too_short = too_short
    return base, report
