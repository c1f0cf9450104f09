"""A base of random indicators, as large as the goals name, and the indicators that the benches ask for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vigie.contract.codes import Action, Category, Direction
from vigie.filter.base.additions import Additions
from vigie.filter.base.image import ImagePlan, plan_image
from vigie.filter.base.model import NOT_LISTED, Base, ClassEntry, Intervals4, Intervals6, Names
from vigie.filter.base.names import name_hash, name_keys

V4, V6, NAMES = 1_000_000, 100_000, 1_000_000
NAME = "m{:06d}.exampleweb.fr"
"""20 characters; the numbers below LISTED_NAMES are listed."""
LISTED_NAMES = 1000


@dataclass(frozen=True, slots=True)
class Synthetic:
    """addresses: the listed IPv4 addresses (u32, sorted); plan: the image."""

    addresses: npt.NDArray[np.uint32]
    plan: ImagePlan


def synthetic(seed: int = 1) -> Synthetic:
    """One million IPv4 intervals, a hundred thousand IPv6 ones, one million names; all block both ways."""
    rng = np.random.default_rng(seed)
    key, name_seed = name_keys()
    v4 = np.unique(rng.integers(0x0B000000, 0xDFFFFFFF, V4 + 20_000, dtype=np.uint32))
    # not the addresses that the benches take for innocent: 198.18.0.0/15
    v4 = np.sort(rng.permutation(v4[(v4 >> 17) != 0xC612 >> 1])[:V4])
    hi = np.unique(rng.integers(0, 2**61, V6, dtype=np.uint64) | np.uint64(1 << 61))
    lo = np.zeros(len(hi), np.uint64)
    listed = np.array([name_hash(NAME.format(i), key, name_seed) for i in range(LISTED_NAMES)], np.uint64)
    hashes = np.unique(np.concatenate([rng.integers(0, 2**64, NAMES - LISTED_NAMES, dtype=np.uint64), listed]))
    base = Base(
        serial=1, created=1, name_key=key, name_seed=name_seed,
        classes=[NOT_LISTED, ClassEntry(0, Direction.BOTH, Action.BLOCK, Category.C2)],
        v4=Intervals4(v4, v4.copy(), np.ones(len(v4), np.uint8)),
        v6=Intervals6(hi, lo, hi.copy(), lo + np.uint64(2**64 - 1), np.ones(len(hi), np.uint8)),
        names=Names(hashes, np.ones(len(hashes), np.uint8)),
    )  # fmt: skip
    return Synthetic(v4, plan_image(base, Additions()))
