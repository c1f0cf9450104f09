"""Name hashes: the vectorised walk against the scalar one, and the scalar one against the words of layout.h."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.base_image.strategies import names as name_lists
from vigie.contract.codes import Action, Category, Direction
from vigie.errors import BaseError
from vigie.filter import abi
from vigie.filter.base import merge
from vigie.filter.base.columns import Feed
from vigie.filter.base.intervals import numbers_for
from vigie.filter.base.names import hash_names, hash_suffixes, name_hash, name_keys, pack, suffix_hashes

labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=30)
any_names = st.lists(st.lists(labels, min_size=1, max_size=6).map(".".join), max_size=30)
FEED = Feed("f", Category.C2, Direction.OUT, Action.BLOCK, "", True)


@pytest.mark.slow
@settings(deadline=None)
@given(any_names, st.integers(0, 3))
def test_vectorised_equals_scalar(names: list[str], attempt: int) -> None:
    key, seed = name_keys(attempt)
    packed = pack(names)
    assert hash_names(packed, key, seed).tolist() == [name_hash(n, key, seed) for n in names]
    rows, hashes = hash_suffixes(packed, key, seed)
    found: dict[int, list[int]] = {}
    for row, value in zip(rows.tolist(), hashes.tolist(), strict=True):
        found.setdefault(row, []).append(value)
    for i, name in enumerate(names):
        proper = [h for suffix, h in suffix_hashes(name, key, seed) if suffix != name]
        assert found.get(i, []) == proper


@pytest.mark.slow
@given(any_names.filter(bool))
def test_scalar_is_the_hash_of_the_data_path(names: list[str]) -> None:
    key, seed = name_keys()
    for name in names:
        assert name_hash(name, key, seed) == abi.name_hash(name, key, seed)
        assert name_hash(name.upper() + ".", key, seed) == name_hash(name, key, seed)


def test_hash_by_hand() -> None:
    mask = (1 << 64) - 1
    h = 5
    for byte in (ord("b"), 0, ord("a")):
        h = ((h ^ byte) * 7) & mask
    h = ((h ^ h >> 32) * 0x9E3779B97F4A7C15) & mask
    assert name_hash("a.b", 7, 5) == h


def test_keys_are_odd_and_differ() -> None:
    keys = [name_keys(i) for i in range(8)]
    assert all(key & 1 for key, _ in keys)
    assert len(set(keys)) == 8


@settings(deadline=None)
@given(name_lists)
def test_names_below_an_equal_parent_go(names: list[str]) -> None:
    merged = merge.merge_names([names], numbers_for([FEED]))
    listed = set(names)
    wanted = {n for n in listed if not any(n.endswith("." + other) for other in listed)}
    assert set(merged.texts) == wanted
    assert len(merged.texts) == len(merged.names) == len(listed) - merged.below_parent
    assert merged.names.hash.tolist() == sorted(name_hash(n, merged.key, merged.seed) for n in wanted)


def test_a_collision_changes_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    real = hash_names
    first_key, _ = name_keys(0)

    def colliding(packed: merge.PackedNames, key: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        return np.zeros(len(packed), np.uint64) if key == first_key else real(packed, key, seed)

    monkeypatch.setattr(merge, "hash_names", colliding)
    merged = merge.merge_names([["a.fr", "b.fr", "a.fr"]], numbers_for([FEED]))
    assert (merged.key, merged.seed) == name_keys(1)
    assert sorted(merged.texts) == ["a.fr", "b.fr"]
    monkeypatch.setattr(merge, "hash_names", lambda packed, _key, _seed: np.zeros(len(packed), np.uint64))
    with pytest.raises(BaseError, match="collide"):
        merge.merge_names([["a.fr", "b.fr"]], numbers_for([FEED]))
