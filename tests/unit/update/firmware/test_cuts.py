"""Whatever happens in whatever order, and wherever the power goes: what holds always, and that it ends."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.firmwarebox import OLD, Box, Cut, Make, release
from vigie.contract.firmware import (
    TRIES_MAX,
    Check,
    FirmwareDescriptor,
    FirmwareOrder,
    Phase,
    Severity,
    UpdateCode,
    Version,
)
from vigie.update.boot.outcome import Cause
from vigie.update.firmware.record import REST
from vigie.update.firmware.view import Postpone

VERSIONS = (Version(2026, 9, 9), Version(2026, 11, 0), Version(2026, 12, 1), Version(2027, 1, 0))
MAKES = st.sampled_from(
    [
        Make(),
        Make(),
        Make(),
        Make(sick=Check.FORWARD),
        Make(sick=Check.LINK),
        Make(dies=True),
        Make(torn=UpdateCode.BAD_SIGNATURE),
    ]
)
OFFERS = st.fixed_dictionaries(
    {
        version: st.builds(
            release,
            st.just(version),
            floor=st.sampled_from([one for one in VERSIONS if one <= version][::-1]),
            requires=st.sampled_from([None, None, *[one for one in VERSIONS if one < version][-1:]]),
            severity=st.sampled_from(Severity),
            board=st.sampled_from(["cm4", "cm4", "cm4", "cm4", "qemu"]),
        )
        for version in VERSIONS
    }
)
MAKES_OF_ALL = st.fixed_dictionaries(dict.fromkeys(VERSIONS, MAKES))
STEP = st.one_of(
    st.tuples(st.just("order"), st.sampled_from(range(len(VERSIONS)))),
    st.tuples(st.just("turn"), st.integers(3, 6)),
    st.tuples(st.just("turn"), st.integers(1, 2)),
    st.tuples(st.just("cut"), st.integers(4, 24)),
    st.tuples(st.just("cut"), st.integers(1, 12)),
    st.tuples(st.just("service"), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([3600, 3 * 3600, 8 * 86400])),
    st.tuples(st.just("same"), st.sampled_from(range(len(VERSIONS)))),
    st.tuples(st.just("withdraw"), st.just(0)),
    st.tuples(st.just("postpone"), st.sampled_from([0, 3600, 90 * 86400])),
    st.tuples(st.just("quiet"), st.integers(0, 1)),
    st.tuples(st.just("panic"), st.just(0)),
    st.tuples(st.just("rot"), st.just(0)),
)
LIMITS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Script:
    """Plays steps on a box; a cut falls `left` points from now."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.left = 0
        self.number = 0
        box.point = self.point

    def point(self) -> None:
        if self.left:
            self.left -= 1
            if not self.left:
                raise Cut

    def guarded(self, left: int, turns: int) -> None:
        self.left = left
        try:
            for _ in range(turns):
                self.box.turn()
        except Cut:
            self.left = 0
            self.box.start(Cause.POWER)
        self.left = 0

    def play(self, kind: str, value: int) -> None:
        box = self.box
        match kind:
            case "turn":
                self.guarded(0, value)
            case "cut":
                self.guarded(value, 5)
            case "service":
                box.serve()
            case "wait":
                box.now += value
            case "order":
                self.number += 1
                box.order = FirmwareOrder(VERSIONS[value], self.number)
            case "same":
                box.order = FirmwareOrder(VERSIONS[value], self.number) if self.number else None
            case "withdraw":
                box.order = None
            case "postpone":
                box.give(Postpone(box.now + value if value else 0))
            case "quiet":
                box.quiet = bool(value)
            case "panic":
                box.start(Cause.PANIC)
            case "rot":  # the slot that is committed is no longer whole
                other = "B" if box.committed == "A" else "A"
                if box.slots[other] is not None and box.trial is None:
                    box.committed = other
                    box.start(Cause.POWER)


def check(box: Box) -> None:
    for version, running, floor in box.installed:
        assert version > running and version >= floor, "older than what runs, or below the floor"
        offer = box.offers[version]
        assert offer.bundle("cm4") is not None and (offer.requires is None or running >= offer.requires)
    assert box.floors == sorted(box.floors), "the floor fell"
    assert all(version == running for version, running in box.said_good), "good was said of another system"
    assert box.slots[box.committed] is not None


