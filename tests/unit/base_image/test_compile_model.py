"""Compiled base and image against the rules applied place by place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.base_image.oracle import verdict
from tests.unit.base_image.strategies import PLACES6, SPACE4, Range, inputs
from vigie.contract.codes import Action, Category, Direction
from vigie.filter.base.additions import Additions
from vigie.filter.base.columns import Entries, Feed
from vigie.filter.base.compile import Input, compile_entries
from vigie.filter.base.image import build_image
from vigie.filter.base.imageformat import port6_key, verify_image
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.model import NOT_LISTED, Base, ClassEntry
from vigie.filter.base.names import name_hash

PLAIN = Additions(builtins=False)
Inputs = list[tuple[Feed, Entries, list[Range], list[Range], list[str]]]


def compiled(feeds: Inputs) -> Base:
    base, _ = compile_entries([Input(f[0], f[1]) for f in feeds], serial=7, created=1)
    return base


def text6(value: int) -> bytes:
    return value.to_bytes(16, "big")


def covering(feeds: Inputs, which: int, place: int) -> list[tuple[Feed, int]]:
    return [(f[0], r[2]) for f in feeds for r in f[which] if r[0] <= place <= r[1]]


@pytest.mark.slow
@settings(deadline=None, max_examples=80)
@given(inputs())
def test_ipv4_is_what_the_rules_say(feeds: Inputs) -> None:
    base = compiled(feeds)
    look = Lookup(build_image(base, PLAIN))
    for place in range(SPACE4 + 2):
        cls, ports = verdict(covering(feeds, 2, place))
        number = look.address(place.to_bytes(4, "big"))
        assert look.classes[number] == cls, f"place {place}"
        if cls.ports_only:
            assert {p for p in (25, 443) if look.port_listed(place.to_bytes(4, "big"), p)} == ports
            assert look.ports(f"0.0.0.{place}") == sorted(ports)


@pytest.mark.slow
@settings(deadline=None, max_examples=80)
@given(inputs())
def test_ipv6_is_what_the_rules_say(feeds: Inputs) -> None:
    # A port-scoped IPv6 range counts only when it is a single address.
    single = [(f, e, v4, [r for r in v6 if not r[2] or r[0] == r[1]], n) for f, e, v4, v6, n in feeds]
    look = Lookup(build_image(compiled(feeds), PLAIN))
    for i, place in enumerate(PLACES6):
        cls, ports = verdict(covering(single, 3, i))
        raw = text6(place)
        if raw.startswith(bytes(10) + b"\xff\xff"):
            continue
        hi, lo = np.array([place >> 64], np.uint64), np.array([place & (2**64 - 1)], np.uint64)
        assert look.classes[int(look.addresses6(hi, lo)[0])] == cls, f"place {place:#x}"
        if cls.ports_only:
            keys = {port6_key(place >> 64, place & (2**64 - 1), p): p for p in (25, 443)}
            assert {p for key, p in keys.items() if key in look.ports6.tolist()} == ports


@pytest.mark.slow
@settings(deadline=None, max_examples=80)
@given(inputs(), st.lists(st.sampled_from(["a", "bb", "c-1", "com", "fr"]), min_size=1, max_size=5).map(".".join))
def test_names_are_what_the_rules_say(feeds: Inputs, asked: str) -> None:
    base = compiled(feeds)
    look = Lookup(build_image(base, PLAIN))
    labels = asked.split(".")
    wanted: tuple[str, ClassEntry] = ("", NOT_LISTED)
    never = ""
    for i in range(len(labels) - 1, -1, -1):
        suffix = ".".join(labels[i:])
        cls, _ = verdict([(f[0], 0) for f in feeds for n in f[4] if n == suffix])
        if cls != NOT_LISTED:
            wanted = (suffix, cls)
            never = suffix if cls.never else never
    got, number = look.name(asked)
    # A name below a parent of the same class is left out: the parent then answers with that class.
    expected = ClassEntry(flags=1) if never else wanted[1]
    assert look.classes[number] == expected
    assert asked.endswith(got)
    assert not got or bool(never) or wanted[0].endswith(got)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(inputs())
def test_sources_are_those_that_list_the_place(feeds: Inputs) -> None:
    base = compiled(feeds)
    for start, last, source in zip(base.v4.start, base.v4.last, base.v4.source, strict=True):
        for place in {int(start), int(last)}:
            scoped_in = {f[0].name for f in feeds for r in f[2] if r[0] <= place <= r[1]}
            assert set(base.source_names(int(source))) == scoped_in
    assert base.texts is not None
    hashes = {name_hash(text, base.name_key, base.name_seed): text for text in base.texts}
    for h, source in zip(base.names.hash.tolist(), base.names.source, strict=True):
        listed = {f[0].name for f in feeds if hashes[h] in f[4]}
        assert set(base.source_names(int(source))) == listed


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(inputs())
def test_tables_are_sorted_and_disjoint_and_the_image_verifies(feeds: Inputs) -> None:
    base = compiled(feeds)
    v4 = base.v4
    assert (v4.last >= v4.start).all() and (v4.start[1:] > v4.last[:-1]).all()
    image = build_image(base)
    assert verify_image(image).serial == 7
    assert len(image) % 4096 == 0


def test_port_ranges_too_wide_are_reported() -> None:
    feed = Feed("wide", Category.C2, Direction.OUT, Action.BLOCK, "", True)
    entries = Entries(
        v4_first=np.array([0, 1 << 24], np.uint32), v4_last=np.array([255, (1 << 24) + 256], np.uint32),
        v4_port=np.array([80, 80], np.uint16), v4_line=np.array([1, 2], np.uint32),
    )  # fmt: skip
    base, report = compile_entries([Input(feed, entries)], serial=1, created=1)
    assert len(base.ports4) == 256
    assert report.too_wide == {"wide": 1}
    assert report.coverage4 == 256
