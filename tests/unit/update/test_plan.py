"""What to do about the base: pure decisions, checked on random situations."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.base import Delta, Descriptor, File, base_path, delta_path, ring
from vigie.contract.limits import VERSION_JUMP_MAX
from vigie.host.boxconfig import UpdateIntervals
from vigie.update.codes import Code, sentence
from vigie.update.plan import InForce, Memory, Nothing, Take, cheapest, decide
from vigie.update.service import after_failure, until_poll

BOX = "vg-aaaaaaaaaaaaaaaa"


def file(version: int, length: int = 1000) -> File:
    return File(version, base_path(version), f"{version:064x}", length)


def edge(old: int, new: int, length: int = 10) -> Delta:
    return Delta(old, new, delta_path(old, new), "0" * 64, length)


def published(version: int, share: int = 100, *deltas: Delta, **more: File | None) -> Descriptor:
    return Descriptor(file(version), share, 0, more.get("previous"), more.get("candidate"), deltas)


def running(version: int, content: str = "c", *, kept: bool = True, candidate: bool = False) -> InForce:
    return InForce(version, content, candidate, kept)


def took(version: int, content: str = "c", newest: int | None = None) -> Memory:
    return Memory(version, f"{version:064x}", content, version if newest is None else newest)


def test_the_base_of_the_image_gives_way_whatever_its_version() -> None:
    for version in (1, 3, 1_790_000_000):
        todo = decide(published(3), BOX, running(version, "image"), Memory(), volunteer=False)
        assert isinstance(todo, Take) and todo.target.version == 3
    assert isinstance(decide(published(3), BOX, None, Memory(), volunteer=False), Take)


def test_what_is_in_force_stays() -> None:
    assert decide(published(3), BOX, running(3), took(3), volunteer=False) == Nothing()
    again = decide(published(3), BOX, running(3, kept=False), took(3), volunteer=False)
    assert again == Take(file(3), (), False)
    assert isinstance(decide(published(3), BOX, running(3, "other"), took(3), volunteer=False), Take)


def test_a_base_on_its_way_to_the_disk_is_not_fetched_again() -> None:
    said = {"version": 3, "content": "c", "candidate": False, "kept": False, "keeping": True}
    assert decide(published(3), BOX, InForce.of(said), took(3), volunteer=False) == Nothing()
    failed = InForce.of({**said, "keeping": False})
    assert isinstance(decide(published(3), BOX, failed, took(3), volunteer=False), Take)


def test_older_is_never_taken() -> None:
    assert decide(published(3), BOX, running(4), took(4), volunteer=False) == Nothing(older=True)
    assert decide(published(3), BOX, running(1, "image"), took(4), volunteer=False) == Nothing(older=True)


def test_versions_do_not_leap() -> None:
    far = 5 + VERSION_JUMP_MAX
    assert decide(published(far), BOX, running(5), took(5), volunteer=False) != Nothing(leap=True)
    assert decide(published(far + 1), BOX, running(5), took(5), volunteer=False) == Nothing(leap=True)
    assert decide(published(2**62), BOX, running(1, "image"), Memory(), volunteer=False) == Nothing(leap=True)
    # Images may be built with bases numbered otherwise, by the time for instance.
    todo = decide(published(1_790_000_001), BOX, running(1_790_000_000, "image"), Memory(), volunteer=False)
    assert isinstance(todo, Take)
    offered = published(5, candidate=file(2**62))
    assert decide(offered, BOX, running(5), took(5), volunteer=True) == Nothing(leap=True)


def test_outside_the_wave() -> None:
    late = next(v for v in range(10, 1000) if ring(BOX, v) >= 5)
    assert decide(published(late, 5), BOX, running(1, "image"), Memory(), volunteer=False) == Nothing()
    todo = decide(published(late, 5, previous=file(9)), BOX, running(1, "image"), Memory(), volunteer=False)
    assert isinstance(todo, Take) and todo.target.version == 9


def test_trials() -> None:
    offered = published(3, candidate=file(4))
    assert decide(offered, BOX, running(3), took(3), volunteer=False) == Nothing()
    assert decide(offered, BOX, running(3), took(3), volunteer=True) == Take(file(4), (), True)
    on_trial, memory = running(4, candidate=True), took(4, newest=3)
    assert decide(offered, BOX, on_trial, memory, volunteer=True) == Nothing()
    assert decide(published(3), BOX, on_trial, memory, volunteer=True) == Take(file(3), (), False)
    todo = decide(published(5, 100, edge(4, 5)), BOX, on_trial, memory, volunteer=True)
    assert todo == Take(file(5), (edge(4, 5),), False)
    # An old trial is not tried after the release that followed it.
    stale = published(5, candidate=file(4))
    assert decide(stale, BOX, running(5), took(5), volunteer=True) == Nothing()


def test_deltas() -> None:
    offer = published(5, 100, edge(3, 4), edge(4, 5), edge(3, 5, 15), edge(1, 5, 999), edge(2, 5, 1000))
    assert cheapest(offer, 3, offer.released) == (edge(3, 5, 15),)
    assert cheapest(replace(offer, deltas=offer.deltas[:2]), 3, offer.released) == (edge(3, 4), edge(4, 5))
    assert cheapest(offer, 1, offer.released) == (edge(1, 5, 999),)
    assert cheapest(offer, 2, offer.released) == ()
    assert cheapest(offer, 9, offer.released) == ()
    todo = decide(offer, BOX, running(3), took(3), volunteer=False, whole=True)
    assert todo == Take(file(5), (), False)


edges = st.lists(
    st.builds(edge, st.integers(1, 6), st.integers(1, 6), st.integers(1, 400)).filter(lambda d: d.old != d.new),
    max_size=12, unique_by=lambda d: (d.old, d.new),
)  # fmt: skip


@given(edges, st.integers(1, 6))
def test_the_cheapest_way_is_the_cheapest(deltas: list[Delta], start: int) -> None:
    target = file(6, 500)
    way = cheapest(published(6, 100, *deltas), start, target)

    def least(at: int, seen: frozenset[int]) -> float:
        if at == 6:
            return 0
        onward = [d for d in deltas if d.old == at and d.new not in seen]
        return min((d.length + least(d.new, seen | {d.new}) for d in onward), default=float("inf"))

    best = least(start, frozenset({start}))
    if not way:
        assert start == 6 or best >= target.length
    else:
        assert sum(d.length for d in way) == best < target.length
        assert way[0].old == start and way[-1].new == 6
        assert all(a.new == b.old for a, b in pairwise(way))


@given(st.integers(1, 50), st.integers(0, 60), st.integers(0, 60), st.booleans(), st.integers(1, 60))
def test_nothing_older_than_the_newest_release_comes_into_force(
    released: int, newest: int, there: int, volunteer: bool, trial: int
) -> None:
    offer = published(released, 100, candidate=file(trial))
    todo = decide(offer, BOX, running(there), took(there, newest=newest), volunteer=volunteer)
    if isinstance(todo, Take):
        assert todo.target.version >= newest
        assert not todo.trial or (volunteer and trial > newest and there == released)


def test_intervals_are_spread_and_bounded() -> None:
    times, rnd = UpdateIntervals(), random.Random(1)
    polls = [until_poll(times, rnd) for _ in range(100)]
    assert 0.9 * times.poll_s <= min(polls) < max(polls) <= 1.1 * times.poll_s
    assert all(after_failure(times, rnd, n) <= min(times.most_s, times.first_s * 2**n) for n in range(1, 60))


@pytest.mark.parametrize("code", list(Code))
def test_each_code_has_a_sentence(code: Code) -> None:
    assert sentence(code.value) != code.value and sentence(code.value).endswith(".")


def test_an_unknown_code_is_shown_as_it_is() -> None:
    assert sentence("something-new") == "something-new"


def test_a_candidate_is_tried_on_top_of_the_release_that_it_adds_to_and_by_no_detour() -> None:
    offered = published(3, 100, edge(3, 4), candidate=file(4))
    for there, memory in ((running(2), took(2)), (running(1, "image"), Memory()), (None, Memory())):
        assert decide(offered, BOX, there, memory, volunteer=True) == Take(file(3), (), False)
    assert decide(offered, BOX, running(3), took(3), volunteer=True) == Take(file(4), (edge(3, 4),), True)
    next_trial = published(3, candidate=file(5))
    assert decide(next_trial, BOX, running(4, candidate=True), took(4, newest=3), volunteer=True) == Take(
        file(3), (), False
    )
    detour = published(3, 100, edge(3, 9), edge(9, 4), candidate=file(4))
    assert decide(detour, BOX, running(3), took(3), volunteer=True) == Take(file(4), (), True)
