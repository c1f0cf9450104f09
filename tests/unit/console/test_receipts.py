"""The rule of receipts: what counts as received, whatever the broker drops, repeats or disorders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie_department.ingest.receipts import BEYOND_MAX, Mark, Taken


def test_in_order() -> None:
    mark = Mark()
    assert [mark.take(seq, seq - 1) for seq in (1, 2, 3)] == [Taken.NEW] * 3
    assert (mark.upto, mark.beyond) == (3, {})


def test_a_duplicate_is_known() -> None:
    mark = Mark()
    mark.take(1, 0)
    assert mark.take(1, 0) is Taken.DUPLICATE
    assert mark.take(3, 2) is Taken.NEW
    assert mark.take(3, 2) is Taken.DUPLICATE
    assert mark.upto == 1


def test_a_gap_is_filled() -> None:
    mark = Mark()
    for seq, prev in ((1, 0), (3, 2), (4, 3), (9, 8)):
        assert mark.take(seq, prev) is Taken.NEW
    assert mark.upto == 1
    assert mark.take(2, 1) is Taken.NEW
    assert (mark.upto, set(mark.beyond)) == (4, {9})


def test_rows_that_the_box_dropped_are_not_waited_for() -> None:
    mark = Mark()
    mark.take(1, 0)
    assert mark.take(7, 1) is Taken.NEW
    assert mark.upto == 7


def test_lost_receipts_catch_up() -> None:
    """A restored backup knows up to 4; the box has deleted up to 9 since, and its oldest row says so with 0."""
    mark = Mark(upto=4)
    assert mark.take(11, 10) is Taken.NEW
    assert mark.upto == 4
    assert mark.take(10, 0) is Taken.NEW
    assert (mark.upto, mark.beyond) == (11, {})


def test_a_row_known_beyond_a_gap_may_close_it() -> None:
    mark = Mark(upto=4)
    assert mark.take(10, 9) is Taken.NEW
    # sent again, and now the oldest of its outbox
    assert mark.take(10, 0) is Taken.DUPLICATE
    assert mark.upto == 10


def test_what_is_remembered_is_bounded() -> None:
    mark = Mark()
    for seq in range(3, 3 + BEYOND_MAX):
        assert mark.take(seq, seq - 1) is Taken.NEW
    assert mark.take(3 + BEYOND_MAX, 2 + BEYOND_MAX) is Taken.LATER
    assert mark.take(1, 0) is Taken.NEW
    assert mark.take(2, 1) is Taken.NEW
    assert mark.upto == 2 + BEYOND_MAX
    assert mark.take(3 + BEYOND_MAX, 2 + BEYOND_MAX) is Taken.NEW


def test_it_is_stored_whole() -> None:
    mark = Mark()
    for seq, prev in ((1, 0), (5, 4), (3, 2)):
        mark.take(seq, prev)
    assert Mark.load(mark.upto, [tuple(pair) for pair in mark.dump()]) == mark


@pytest.mark.slow
@given(st.data())
def test_every_row_is_stored_once_and_none_is_confirmed_before(data: st.DataObject) -> None:
    """A box with rows 1..n (some dropped before they were ever sent) sends until all are confirmed, over a broker that
    loses and repeats. What is stored is each row once; `upto` never covers a row that is not stored."""
    rows = sorted(data.draw(st.sets(st.integers(1, 30), min_size=1, max_size=15)))
    mark, stored = Mark(), []
    outbox = list(rows)
    for _round in range(200):
        if not outbox:
            break
        sent = [(seq, outbox[i - 1] if i else 0) for i, seq in enumerate(outbox)]
        # the broker drops some, and repeats or disorders others; in the end it lets the oldest through
        kept = data.draw(st.lists(st.sampled_from(sent), max_size=20)) or [sent[0]]
        for seq, prev in kept:
            if mark.take(seq, prev) is Taken.NEW:
                stored.append(seq)
            assert all(row in stored for row in rows if row <= mark.upto), (rows, stored, mark)
        outbox = [seq for seq in outbox if seq > mark.upto]
    else:
        raise AssertionError(f"never drained: {outbox} {mark}")
    assert sorted(stored) == rows