def settles(box: Box) -> None:
    """Nothing disturbs it any more: it comes to rest, in a system that was called good."""
    box.quiet = True
    for _ in range(16):
        box.now += 86400
        for _ in range(6):
            box.turn()
    check(box)
    assert box.record.phase in REST
    before, restarts = len(box.installed), box.restarts
    for _ in range(10):
        box.now += 86400
        box.turn()
    assert (len(box.installed), box.restarts) == (before, restarts), "it goes on for ever"
    assert box.running == box.committed, "a system that nobody called good"
    if box.record.phase is Phase.GOOD:
        assert box.record.version == box.version


@LIMITS
@given(offers=OFFERS, makes=MAKES_OF_ALL, steps=st.lists(STEP, min_size=12, max_size=60))
def test_nothing_wrong_is_ever_installed_and_it_always_ends(
    offers: dict[Version, FirmwareDescriptor], makes: dict[Version, Make], steps: list[tuple[str, int]]
) -> None:
    box = Box(offers=offers, makes=makes)
    script = Script(box)
    for kind, value in steps:
        script.play(kind, value)
        check(box)
    settles(box)


WALK = (
    ("order", 3), ("turn", 9), ("cut", 6), ("wait", 2), ("service", 1), ("postpone", 1), ("quiet", 1), ("panic", 1),
    ("same", 1), ("withdraw", 1), ("rot", 1),
)  # fmt: skip


def test_long_walks() -> None:
    """The same, denser: most releases are good, and most steps lead on."""
    installed = restarts = good = 0
    for seed in range(150):
        rnd = random.Random(seed)
        offers = {
            one: release(one, rnd.choice([v for v in VERSIONS if v <= one]), board=rnd.choice(["cm4"] * 9 + ["qemu"]),
                         requires=rnd.choice([None, None, *[v for v in VERSIONS if v < one]]))
            for one in VERSIONS
        }  # fmt: skip
        ways = [Make()] * 5 + [Make(sick=Check.BASE), Make(dies=True), Make(torn=UpdateCode.MISMATCH)]
        box = Box(offers=offers, makes={one: rnd.choice(ways) for one in VERSIONS})
        script = Script(box)
        for kind in rnd.choices([name for name, _ in WALK], [weight for _, weight in WALK], k=70):
            value = {
                "order": rnd.randrange(len(VERSIONS)), "same": rnd.randrange(len(VERSIONS)), "turn": rnd.randint(1, 5),
                "cut": rnd.randint(1, 24), "wait": rnd.choice([3600, 10800, 691200]), "quiet": int(rnd.random() < 0.8),
                "postpone": rnd.choice([0, 3600, 7776000]),
            }.get(kind, 0)  # fmt: skip
            script.play(kind, value)
            check(box)
        settles(box)
        installed, restarts, good = installed + len(box.installed), restarts + box.restarts, good + len(box.said_good)
    assert installed > 200 and restarts > 1000 and good > 100, "the walks no longer lead anywhere"


@LIMITS
@given(steps=st.lists(st.one_of(*[st.tuples(st.just(kind), st.integers(1, 24)) for kind in ("cut", "turn")]),
                      max_size=9), make=MAKES)  # fmt: skip
def test_a_release_ends_good_or_out_whatever_is_cut(steps: list[tuple[str, int]], make: Make) -> None:
    new = VERSIONS[2]
    box = Box(offers={new: release(new, floor=new)}, makes={new: make}, order=FirmwareOrder(new, 1))
    script = Script(box)
    for kind, value in steps:
        script.play(kind, value)
        check(box)
    for _ in range(16):
        box.now += 86400
        for _ in range(6):
            box.turn()
    check(box)
    told = box.record.told()
    if make == Make():
        # three restarts in a row that were cut before the new slot count as a failure; nothing else does here
        assert (told.phase, box.version, box.committed) == (Phase.GOOD, new, box.running) and told.tries < TRIES_MAX
        assert told.floor == new
    else:
        assert (told.phase, box.version, box.committed, told.floor) == (Phase.FAILED, OLD, "A", None)
        assert told.tries == TRIES_MAX


def test_power_cuts_in_the_soak_cost_nothing() -> None:
    new = VERSIONS[2]
    box = Box(offers={new: release(new, floor=new)}, order=FirmwareOrder(new, 1))
    for _ in range(8):
        while box.record.phase is not Phase.SOAK:
            box.turn()
        box.start(Cause.POWER)
        assert (box.record.phase, box.record.tries, box.version) == (Phase.REBOOT, 0, OLD)
    for _ in range(3):
        box.turn()
    assert (box.record.phase, box.record.tries, box.version) == (Phase.GOOD, 0, new)
    assert len(box.installed) == 1
