"""Deltas: applied to the image of one base they give what the image of the other says."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.base_image.strategies import LABELS, PLACES6, SPACE4, inputs
from tests.unit.base_image.test_additions import networks, ranks
from tests.unit.base_image.test_compile_model import Inputs, compiled
from vigie.filter.base.additions import Additions
from vigie.filter.base.basefile import pack_base, unpack_base
from vigie.filter.base.diff import DeltaError, make_delta, patch_image
from vigie.filter.base.image import build_image
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.model import Base
from vigie.filter.base.names import hash_names, name_keys, pack

added = st.builds(
    Additions,
    never_names=st.lists(st.sampled_from(["com", "a.fr", "bb.a.com"]), max_size=2).map(tuple),
    never_networks=networks.map(tuple),
    essential_networks=st.dictionaries(networks.filter(bool).map(lambda n: n[0]), ranks, max_size=2),
    builtins=st.booleans(),
)
ASKED = [".".join(x) for x in ([a, b, c] for a in LABELS for b in LABELS for c in LABELS)]


def says(look: Lookup) -> tuple[list[object], ...]:
    v4 = [look.classes[look.address(i.to_bytes(4, "big"))] for i in range(SPACE4 + 18)]
    hi = np.array([p >> 64 for p in PLACES6], np.uint64)
    lo = np.array([p & (2**64 - 1) for p in PLACES6], np.uint64)
    v6 = [look.classes[c] for c in look.addresses6(hi, lo)]
    test = [look.classes[look.address(a)] for a in ("192.0.2.66", "2001:db8::66")]
    names = [look.classes[look.name(n)[1]] for n in [*ASKED, "use-application-dns.net"]]
    return v4, v6, test, names, look.ports4.tolist(), look.ports6.tolist()


@pytest.mark.slow
@settings(deadline=None, max_examples=80)
@given(inputs(), inputs(), added)
def test_patched_image_is_the_image_of_the_new_base(old: Inputs, new: Inputs, additions: Additions) -> None:
    before, after = compiled(old), compiled(new)
    after.serial = 8
    delta = make_delta(before, after)
    image = build_image(before, additions)
    plan = patch_image(image, delta, additions)
    out = bytearray(plan.nbytes)
    plan.write(out)
    look = Lookup(out)
    assert look.header.serial == 8
    assert says(look) == says(Lookup(build_image(after, additions)))
    counts = delta.counts()
    assert sum(sum(kind.values()) for kind in counts.values()) == len(delta)


@settings(deadline=None, max_examples=40)
@given(inputs())
def test_no_change_gives_an_empty_delta(feeds: Inputs) -> None:
    base = compiled(feeds)
    assert len(make_delta(base, unpack_base(pack_base(base)))) == 0


@settings(deadline=None, max_examples=30)
@given(inputs(), inputs())
def test_bases_under_different_name_keys_compare(old: Inputs, new: Inputs) -> None:
    before, after = compiled(old), compiled(new)
    wanted = make_delta(before, after)
    before.name_key, before.name_seed = name_keys(3)
    assert before.texts is not None
    order_old = {h: c for h, c in zip(before.names.hash.tolist(), before.names.cls.tolist(), strict=True)}
    texts = before.texts
    original = hash_names(pack(texts), *name_keys(0))
    hashes = hash_names(pack(texts), *name_keys(3))
    order = np.argsort(hashes)
    before.names.hash = hashes[order]
    before.names.cls = np.array([order_old[h] for h in original[order].tolist()], np.uint8)
    delta = make_delta(before, after)
    assert delta.hash.tolist() == wanted.hash.tolist()
    assert delta.after_name.tolist() == wanted.after_name.tolist()
    before.texts = None
    with pytest.raises(DeltaError, match="keys"):
        make_delta(before, after)


def empty(serial: int) -> Base:
    return Base(serial, 0, *name_keys())


def test_a_delta_of_another_base_or_over_an_essential_name_is_refused() -> None:
    image = build_image(empty(1))
    delta = make_delta(empty(2), empty(3))
    with pytest.raises(DeltaError, match="base 1 is in force"):
        patch_image(image, delta)
    with pytest.raises(DeltaError, match="name key"):
        patch_image(image, replace(delta, from_serial=1, name_seed=5))
    touching = replace(
        delta, from_serial=1, hash=hash_names(pack(["gouv.fr"]), *name_keys()), before_name=np.zeros(1, np.uint8),
        after_name=np.zeros(1, np.uint8),
    )  # fmt: skip
    with pytest.raises(DeltaError, match=r"impots\.gouv\.fr"):
        patch_image(image, touching, Additions(essential_names={"impots.gouv.fr": 3}))


def test_the_whole_address_space_can_be_listed_and_freed() -> None:
    from vigie.contract.codes import Action
    from vigie.filter.base.model import ClassEntry, Intervals4, Intervals6

    top = np.array([2**64 - 1], np.uint64)
    zero = np.zeros(1, np.uint64)
    full = Base(
        2, 0, *name_keys(), classes=[ClassEntry(), ClassEntry(action=Action.BLOCK)],
        v4=Intervals4(np.zeros(1, np.uint32), np.array([2**32 - 1], np.uint32), np.ones(1, np.uint8)),
        v6=Intervals6(zero, zero, top, top, np.ones(1, np.uint8)),
    )  # fmt: skip
    look = Lookup(build_image(full))
    for address in ("0.0.0.0", "255.255.255.255", "192.0.2.66", "::", "ffff:" * 7 + "ffff", "2001:db8::66"):
        assert look.classes[look.address(address)].action == Action.BLOCK, address
    plan = patch_image(build_image(full), make_delta(full, empty(3)))
    out = bytearray(plan.nbytes)
    plan.write(out)
    freed = Lookup(out)
    assert [a for a in ("0.0.0.0", "192.0.2.66", "::", "ffff:" * 7 + "ffff") if freed.address(a)] == ["192.0.2.66"]
    assert len(freed.start4) == len(freed.start6_hi) == 1
    assert str(ipaddress.ip_address(int(freed.start4[0]))) == "192.0.2.66"
