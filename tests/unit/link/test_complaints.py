"""Refusals: told once each, and a flood of them is not told."""

from __future__ import annotations

from vigie.link.complaints import PER_HOUR, REMEMBERED_MAX, Complaints


def test_the_same_message_is_told_once() -> None:
    complaints = Complaints()
    assert complaints.worth_telling(b"a", 0.0)
    assert not complaints.worth_telling(b"a", 1.0)
    assert not complaints.worth_telling(b"a", 1e6)
    assert complaints.worth_telling(b"b", 1.0)


def test_a_flood_is_bounded_and_ends() -> None:
    complaints = Complaints()
    told = sum(complaints.worth_telling(b"%d" % i, i / 10) for i in range(2000))
    assert told == PER_HOUR
    assert complaints.worth_telling(b"later", 3700.0)


def test_a_message_may_be_told_again_when_many_others_came() -> None:
    """What is remembered is bounded: the oldest is forgotten."""
    complaints = Complaints()
    for i in range(REMEMBERED_MAX + 1):
        assert complaints.worth_telling(b"%d" % i, i * 1000.0)
    assert complaints.worth_telling(b"0", 1e7)
    assert not complaints.worth_telling(b"2", 2e7)
