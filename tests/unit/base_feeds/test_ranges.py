"""Labelled ranges made disjoint."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vigie.filter.base.ranges import Labelled, Ranges, without

SMALL = st.integers(0, 60)
RANGES = st.lists(
    st.builds(lambda a, n, label: Labelled(a, a + n, label), SMALL, st.integers(0, 20), st.integers(0, 4))
)


def owner(ranges: list[Labelled], point: int) -> int | None:
    return min((r.label for r in ranges if r.first <= point <= r.last), default=None)


@given(RANGES, SMALL, st.integers(0, 30))
def test_same_as_looking_at_every_point(ranges: list[Labelled], first: int, length: int) -> None:
    flat = Ranges.of(ranges)
    last = first + length
    found = {p: part.label for part in flat.overlaps(first, last) for p in range(part.first, part.last + 1)}
    assert found == {p: label for p in range(first, last + 1) if (label := owner(ranges, p)) is not None}
    touched = flat.touches(np.array([first], np.uint32), np.array([last], np.uint32))
    assert bool(touched[0]) == bool(found)
    left = {p for low, high in without(first, last, flat.overlaps(first, last)) for p in range(low, high + 1)}
    assert left == set(range(first, last + 1)) - set(found)


@given(RANGES)
def test_disjoint_and_sorted(ranges: list[Labelled]) -> None:
    flat = Ranges.of(ranges)
    assert all(low <= high for low, high in zip(flat.first, flat.last, strict=True))
    assert all(high < low for high, low in zip(flat.last, flat.first[1:], strict=False))


def test_ends_of_the_address_space() -> None:
    top = 2**32 - 1
    flat = Ranges.of([Labelled(0, 0, 1), Labelled(top, top, 2)])
    assert flat.overlaps(0, top) == [Labelled(0, 0, 1), Labelled(top, top, 2)]
    assert flat.touches(np.array([0, 1, top], np.uint32), np.array([0, 1, top], np.uint32)).tolist() == [
        True,
        False,
        True,
    ]
    assert without(0, top, flat.overlaps(0, top)) == [(1, top - 1)]


def test_empty() -> None:
    flat = Ranges.of([])
    assert flat.overlaps(0, 9) == []
    assert not flat.touches(np.array([1], np.uint32), np.array([2], np.uint32)).any()
