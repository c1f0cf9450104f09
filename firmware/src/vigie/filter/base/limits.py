"""What a box refuses of a base, whoever signed it: too short prefixes, too much more blocked, too little left.

The online key that signs bases may be in an attacker's hands. So each base is held against the one in force, and
against the one that was in force when the day began, lest many small steps make a large one. `vigie.contract.limits`
has the numbers; an override signed offline lifts them for one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from vigie.contract.codes import Action
from vigie.contract.limits import BASE_ADDED_MAX, BASE_KEPT_MIN, BASE_PREFIX4_MIN, BASE_PREFIX6_MIN
from vigie.errors import BaseError

from .columns import U8, U32, U64, Bools
from .deltaformat import FileDelta, last4, last6, start6
from .diff import changes, range_text
from .image import Columns
from .model import Base, ClassEntry, zeros8, zeros64
from .names import hash_names, pack_text

#: So much more is always allowed: one prefix of the largest size. Else an empty base could never grow.
SLACK4: Final = 1 << (32 - BASE_PREFIX4_MIN)
SLACK6: Final = 1 << (64 - BASE_PREFIX6_MIN)
#: Below so many entries a base is a laboratory's, or a first one: it may shrink.
FEW: Final = 1000
#: How long the reference of `Window` stays.
WINDOW_S: Final = 86_400.0
SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a base blocks. entries: rows that block; v4: addresses; v6: networks of /64, those touched at least once."""

    entries: int
    v4: int
    v6: int


@dataclass(frozen=True, slots=True)
class Growth:
    """What one base blocks that another does not. wide: ranges of it that hold a prefix shorter than allowed."""

    v4: int
    v6: int
    wide4: tuple[str, ...]
    wide6: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a base is not taken: a code and a sentence."""

    code: str
    text: str


class BaseRefused(BaseError):
    """A base goes beyond what this box accepts. The running base is unchanged."""

    def __init__(self, serial: int, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        reasons = "; ".join(f"[{r.code}] {r.text}" for r in refusals)
        super().__init__(f"base {serial} is refused: {reasons}. Publish another one, or an override signed offline")


@dataclass(frozen=True, slots=True)
class Window:
    """What was in force when the window began (Unix time): growth and shrinking are held against it too."""

    since: float
    coverage: Coverage

    def at(self, now: float, in_force: Coverage) -> Window:
        """The window that holds now. A clock that jumped either way begins a new one a day's distance on."""
        return self if abs(now - self.since) < WINDOW_S else Window(now, in_force)

    def to_json(self) -> dict[str, Any]:
        """For the state file."""
        return {"since": self.since, **asdict(self.coverage)}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Window:
        """Inverse of :meth:`to_json`. Raises ValueError, KeyError or TypeError."""
        return cls(float(said["since"]), Coverage(int(said["entries"]), int(said["v4"]), int(said["v6"])))


def blocking(columns: Columns, classes: Sequence[ClassEntry]) -> Columns:
    """The rows of addresses that block, all of class 1; names left out."""
    blocks = np.zeros(256, bool)
    blocks[: len(classes)] = [cls.action is Action.BLOCK for cls in classes]
    at4: Bools = blocks[columns.class4]
    at6: Bools = blocks[columns.class6]
    return Columns(
        columns.start4[at4], columns.last4[at4], np.ones(int(at4.sum()), np.uint8),
        (columns.start6[0][at6], columns.start6[1][at6]), (columns.last6[0][at6], columns.last6[1][at6]),
        np.ones(int(at6.sum()), np.uint8), zeros64(), zeros8(),
    )  # fmt: skip


def blocking_names(cls: U8, classes: Sequence[ClassEntry]) -> int:
    """How many of these classes of names block."""
    counts = np.bincount(cls, minlength=len(classes))
    return sum(int(counts[i]) for i, entry in enumerate(classes) if entry.action is Action.BLOCK)


def coverage(rows: Columns, names: int) -> Coverage:
    """Of blocking rows, and the number of names that block."""
    return Coverage(len(rows.start4) + len(rows.class6) + names, _size4(rows.start4, rows.last4),
                    _size6(rows.start6, rows.last6))  # fmt: skip


def growth(before: Columns, after: Columns) -> Growth:
    """What blocking rows `after` cover and `before` does not. Rows that are in both may be left out of both."""
    start4, last4_, _, after4, start6_, last6_, _, after6, *_ = changes(before, after)
    at4, at6 = after4 == 1, after6 == 1
    s4, l4 = start4[at4], last4_[at4]
    s6, l6 = (start6_[0][at6], start6_[1][at6]), (last6_[0][at6], last6_[1][at6])
    return Growth(_size4(s4, l4), _size6(s6, l6), _wide4(s4, l4), _wide6(s6, l6))


def delta_growth(delta: FileDelta) -> tuple[Growth, Coverage]:
    """Growth by a delta, and how the coverage changes: numbers to add to those of the base that it starts from."""
    classes = [*delta.base.classes, *delta.gone_classes]
    gone, new = (blocking(_rows(delta, kind), classes) for kind in ("gone", "new"))
    columns = delta.columns
    lost = blocking_names(np.concatenate((columns["names.gone.class"], columns["names.changed.before"])), classes)
    came = blocking_names(np.concatenate((columns["names.new.class"], columns["names.changed.class"])), classes)
    a, b = coverage(gone, lost), coverage(new, came)
    return growth(gone, new), Coverage(b.entries - a.entries, b.v4 - a.v4, b.v6 - a.v6)


