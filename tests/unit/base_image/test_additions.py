"""What a box adds to a base: it holds whatever the base says."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.base_image.strategies import SPACE4, inputs
from tests.unit.base_image.test_compile_model import PLAIN, Inputs, compiled
from vigie.contract.codes import Action, Category
from vigie.filter.base.additions import DOH_CANARIES, TEST_ADDRESS4, TEST_ADDRESS6, TEST_NAME, Additions
from vigie.filter.base.image import build_image, plan_image
from vigie.filter.base.imageformat import PAGE_BYTES, image_digest, verify_image
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.model import Base, ClassEntry, Names
from vigie.filter.base.names import name_hash, name_keys

networks = st.lists(
    st.tuples(st.integers(0, SPACE4), st.integers(28, 32)).map(
        lambda n: str(ipaddress.ip_network((n[0], n[1]), strict=False))
    ),
    max_size=4,
)
ranks = st.integers(1, 9)


def empty_base() -> Base:
    key, seed = name_keys()
    return Base(3, 0, key, seed)


def test_the_image_of_an_empty_base_holds_the_built_in_indicators() -> None:
    image = build_image(empty_base())
    look = Lookup(image)
    assert verify_image(image).digest == image_digest(image, len(image) // PAGE_BYTES)
    for number in (look.address(TEST_ADDRESS4), look.address(TEST_ADDRESS6), look.name(f"www.{TEST_NAME}")[1]):
        cls = look.classes[number]
        assert (cls.force, cls.action, cls.category) == (True, Action.BLOCK, Category.TEST)
    for name in DOH_CANARIES:
        matched, number = look.name(f"x.{name.upper()}")
        assert matched == name
        assert look.classes[number] == ClassEntry(4, action=Action.BLOCK, category=Category.DOH)
    assert look.address("192.0.2.65") == look.address("192.0.2.67") == look.address("2001:db8::67") == 0


def test_an_image_without_anything_is_valid() -> None:
    look = Lookup(build_image(empty_base(), PLAIN))
    assert look.address("1.2.3.4") == look.address("2001::1") == 0
    assert look.name("a.b") == ("", 0)
    assert (look.addresses4(np.array([1, 2], np.uint32)) == 0).all()


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(inputs(), networks, st.dictionaries(networks.filter(bool).map(lambda n: n[0]), ranks, max_size=3))
def test_additions_hold_over_any_base(feeds: Inputs, never: list[str], essential: dict[str, int]) -> None:
    base = compiled(feeds)
    plain = Lookup(build_image(base, PLAIN))
    added = Additions(never_networks=tuple(never), essential_networks=essential, builtins=False)
    look = Lookup(build_image(base, added))
    open_ = [ipaddress.ip_network(n) for n in never]
    ranked = [(ipaddress.ip_network(n), rank) for n, rank in essential.items()]
    for place in range(SPACE4 + 18):
        address = ipaddress.ip_address(place)
        before = plain.classes[plain.address(address.packed)]
        cls = look.classes[look.address(address.packed)]
        rank = min((r for n, r in ranked if address in n), default=0)
        assert cls.rank == rank
        if any(address in n for n in open_) or before.never:
            assert cls == ClassEntry(1, rank=rank)
        else:
            assert cls == ClassEntry(before.flags, before.direction, before.action, before.category, rank)


def test_an_essential_name_below_a_toxic_one_stays_blocked() -> None:
    base = empty_base()
    base.classes.append(ClassEntry(action=Action.BLOCK, category=Category.C2))
    base.names = Names(np.array([name_hash("bad.fr", *name_keys())], np.uint64), np.array([1], np.uint8))
    added = Additions(essential_names={"Mail.bad.fr.": 2, "ok.fr": 4}, never_names=("ok.fr", "deep.mask.icloud.com"))
    look = Lookup(build_image(base, added))
    assert look.classes[look.name("x.mail.bad.fr")[1]] == ClassEntry(action=Action.BLOCK, category=Category.C2, rank=2)
    assert look.classes[look.name("x.ok.fr")[1]] == ClassEntry(1, rank=4)
    # A forced name holds even below or above a never-block one.
    assert look.name("deep.mask.icloud.com")[0] == "mask.icloud.com"


def test_a_rank_out_of_range_and_a_bad_network_are_refused() -> None:
    with pytest.raises(ValueError, match="rank 10"):
        Additions(essential_names={"a.fr": 10})
    with pytest.raises(ValueError, match="not-a-network"):
        plan_image(empty_base(), Additions(never_networks=("not-a-network",)))


def test_a_plan_writes_over_whatever_was_there() -> None:
    plan = plan_image(empty_base())
    dirty = bytearray(b"\xff" * (plan.nbytes + PAGE_BYTES))
    plan.write(dirty, digest=True)
    assert dirty[: plan.nbytes] == bytes(build_image(empty_base()))
    assert dirty[plan.nbytes :] == b"\xff" * PAGE_BYTES
