"""Names of many feeds made one sorted table: duplicates joined, those below an equal parent left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vigie.errors import BaseError

from .columns import I64, U8, U16, U64, Bools
from .intervals import Numbers, distinct_rows
from .model import Names
from .names import PackedNames, hash_names, hash_suffixes, name_keys, pack

_ATTEMPTS: Final = 4
#: Bits of the hash that a first, cheap test of membership uses: 16 MB, wrong for one name in sixteen at a million.
_FILTER_BITS: Final = 24


@dataclass(slots=True)
class Merged:
    """The table, the names themselves (sorted from their last label), the hash keys, and what was left out."""

    names: Names
    texts: list[str]
    key: int
    seed: int
    below_parent: int


def merge_names(names: Sequence[Sequence[str]], numbers: Numbers) -> Merged:
    """names[i] are those of feed i of `numbers`. Raises BaseError when the hash cannot tell names apart (it is keyed
    again a few times first; with sane input that is never needed)."""
    texts = [name for feed in names for name in feed]
    layer = np.repeat(2 * np.arange(len(names)), [len(feed) for feed in names])
    packed = pack(texts)
    for attempt in range(_ATTEMPTS):
        key, seed = name_keys(attempt)
        hashes = hash_names(packed, key, seed)
        order = np.argsort(hashes, kind="stable")
        sorted_hash = hashes[order]
        new = np.ones(len(order), bool)
        new[1:] = sorted_hash[1:] != sorted_hash[:-1]
        if not _collide(texts, order, new):
            break
    else:
        raise BaseError(f"names collide under {_ATTEMPTS} hash keys: the feeds are made to do so, look at them")
    begin = np.flatnonzero(new)
    cls, source = _classes(numbers, layer[order], begin)
    chosen = order[begin]
    keep = cls != 0
    chosen, table, cls, source = chosen[keep], sorted_hash[begin][keep], cls[keep], source[keep]
    keep = ~_below_equal_parent(
        PackedNames(packed.blob, packed.start[chosen], packed.end[chosen]), table, cls, key, seed
    )
    kept = sorted((texts[i] for i in chosen[keep].tolist()), key=reversed_name)
    return Merged(Names(table[keep], cls[keep], source[keep]), kept, key, seed, int(np.count_nonzero(~keep)))


def reversed_name(name: str) -> str:
    """Sort key that puts subdomains beside their parent."""
    return name[::-1]


def _collide(texts: Sequence[str], order: I64, new: Bools) -> bool:
    again = np.flatnonzero(~new)
    return any(texts[i] != texts[j] for i, j in zip(order[again].tolist(), order[again - 1].tolist(), strict=True))


def _classes(numbers: Numbers, layer: I64, begin: I64) -> tuple[U8, U16]:
    """(class, source set) of each group of equal names; `layer` in sorted order, `begin` where each group begins."""
    if not len(begin):
        return np.zeros(0, np.uint8), np.zeros(0, np.uint16)
    words: list[U64] = []
    for word in range(0, len(numbers.layers), 64):
        bit = np.zeros(len(numbers.layers), np.uint64)
        here = np.arange(word, min(word + 64, len(numbers.layers)))
        bit[here] = np.uint64(1) << (here - word).astype(np.uint64)
        words.append(np.bitwise_or.reduceat(bit[layer], begin))
    which, sets = distinct_rows(words)
    pairs = np.array([numbers.of(covering) for covering in sets], np.int64).reshape(-1, 2)[which]
    return pairs[:, 0].astype(np.uint8), pairs[:, 1].astype(np.uint16)


def _below_equal_parent(names: PackedNames, table: U64, cls: U8, key: int, seed: int) -> Bools:
    """Which names have, as their nearest listed parent, one of the same class."""
    below = np.zeros(len(names), bool)
    if not len(names):
        return below
    rows, suffix = hash_suffixes(names, key, seed)
    bits = min(_FILTER_BITS, len(table).bit_length() + 4)  # about one wrong "maybe" in 16 to 32
    shift = np.uint64(64 - bits)
    seen = np.zeros(1 << bits, bool)
    seen[table >> shift] = True
    maybe = np.flatnonzero(seen[suffix >> shift])
    rows, suffix = rows[maybe], suffix[maybe]
    at = np.minimum(np.searchsorted(table, suffix), len(table) - 1)
    listed = table[at] == suffix
    rows, at = rows[listed], at[listed]
    # Suffixes of a name come from the shortest to the longest: assigning in order leaves the nearest parent.
    parent = np.full(len(names), -1, np.int64)
    parent[rows] = at
    has = parent >= 0
    below[has] = cls[parent[has]] == cls[has]
    return below