def _rows(delta: FileDelta, kind: str) -> Columns:
    columns = delta.columns
    return Columns(
        columns[f"v4.{kind}.start"], last4(delta, kind), columns[f"v4.{kind}.class"], start6(delta, kind),
        last6(delta, kind), columns[f"v6.{kind}.class"], zeros64(), zeros8(),
    )  # fmt: skip


def refusals(in_force: Coverage, window: Window, after: Coverage, more: Growth) -> list[Refusal]:
    """Why a base is refused that covers `after`, and `more` than the one in force; empty when it is not."""
    out: list[Refusal] = []
    for version, wide, shortest in ((4, more.wide4, BASE_PREFIX4_MIN), (6, more.wide6, BASE_PREFIX6_MIN)):
        if wide:
            shown = ", ".join(wide[:SHOWN])
            out.append(Refusal(f"limit-prefix{version}", f"blocks more than a /{shortest} at once: {shown}"))
    for version, slack, unit in ((4, SLACK4, "addresses"), (6, SLACK6, "networks of /64")):
        added, now = (more.v4, in_force.v4) if version == 4 else (more.v6, in_force.v6)
        total, then = (after.v4, window.coverage.v4) if version == 4 else (after.v6, window.coverage.v6)
        if added > max(slack, BASE_ADDED_MAX * now):
            text = f"blocks {added} {unit} more than the base in force, which blocks {now}"
            out.append(Refusal(f"limit-cover{version}", text))
        elif total - then > max(slack, BASE_ADDED_MAX * then):
            text = f"blocks {total} {unit}, the base of a day ago {then}"
            out.append(Refusal(f"limit-cover{version}", text))
    most = max(in_force.entries, window.coverage.entries)
    if most > FEW and after.entries < BASE_KEPT_MIN * most:
        out.append(
            Refusal("limit-entries", f"{after.entries} entries that block, the base in force or of today {most}")
        )
    return out


def name_refusals(text: U8, hashes: U64 | None, key: int, seed: int) -> list[Refusal]:
    """Names that no base may list: those of one label (`com`), which stand for millions of sites.

    text: names joined by newlines. hashes: those that the base really uses (sorted), which must be the names' own: the
    data path knows nothing else. None when they were derived from the text.
    """
    if not len(text):
        unnamed = hashes is not None and len(hashes)
        return [Refusal("limit-name", "hashes without their names")] if unnamed else []
    packed = pack_text(text.tobytes())
    dots = np.concatenate((np.zeros(1, np.int64), np.cumsum(packed.blob == 0)))
    single = np.flatnonzero(dots[packed.end] == dots[packed.start])
    out = []
    if len(single):
        shown = [
            packed.blob[packed.start[i] : packed.end[i]].tobytes().decode("ascii", "replace") for i in single[:SHOWN]
        ]
        out.append(Refusal("limit-name", f"lists whole top-level domains: {', '.join(shown)}"))
    if hashes is not None:
        own = np.sort(hash_names(packed, key, seed))
        if len(own) != len(hashes) or bool((own != hashes).any()):
            out.append(Refusal("limit-name", "its names are not those that it blocks"))
    return out


def base_rows(base: Base) -> Columns:
    """Columns of a base as they are, for a comparison with another base."""
    v4, v6 = base.v4, base.v6
    return Columns(
        v4.start, v4.last, v4.cls, (v6.start_hi, v6.start_lo), (v6.last_hi, v6.last_lo), v6.cls, base.names.hash,
        base.names.cls,
    )  # fmt: skip


def compare(old: Base, new: Base) -> tuple[Coverage, Coverage, Growth, list[Refusal]]:
    """Two bases as a box would hold them against each other; the texts of the new one are needed."""
    rows = [blocking(base_rows(base), base.classes) for base in (old, new)]
    before, after = (coverage(r, blocking_names(b.names.cls, b.classes)) for r, b in zip(rows, (old, new), strict=True))
    more = growth(rows[0], rows[1])
    text = np.frombuffer("\n".join(new.texts or ()).encode("ascii"), np.uint8)
    found = refusals(before, Window(0.0, before), after, more)
    return before, after, more, found + name_refusals(text, new.names.hash, new.name_key, new.name_seed)


def _size4(start: U32, last: U32) -> int:
    return int((last.astype(np.int64) - start + 1).sum())


def _size6(start: tuple[U64, U64], last: tuple[U64, U64]) -> int:
    """Networks of /64. In floating point: a sum of huge ranges must not wrap round to something small."""
    return int((last[0] - start[0]).astype(np.float64).sum()) + len(start[0])


def _wide4(start: U32, last: U32) -> tuple[str, ...]:
    """Ranges that hold an aligned prefix shorter than allowed."""
    size = 1 << (33 - BASE_PREFIX4_MIN)
    first = (start.astype(np.int64) + size - 1) // size * size
    at = np.flatnonzero(first + size - 1 <= last)
    return tuple(range_text(int(start[i]), int(last[i]), version=4) for i in at.tolist())


def _wide6(start: tuple[U64, U64], last: tuple[U64, U64]) -> tuple[str, ...]:
    size = 1 << (129 - BASE_PREFIX6_MIN)
    maybe = np.flatnonzero(last[0] - start[0] >= np.uint64((size >> 64) - 1))
    out = []
    for i in maybe.tolist():
        first, final = int(start[0][i]) << 64 | int(start[1][i]), int(last[0][i]) << 64 | int(last[1][i])
        if -(-first // size) * size + size - 1 <= final:
            out.append(range_text(first, final, version=6))
    return tuple(out)
