"""What a box refuses of a base, whoever signed it."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.base_delta.bases import feed, listed, made, opened, simple
from tests.unit.base_image.strategies import inputs
from tests.unit.base_image.test_compile_model import Inputs, compiled
from vigie.contract.codes import Action
from vigie.errors import BaseError
from vigie.filter.base.basefile import pack_base, unpack_base
from vigie.filter.base.baseformat import CorruptBaseFile
from vigie.filter.base.compile import narrow
from vigie.filter.base.filedelta import make_file_delta
from vigie.filter.base.limits import (
    FEW,
    SLACK4,
    WINDOW_S,
    BaseRefused,
    Coverage,
    Growth,
    Window,
    compare,
    delta_growth,
    name_refusals,
    refusals,
)
from vigie.filter.base.model import Base, ClassEntry


def codes(old: Base, new: Base) -> list[str]:
    return [r.code for r in compare(old, new)[3]]


EMPTY = simple(1)


@pytest.mark.parametrize(
    ("net", "code"),
    [
        ("45.0.0.0/16", ""),
        ("45.0.0.0/15", "limit-prefix4"),
        ("0.0.0.0/0", "limit-prefix4"),
        ("2a00:1::/32", ""),
        ("2a00:2::/31", "limit-prefix6"),
        ("::/0", "limit-prefix6"),
    ],
)
def test_shortest_prefix(net: str, code: str) -> None:
    found = codes(EMPTY, simple(2, [net]))
    assert (code in found) == bool(code)
    if not code:
        assert found == []


def test_a_wide_prefix_in_pieces_is_wide() -> None:
    halves = simple(2, ["45.0.0.0/16", "45.1.0.0/16"])
    assert "limit-prefix4" in codes(EMPTY, halves)
    # What is in force already, by an override of then, stays.
    assert codes(simple(1, ["45.0.0.0/15"]), simple(2, ["45.0.0.0/15", "46.1.2.3"])) == []


def test_observing_is_not_blocking() -> None:
    assert codes(EMPTY, made(2, (feed(action=Action.OBSERVE), listed(["45.0.0.0/12"])))) == []


def slash16(first: int, count: int) -> list[str]:
    """Every other /16, so that none touch."""
    return [f"{20 + i // 128}.{2 * (i % 128)}.0.0/16" for i in range(first, first + count)]


def test_covered_space_grows_by_a_fifth_at_most() -> None:
    old = simple(1, slash16(0, 20))
    assert codes(old, simple(2, slash16(0, 24))) == []
    assert codes(old, simple(2, slash16(0, 25))) == ["limit-cover4"]
    # As much elsewhere instead of what there was is more, too.
    assert codes(old, simple(2, slash16(5, 20))) == ["limit-cover4"]


def test_small_steps_are_held_against_the_day() -> None:
    start = Coverage(10_000, 100 * SLACK4, 0)
    window, now, in_force, steps = Window(0.0, start), 0.0, start, 0
    while True:
        after = Coverage(in_force.entries, int(in_force.v4 * 1.1), 0)
        window = window.at(now, in_force)
        if refusals(in_force, window, after, Growth(after.v4 - in_force.v4, 0, (), ())):
            break
        in_force, now, steps = after, now + 60, steps + 1
    assert steps == 1 and in_force.v4 <= 1.2 * start.v4
    later = window.at(now + WINDOW_S, in_force)
    assert later.coverage == in_force
    assert not refusals(in_force, later, after, Growth(after.v4 - in_force.v4, 0, (), ()))
    assert Window.from_json(later.to_json()) == later


def test_half_of_the_entries_must_stay() -> None:
    window = Window(0.0, Coverage(10_000, 10_000, 0))
    grew = Growth(0, 0, (), ())
    assert not refusals(Coverage(10_000, 10_000, 0), window, Coverage(5000, 5000, 0), grew)
    assert [r.code for r in refusals(window.coverage, window, Coverage(4999, 5000, 0), grew)] == ["limit-entries"]
    # Halving twice in a day is one quarter.
    assert refusals(Coverage(5000, 5000, 0), window, Coverage(2500, 2500, 0), grew)
    few = Coverage(FEW, FEW, 0)
    assert not refusals(few, Window(0.0, few), Coverage(0, 0, 0), grew)


def test_entries_that_no_longer_block_do_not_count() -> None:
    hosts = [f"45.{i // 200}.{i % 200}.7" for i in range(3000)]
    old = simple(1, hosts)
    freed = made(2, (feed(), listed(hosts)), (feed("free", Action.ALLOW), listed(["45.0.0.0/8"])))
    assert codes(old, freed) == ["limit-entries"]


def test_top_level_domains_and_hashes_without_their_names() -> None:
    assert codes(EMPTY, simple(2, names=["com", "evil.example"])) == ["limit-name"]
    free = made(2, (feed("free", Action.ALLOW), listed(names=["fr"])))
    assert codes(EMPTY, free) == ["limit-name"]
    lying = simple(2, names=["com"])
    lying.texts = ["fine.example"]
    assert codes(EMPTY, lying) == ["limit-name"]
    lying.texts = []
    assert codes(EMPTY, lying) == ["limit-name"]
    good = simple(2, names=["evil.example"])
    text = np.frombuffer(b"evil.example", np.uint8)
    assert name_refusals(text, good.names.hash, good.name_key, good.name_seed) == []
    assert name_refusals(text, None, good.name_key, good.name_seed) == []


def brute(base: Base) -> set[int]:
    """Blocked IPv4 addresses, one by one."""
    rows = zip(base.v4.start.tolist(), base.v4.last.tolist(), base.v4.cls.tolist(), strict=True)
    return {a for first, last, c in rows if base.classes[c].action is Action.BLOCK for a in range(first, last + 1)}


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(inputs(), inputs())
def test_growth_of_a_delta_is_that_of_the_bases(old: Inputs, new: Inputs) -> None:
    a, b = compiled(old), compiled(new)
    before, after, more, _ = compare(a, b)
    assert (before.v4, after.v4, more.v4) == (len(brute(a)), len(brute(b)), len(brute(b) - brute(a)))
    grown, change = delta_growth(make_file_delta(opened(a), opened(b)))
    assert grown.v4 == more.v4
    assert (before.entries + change.entries, before.v4 + change.v4) == (after.entries, after.v4)
    # Rows cut anew may touch a /64 twice; never is less said than there is.
    assert grown.v6 >= 0 and (grown.wide4, grown.wide6) == (more.wide4, more.wide6)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_wide_means_an_aligned_prefix(bits: int, address: int) -> None:
    net = ipaddress.ip_network((address, bits), strict=False)
    assert ("limit-prefix4" in codes(EMPTY, simple(2, [str(net)]))) == (bits < 16)


def test_a_base_may_not_define_what_only_boxes_do() -> None:
    for cls in (ClassEntry(flags=4, action=Action.BLOCK), ClassEntry(action=Action.BLOCK, rank=1)):
        base = simple(1, ["45.1.1.1"])
        base.classes = [base.classes[0], cls]
        with pytest.raises(CorruptBaseFile, match="only a box"):
            unpack_base(pack_base(base))


def test_the_error_says_why() -> None:
    refused = refusals(Coverage(0, 0, 0), Window(0.0, Coverage(0, 0, 0)), Coverage(1, 2**32, 0),
                       Growth(2**32, 0, ("0.0.0.0/0",), ()))  # fmt: skip
    error = BaseRefused(7, refused)
    assert isinstance(error, BaseError)
    assert "base 7" in str(error) and "[limit-prefix4]" in str(error) and "[limit-cover4]" in str(error)


def test_compiling_for_boxes_leaves_out_what_they_refuse() -> None:
    kept, left = narrow(listed(["45.0.0.0/15", "46.0.0.0/16", "2a00::/31", "2a01::/32"], ["a.example"]))
    assert left == 2 and len(kept.v4_first) == 1 and len(kept.v6_first) == 1 and kept.names == ["a.example"]
