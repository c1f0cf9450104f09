"""The document of a box: a function of what was decided, in a form that a box accepts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.downward import Desired, Essential, Exemption, Isolation, Opening, Quarantine, Settings
from vigie.contract.words import RuleAction
from vigie_department.console.services import opening
from vigie_department.console.services.document import Wanted, digest, state
from vigie_department.errors import StateError, UsageError

BOX = "vg-abcdefghijklmnop"
NOW = 1_790_000_000


def make(wanted: Wanted, version: int = 3) -> Desired:
    return state(wanted, version=version, issued=NOW, expires=NOW + 86400)


def exemption(target: str, until: int = NOW + 60) -> Exemption:
    return Exemption(RuleAction.ALLOW, target, until, note="n")


def test_a_box_reads_what_is_made() -> None:
    wanted = Wanted(
        BOX,
        exceptions=[exemption("b.example"), exemption("a.example")],
        never_block=["c.example", "c.example"],
        essential=[Essential("d.example", 5), Essential("d.example", 1), Essential("0.example", 3)],
        isolations=[Isolation(1, NOW + 9999), Isolation(2, NOW + 60)],
        quarantines=[Quarantine("d-" + "0" * 16, NOW + 60), Quarantine("d-" + "0" * 16, NOW + 90)],
        settings=Settings(volunteer=True),
    )
    made = make(wanted)
    assert Desired.from_bytes(made.to_bytes()) == made
    assert [one.target for one in made.exceptions] == ["a.example", "b.example"]
    assert made.never_block == ("c.example",)
    assert [(one.name, one.rank) for one in made.essential] == [("d.example", 1), ("0.example", 3)]
    assert made.isolation == Isolation(2, NOW + 60)
    assert made.quarantine == (Quarantine("d-" + "0" * 16, NOW + 90),)


def test_what_has_ended_is_not_in_it() -> None:
    wanted = Wanted(
        BOX,
        exceptions=[exemption("a.example", NOW)],
        isolations=[Isolation(3, NOW)],
        quarantines=[Quarantine("d-" + "0" * 16, NOW - 1)],
    )
    made = make(wanted)
    assert (made.exceptions, made.isolation, made.quarantine) == ((), None, ())


@given(st.permutations(["a.example", "b.example", "c.example", "192.0.2.0/24"]), st.integers(1, 1000))
def test_the_digest_is_that_of_the_content(order: list[str], version: int) -> None:
    one = Wanted(BOX, exceptions=[exemption(name) for name in order], never_block=order)
    other = Wanted(BOX, exceptions=[exemption(name) for name in sorted(order)], never_block=sorted(order))
    assert digest(make(one, version)) == digest(make(other, version + 1))
    assert digest(make(one)) != digest(make(Wanted(BOX, never_block=order)))


def test_more_than_a_box_takes_is_said() -> None:
    with pytest.raises(StateError, match=BOX):
        make(Wanted(BOX, never_block=[f"n{number}.example" for number in range(501)]))


class TestOpening:
    def test_hours(self) -> None:
        found = opening.parse("lu-ma 09:00-12:00 14h-17h30 ; sa 09h00-12:00")
        assert found == (
            Opening(0, 540, 720),
            Opening(0, 840, 1050),
            Opening(1, 540, 720),
            Opening(1, 840, 1050),
            Opening(5, 540, 720),
        )
        assert opening.parse("") == ()

    @pytest.mark.parametrize(
        "text",
        [
            "lundi 9h-12h",
            "lu",
            "ve-lu 9h-12h",
            "lu 12h-9h",
            "lu 9h-25h",
            "lu 9:75-10:00",
            "lu 9h-12h 11h-14h",
            "lu x",
            "lu-ma-me 9h-12h",
        ],
    )
    def test_a_mistake_is_quoted(self, text: str) -> None:
        with pytest.raises(UsageError, match="«"):
            opening.parse(text)
