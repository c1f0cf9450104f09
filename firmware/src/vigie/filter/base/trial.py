"""What a candidate may change, whoever signed it: it adds indicators that are only observed, and blocks nothing more.

Volunteers load a candidate before anybody else, and one online key is enough to publish it. So the box itself makes
sure that it is one: no place is blocked that was not, none is blocked in another way, and no protected one loses its
protection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from vigie.contract.codes import Action

from .columns import U8, U32, U64, Bools
from .diff import Delta, changes, range_text
from .image import Columns
from .limits import SHOWN, Refusal
from .lookup import Lookup
from .model import ClassEntry

CODE: Final = "limit-trial"
_MOST: Final = 250


def of_images(before: Lookup, after: Lookup) -> list[Refusal]:
    """Why the base of `after` is no trial of the one in force; empty when it is one."""
    if (before.header.name_key, before.header.name_seed) != (after.header.name_key, after.header.name_seed):
        return [Refusal(CODE, "a candidate under another name key than the base in force cannot be compared with it")]
    strict = list(dict.fromkeys(c for look in (before, after) for c in look.classes if _matters(c)))
    if len(strict) > _MOST:
        return [Refusal(CODE, f"{len(strict)} classes that block or protect, at most {_MOST} can be compared")]
    number = {entry: i for i, entry in enumerate(strict, 1)}
    return _said([ClassEntry(), *strict], *changes(_rows(before, number), _rows(after, number)))


def of_delta(change: Delta) -> list[Refusal]:
    """Same, of a delta to a candidate: only what it changes is looked at."""
    return _said(
        change.classes, change.start4, change.last4, change.before4, change.after4, change.start6, change.last6,
        change.before6, change.after6, change.hash, change.before_name, change.after_name,
    )  # fmt: skip


def _matters(entry: ClassEntry) -> bool:
    return entry.never or entry.action is Action.BLOCK


def _rows(look: Lookup, number: dict[ClassEntry, int]) -> Columns:
    """The places of an image that block or are protected; classes by their common number."""
    to = np.zeros(256, np.uint8)
    to[: len(look.classes)] = [number.get(entry, 0) for entry in look.classes]
    class4, class6, names = to[look.class4], to[look.class6], to[look.class_name]
    at4, at6, at = class4 != 0, class6 != 0, names != 0
    return Columns(
        look.start4[at4], look.last4[at4], class4[at4], (look.start6_hi[at6], look.start6_lo[at6]),
        (look.last6_hi[at6], look.last6_lo[at6]), class6[at6], look.hash_name[at], names[at],
    )  # fmt: skip


def _worse(classes: Sequence[ClassEntry], before: U8, after: U8) -> Bools:
    """Which changes make a place blocked, blocked otherwise, or unprotected."""
    pairs = {(int(b), int(a)) for b, a in zip(before.tolist(), after.tolist(), strict=True)}
    bad = {
        (b, a) for b, a in pairs
        if (classes[a].action is Action.BLOCK and classes[a] != classes[b])
        or (classes[b].never and not classes[a].never)
    }  # fmt: skip
    table = np.zeros((256, 256), bool)
    for b, a in bad:
        table[b, a] = True
    worse: Bools = table[before, after]
    return worse


def _said(
    classes: Sequence[ClassEntry], start4: U32, last4: U32, before4: U8, after4: U8, start6: tuple[U64, U64],
    last6: tuple[U64, U64], before6: U8, after6: U8, _hashes: U64, before_name: U8, after_name: U8,
) -> list[Refusal]:  # fmt: skip
    at4 = np.flatnonzero(_worse(classes, before4, after4))
    at6 = np.flatnonzero(_worse(classes, before6, after6))
    names = int(np.count_nonzero(_worse(classes, before_name, after_name)))
    if not len(at4) and not len(at6) and not names:
        return []
    shown = [range_text(int(start4[i]), int(last4[i]), version=4) for i in at4[:SHOWN].tolist()]
    for i in at6[:SHOWN].tolist():
        first, last = (int(hi[i]) << 64 | int(lo[i]) for hi, lo in (start6, last6))
        shown.append(range_text(first, last, version=6))
    where = f" ({', '.join(shown[:SHOWN])})" if shown else ""
    text = f"a candidate only observes, but {len(at4) + len(at6)} places{where} and {names} names would be blocked"
    return [Refusal(CODE, f"{text} that the base in force does not block so, or lose a protection")]
