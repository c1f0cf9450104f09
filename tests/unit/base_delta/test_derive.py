"""Candidates observe what is new and weaken nothing; a renumbered base says the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from tests.unit.base_delta.bases import feed, listed, made, opened, simple
from tests.unit.base_image.strategies import PLACES6, SPACE4, inputs
from tests.unit.base_image.test_compile_model import Inputs, compiled
from tests.unit.base_image.test_diff import ASKED
from vigie.contract.codes import Action
from vigie.filter.base.additions import Additions
from vigie.filter.base.basefile import pack_base, unpack_base
from vigie.filter.base.deltaformat import DeltaError
from vigie.filter.base.derive import candidate, renumbered
from vigie.filter.base.image import build_image
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.model import FLAG_CANDIDATE, NOT_LISTED, ClassEntry
from vigie.filter.base.names import name_keys

PLAIN = Additions(builtins=False)


def tried(before: ClassEntry, after: ClassEntry) -> ClassEntry:
    if before != NOT_LISTED:
        return before
    return replace(after, action=Action.OBSERVE) if after.action in (Action.BLOCK, Action.OBSERVE) else NOT_LISTED


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(inputs(), inputs())
def test_a_candidate_place_by_place(old: Inputs, new: Inputs) -> None:
    released, coming = compiled(old), compiled(new)
    base = candidate(released, coming, 9, 1)
    assert base.flags & FLAG_CANDIDATE and base.serial == 9
    again = unpack_base(pack_base(base))  # sorted, disjoint, every number in its table
    a, b, c = (Lookup(build_image(one, PLAIN)) for one in (released, coming, again))
    for place in range(SPACE4 + 2):
        raw = place.to_bytes(4, "big")
        assert c.classes[c.address(raw)] == tried(a.classes[a.address(raw)], b.classes[b.address(raw)]), place
        for port in (25, 443):
            if c.classes[c.address(raw)].ports_only:
                assert c.port_listed(raw, port) == (a if a.address(raw) else b).port_listed(raw, port)
    hi = np.array([p >> 64 for p in PLACES6], np.uint64)
    lo = np.array([p & (2**64 - 1) for p in PLACES6], np.uint64)
    for x, y, z in zip(a.addresses6(hi, lo), b.addresses6(hi, lo), c.addresses6(hi, lo), strict=True):
        assert c.classes[z] == tried(a.classes[x], b.classes[y])
    for name in ASKED:
        suffix, cls = a.name(name)
        if cls:
            assert c.classes[c.name(name)[1]] == a.classes[cls], f"{name} under {suffix}"
        elif c.name(name)[1]:
            assert c.classes[c.name(name)[1]].action is Action.OBSERVE


def test_sources_of_what_is_tried() -> None:
    released = made(1, (feed("a"), listed(["45.1.1.1"], ["x.example"])))
    new = made(2, (feed("b"), listed(["45.1.1.2", "2a00::1"], ["y.example"])), (feed("a"), listed(["45.1.1.2"])))
    base = unpack_base(pack_base(candidate(released, new, 3, 1)))
    assert [f.feed.name for f in base.feeds] == ["a", "b"]
    assert [base.source_names(s) for s in base.v4.source.tolist()] == [("a",), ("a", "b")]
    assert base.source_names(int(base.v6.source[0])) == ("b",)
    assert base.texts == ["x.example", "y.example"]
    by_text = dict(zip(base.texts, [base.source_names(s) for s in _by_text(base)], strict=True))
    assert by_text == {"x.example": ("a",), "y.example": ("b",)}


def _by_text(base: object) -> list[int]:
    from vigie.filter.base.model import Base
    from vigie.filter.base.names import hash_names, pack

    assert isinstance(base, Base) and base.texts is not None
    hashes = hash_names(pack(base.texts), base.name_key, base.name_seed)
    found: list[int] = base.names.source[np.searchsorted(base.names.hash, hashes)].tolist()
    return found


def test_bases_that_cannot_be_joined() -> None:
    released, new = simple(1, names=["a.example"]), simple(2, names=["b.example"])
    new.name_key, new.name_seed = name_keys(1)
    with pytest.raises(DeltaError, match="keys"):
        candidate(released, new, 3, 1)


def test_renumbered_is_the_same_base() -> None:
    base = simple(4, ["45.1.1.1", "2a00::/48"], ["x.example"])
    base.flags = 1
    data = renumbered(opened(base), 12, 77)
    again = unpack_base(data)
    assert (again.serial, again.created, again.flags) == (12, 77, 1)
    base.serial, base.created = 12, 77
    assert data == pack_base(base)
