"""Which indicator is said: as it stands in the base, and never more of what was asked."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigie.contract.codes import Action, Category, Reason
from vigie.contract.upward import INDICATOR
from vigie.filter.base.additions import TEST_ADDRESS4, TEST_NAME, Additions
from vigie.filter.base.image import build_image
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.model import NOT_LISTED, Base, ClassEntry, Intervals4, Intervals6, Names
from vigie.filter.base.names import name_hash, name_keys
from vigie.filter.listed import listed, listed_name, listed_prefix

CLASSES = [
    NOT_LISTED,
    ClassEntry(action=Action.BLOCK, category=Category.C2),
    ClassEntry(action=Action.OBSERVE, category=Category.SUSPICIOUS),
]


def lookup_of(
    v4: list[tuple[int, int, int]], v6: Sequence[tuple[int, int, int]] = (), names: dict[str, int] | None = None
) -> Lookup:
    key, seed = name_keys()
    found = sorted((name_hash(n, key, seed), c) for n, c in (names or {}).items())
    mask = (1 << 64) - 1
    base = Base(
        serial=5,
        created=0,
        name_key=key,
        name_seed=seed,
        classes=CLASSES,
        v4=Intervals4(
            np.array([r[0] for r in v4], np.uint32),
            np.array([r[1] for r in v4], np.uint32),
            np.array([r[2] for r in v4], np.uint8),
        ),
        v6=Intervals6(
            np.array([r[0] >> 64 for r in v6], np.uint64),
            np.array([r[0] & mask for r in v6], np.uint64),
            np.array([r[1] >> 64 for r in v6], np.uint64),
            np.array([r[1] & mask for r in v6], np.uint64),
            np.array([r[2] for r in v6], np.uint8),
        ),
        names=Names(np.array([h for h, _ in found], np.uint64), np.array([c for _, c in found], np.uint8)),
    )
    lists = Additions(never_names=("impots.example",), never_networks=("203.0.113.8",), essential_names={"a.fr": 2})
    return Lookup(build_image(base, lists, digest=False))


def number(text: str) -> int:
    return int(ipaddress.ip_address(text))


LOOKUP = lookup_of(
    [
        (number("198.51.100.7"), number("198.51.100.7"), 1),
        (number("203.0.113.0"), number("203.0.113.255"), 2),
        (number("203.0.114.0"), number("203.0.114.6"), 1),
    ],
    [(number("2a02::"), number("2a02::ffff"), 1), (number("2a03::5"), number("2a03::5"), 2)],
    {"toxic.example": 1, "bad.toxic.example": 2, "watched.example": 2},
)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("toxic.example", "toxic.example"),
        ("jean-dupont.chez.toxic.example", "toxic.example"),
        ("x.bad.toxic.example", "bad.toxic.example"),
        ("watched.example", "watched.example"),
        ("honest.example", None),
        ("www.impots.example", None),
        ("a.fr", None),  # has a rank, no action
        (f"x.{TEST_NAME}", TEST_NAME),
        ("", None),
        ("\\xff\\x00.example", None),
    ],
)
def test_names(asked: str, said: str | None) -> None:
    assert listed_name(LOOKUP, asked) == said
    assert listed(LOOKUP, Reason.TOXIC_SNI, asked, "198.51.100.7") == said


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("198.51.100.6", None),
        ("203.0.113.1", "203.0.113.0/29"),  # 203.0.113.8 is never blocked: cut out of the listed /24
        ("203.0.113.8", None),
        ("203.0.113.200", "203.0.113.128/25"),
        ("203.0.114.5", "203.0.114.4/31"),
        ("203.0.114.6", "203.0.114.6"),
        ("2a02::1234", "2a02::/112"),
        ("2a03::5", "2a03::5"),
        ("2a03::6", None),
        (TEST_ADDRESS4, TEST_ADDRESS4),
        ("not an address", None),
        ("", None),
    ],
)
def test_addresses(asked: str, said: str | None) -> None:
    assert listed_prefix(LOOKUP, asked) == said
    assert listed(LOOKUP, Reason.TOXIC_ADDRESS, "a.name", asked) == said


@pytest.mark.parametrize("reason", [r for r in Reason if "TOXIC" not in r.name])
def test_other_reasons_have_no_indicator(reason: Reason) -> None:
    assert listed(LOOKUP, reason, "toxic.example", "198.51.100.7") is None


intervals = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40), st.integers(1, 2)), min_size=1, max_size=8)


@pytest.mark.slow
@given(intervals, st.integers(0, 400))
@settings(max_examples=150, deadline=None)
def test_what_is_said_of_an_address_is_all_listed(parts: list[tuple[int, int, int]], asked: int) -> None:
    rows, at, where = [], 0, number("100.0.0.0")
    inside: dict[int, int] = {}
    for gap, length, cls in parts:
        first = at + gap % 7
        rows.append((where + first, where + first + length - 1, cls))
        inside |= dict.fromkeys(range(first, first + length), cls)
        at = first + length
    said = listed_prefix(lookup_of(rows), str(ipaddress.IPv4Address(where + asked)))
    assert (said is not None) == (asked in inside)
    if said is not None:
        assert INDICATOR.fullmatch(said)
        covered = [int(a) - where for a in ipaddress.ip_network(said)]
        assert asked in covered and {inside.get(a) for a in covered} == {inside[asked]}
