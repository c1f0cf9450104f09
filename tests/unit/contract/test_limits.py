"""What the box refuses with a right signature by the online key: every number at its edge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vigie.contract import limits
from vigie.contract.downward import Command, Desired, Exemption, Isolation, Quarantine
from vigie.contract.limits import Checked, OrderRefused, check_command, check_desired
from vigie.contract.words import Code, RuleAction

BOX = "vg-" + "a" * 16
NOW = 1_800_000_000
DAY = 86_400
GOOD = Desired(BOX, 5, NOW - 10, NOW + 30 * DAY)


def check(
    desired: Desired, *, second: bool = False, newer_than: int = 0, now: float = NOW, trusted: bool = True
) -> Checked:
    return check_desired(desired, box=BOX, now=now, trusted=trusted, second_signed=second, newer_than=newer_than)


def refused(desired: Desired, **how: object) -> Code:
    with pytest.raises(OrderRefused) as caught:
        check(desired, **how)  # type: ignore[arg-type]
    return caught.value.code


def test_good() -> None:
    assert check(GOOD) == Checked(GOOD, ())


def test_foreign() -> None:
    assert refused(replace(GOOD, box="vg-" + "b" * 16)) is Code.FOREIGN


@pytest.mark.parametrize(("version", "code"), [(4, Code.OLDER), (5, Code.OLDER)])
def test_older(version: int, code: Code) -> None:
    assert refused(replace(GOOD, version=version), newer_than=5) is code


def test_version_leap() -> None:
    edge = 7 + limits.VERSION_JUMP_MAX
    assert check(replace(GOOD, version=edge), newer_than=7).refused == ()
    assert refused(replace(GOOD, version=edge + 1), newer_than=7) is Code.VERSION_JUMP
    assert check(replace(GOOD, version=edge + 1), newer_than=7, second=True).refused == ()


def test_expiry() -> None:
    assert refused(replace(GOOD, expires=NOW)) is Code.EXPIRED
    assert check(replace(GOOD, expires=NOW + 1)).refused == ()


def test_lifetime_even_with_offline_signatures() -> None:
    assert check(replace(GOOD, expires=GOOD.issued + 400 * DAY)).refused == ()
    assert refused(replace(GOOD, expires=GOOD.issued + 400 * DAY + 1), second=True) is Code.LIFETIME


def test_issued_in_the_future() -> None:
    ahead = replace(GOOD, issued=NOW + limits.FUTURE_MAX_S)
    assert check(ahead).refused == ()
    assert refused(replace(ahead, issued=ahead.issued + 1)) is Code.NOT_YET
    # A box at its floor is behind: it cannot know.
    assert check(replace(GOOD, issued=NOW, expires=NOW + DAY), now=NOW - 300 * DAY, trusted=False).refused == ()


def test_mass() -> None:
    others = tuple("vg-" + c * 16 for c in "bcdefg")
    assert check(replace(GOOD, mass=(BOX, *others[:4]))).refused == ()
    assert refused(replace(GOOD, mass=(BOX, *others[:5]))) is Code.MASS_UNSIGNED
    assert check(replace(GOOD, mass=(BOX, *others)), second=True).refused == ()
    assert refused(replace(GOOD, mass=others), second=True) is Code.FOREIGN


@pytest.mark.parametrize("level", [2, 3])
def test_isolation_is_temporary(level: int) -> None:
    most = GOOD.issued + limits.TEMPORARY_MAX_S
    assert check(replace(GOOD, isolation=Isolation(level, most))).desired.isolation == Isolation(level, most)
    got = check(replace(GOOD, isolation=Isolation(level, most + 1)), second=True)
    assert got.desired.isolation is None
    assert [p.detail for p in got.refused] == ["isolation:temporary-too-long"]
    assert check(replace(GOOD, isolation=Isolation(level, NOW))).refused[0].code is Code.PART_EXPIRED


def test_vigilance_may_last() -> None:
    lasting = Isolation(1, GOOD.expires)
    assert check(replace(GOOD, isolation=lasting)).desired.isolation == lasting


def test_a_slow_clock_buys_nothing() -> None:
    """The box is 300 days behind: four hours are counted from its own now."""
    behind = NOW - 300 * DAY
    until = GOOD.issued + limits.TEMPORARY_MAX_S
    got = check(
        replace(GOOD, isolation=Isolation(3, until), quarantine=(Quarantine("d-" + "0" * 16, until),)),
        now=behind,
        trusted=False,
    )
    assert got.desired.isolation == Isolation(3, behind + limits.TEMPORARY_MAX_S)
    assert got.desired.quarantine[0].until == behind + limits.TEMPORARY_MAX_S


def test_quarantine_is_temporary() -> None:
    device = "d-" + "0" * 16
    ends = (GOOD.issued + limits.TEMPORARY_MAX_S + 1, NOW + 60, NOW - 1)
    got = check(replace(GOOD, quarantine=tuple(Quarantine(device, until) for until in ends)))
    assert got.desired.quarantine == (Quarantine(device, NOW + 60),)
    assert [p.detail for p in got.refused] == ["quarantine[0]:temporary-too-long", "quarantine[2]:part-expired"]


@pytest.mark.parametrize(
    ("action", "target", "allowed"),
    [
        (RuleAction.BLOCK, "198.51.100.0/24", True),
        (RuleAction.BLOCK, "198.51.100.0/23", False),
        (RuleAction.BLOCK, "2001:db8::/48", True),
        (RuleAction.BLOCK, "2001:db8::/47", False),
        (RuleAction.BLOCK, "0.0.0.0/0", False),
        (RuleAction.ALLOW, "198.51.0.0/16", True),
        (RuleAction.ALLOW, "198.50.0.0/15", False),
        (RuleAction.OBSERVE, "2001:db8::/32", True),
        (RuleAction.OBSERVE, "2001:da8::/31", False),
        (RuleAction.BLOCK, "www.example", True),
    ],
)
def test_reach_of_an_exception(action: RuleAction, target: str, allowed: bool) -> None:
    got = check(replace(GOOD, exceptions=(Exemption(action, target, NOW + 60),)))
    assert (len(got.desired.exceptions) == 1) is allowed
    assert [p.code for p in got.refused] == ([] if allowed else [Code.PREFIX_TOO_SHORT])


def test_reach_of_never_block() -> None:
    got = check(replace(GOOD, never_block=("0.0.0.0/0", "198.51.0.0/16", "a.example")))
    assert got.desired.never_block == ("198.51.0.0/16", "a.example")
    assert [p.detail for p in got.refused] == ["never_block[0]:prefix-too-short"]


def test_unknown_parts_are_told() -> None:
    got = check(replace(GOOD, skipped=("exceptions[2]", "curfew")))
    assert [p.detail for p in got.refused] == ["exceptions[2]:unknown-field", "curfew:unknown-field"]
    assert got.desired.skipped == ()


def test_commands() -> None:
    command = Command(BOX, "0" * 32, NOW - 10, NOW + 60, "self-test")
    check_command(command, box=BOX, now=NOW, trusted=True)
    for change, code in (
        ({"box": "vg-" + "b" * 16}, Code.FOREIGN),
        ({"expires": NOW}, Code.EXPIRED),
        ({"expires": NOW + DAY + 1}, Code.LIFETIME),
        ({"issued": NOW + 700, "expires": NOW + 800}, Code.NOT_YET),
    ):
        with pytest.raises(OrderRefused) as caught:
            check_command(replace(command, **change), box=BOX, now=NOW, trusted=True)  # type: ignore[arg-type]
        assert caught.value.code is code
