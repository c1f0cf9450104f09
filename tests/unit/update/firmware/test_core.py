"""The decision table, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.firmwarebox import OLD, START, Box, Make, release
from vigie.contract.firmware import NO_RELEASE, Check, FirmwareOrder, Phase, Severity, UpdateCode, Version
from vigie.update.boot.outcome import Outcome
from vigie.update.firmware.core import (
    FREE_MIN,
    PATIENCE_CRITICAL_S,
    PATIENCE_S,
    POSTPONE_MAX_S,
    STUMBLES_MAX,
    TABLE,
    handle,
)
from vigie.update.firmware.record import REST, Record, readable
from vigie.update.firmware.resume import CUTS_MAX, RETRY_S, resume
from vigie.update.firmware.view import (
    Action,
    Committed,
    Facts,
    Judged,
    NotCommitted,
    NotInstalled,
    Postpone,
    Started,
    Turn,
)

NEW = Version(2026, 12, 1)
NEWER = Version(2027, 1, 0)
ORDER = FirmwareOrder(NEW, 7)
FACTS = Facts(now=START, boot="b1", running=OLD, board="cm4", order=ORDER, offer=release(NEW))
WAITING = Record(version=NEW, order=7, phase=Phase.WAITING, seen=START)


def test_every_phase_knows_a_start_and_a_turn_or_is_driven_by_the_shell() -> None:
    for phase in Phase:
        assert (phase, Started) in TABLE
    assert {phase for phase in Phase if (phase, Turn) not in TABLE} == {Phase.DOWNLOADING, Phase.INSTALLING}


def test_a_fresh_order_is_installed_in_the_quiet_hours() -> None:
    record, action = handle(Record(), Turn(), FACTS)
    assert (record.phase, action) == (Phase.DOWNLOADING, Action.INSTALL)
    assert (record.version, record.order, record.seen) == (NEW, 7, START)


@pytest.mark.parametrize(
    ("facts", "phase", "code"),
    [
        (replace(FACTS, signed=False), Phase.WAITING, UpdateCode.CLOCK),
        (replace(FACTS, running=NEWER), Phase.FAILED, UpdateCode.OLDER),
        (replace(FACTS, offer=None, refusal=UpdateCode.BAD_SIGNATURE), Phase.WAITING, UpdateCode.BAD_SIGNATURE),
        (replace(FACTS, offer=None, refusal=UpdateCode.FROZEN), Phase.WAITING, UpdateCode.FROZEN),
        (replace(FACTS, offer=None, refusal=UpdateCode.EXPIRED), Phase.WAITING, UpdateCode.EXPIRED),
        (replace(FACTS, offer=release(NEWER)), Phase.WAITING, UpdateCode.UNKNOWN_VERSION),
        (replace(FACTS, offer=release(NEW, board="qemu")), Phase.FAILED, UpdateCode.OTHER_BOARD),
        (replace(FACTS, offer=release(NEW, requires=Version(2026, 11, 0))), Phase.FAILED, UpdateCode.STEP_MISSING),
        (replace(FACTS, offer=release(NEW, earliest=int(START) + 9)), Phase.WAITING, UpdateCode.EARLY),
        (replace(FACTS, free=FREE_MIN - 1), Phase.WAITING, UpdateCode.NO_SPACE),
        (replace(FACTS, ill=Check.DATAPATH), Phase.WAITING, UpdateCode.UNHEALTHY),
        (replace(FACTS, quiet=False), Phase.WAITING, UpdateCode.WINDOW),
    ],
)  # fmt: skip
def test_what_is_in_the_way(facts: Facts, phase: Phase, code: UpdateCode) -> None:
    record, action = handle(Record(), Turn(), facts)
    assert (record.phase, record.code, action) == (phase, code, Action.WAIT)
    assert record.tries == 0
    assert (record.check is not None) == (code is UpdateCode.UNHEALTHY)


def test_nothing_below_the_floor() -> None:
    record, action = handle(Record(floor=NEWER), Turn(), FACTS)
    assert (record.code, action, record.floor) == (UpdateCode.OLDER, Action.WAIT, NEWER)


def test_waiting_ends_at_some_time() -> None:
    busy = replace(FACTS, quiet=False, now=START + PATIENCE_S)
    assert handle(WAITING, Turn(), replace(busy, now=busy.now - 1))[1] is Action.WAIT
    assert handle(WAITING, Turn(), busy)[1] is Action.INSTALL
    critical = replace(busy, now=START + PATIENCE_CRITICAL_S, offer=release(NEW, severity=Severity.CRITICAL))
    assert handle(WAITING, Turn(), critical)[1] is Action.INSTALL


def test_a_mairie_postpones_within_limits() -> None:
    asked, _ = handle(WAITING, Postpone(START + 3600), FACTS)
    assert (asked.phase, asked.until) == (Phase.POSTPONED, START + 3600)
    assert handle(asked, Turn(), FACTS) == (replace(asked, floor_next=OLD), Action.WAIT)
    assert handle(asked, Turn(), replace(FACTS, now=START + 3600))[1] is Action.INSTALL
    back, _ = handle(asked, Postpone(0), FACTS)
    assert handle(back, Turn(), FACTS)[1] is Action.INSTALL
    long, _ = handle(WAITING, Postpone(START * 2), FACTS)
    assert long.until == START + POSTPONE_MAX_S


def test_a_critical_release_is_not_postponed() -> None:
    facts = replace(FACTS, offer=release(NEW, severity=Severity.CRITICAL))
    asked, _ = handle(WAITING, Postpone(START + 3600), facts)
    assert handle(asked, Turn(), facts)[1] is Action.INSTALL  # whatever was asked before its severity was known
    known = replace(WAITING, critical=True)
    assert handle(known, Postpone(START + 3600), facts) == (known, Action.WAIT)


def test_postponing_holds_back_the_restart_too() -> None:
    installed = replace(WAITING, phase=Phase.REBOOT, boot="b1")
    asked, _ = handle(installed, Postpone(START + 3600), FACTS)
    assert asked.phase is Phase.REBOOT
    assert handle(asked, Turn(), FACTS)[1] is Action.WAIT
    assert handle(asked, Turn(), replace(FACTS, now=START + 3600))[1] is Action.TRY


@pytest.mark.parametrize("phase", sorted(REST))
def test_an_order_that_is_withdrawn_does_not_begin(phase: Phase) -> None:
    record, action = handle(replace(WAITING, phase=phase), Turn(), replace(FACTS, order=None))
    assert action is Action.WAIT
    assert record.phase is (Phase.IDLE if phase in (Phase.WAITING, Phase.POSTPONED) else phase)


@pytest.mark.parametrize("order", [None, FirmwareOrder(NEWER, 8)])
def test_what_was_installed_and_is_stopped_is_not_tried(order: FirmwareOrder | None) -> None:
    record, action = handle(replace(WAITING, phase=Phase.REBOOT), Turn(), replace(FACTS, order=order))
    assert (record.phase, action) == (Phase.IDLE, Action.DROP)


def test_a_new_order_counts_from_zero_and_an_old_one_is_ignored() -> None:
    spent = replace(WAITING, phase=Phase.FAILED, tries=3, code=UpdateCode.TRIES_SPENT, floor=OLD)
    assert handle(spent, Turn(), FACTS) == (spent, Action.WAIT)
    again, action = handle(spent, Turn(), replace(FACTS, order=FirmwareOrder(NEW, 8)))
    assert (again.tries, again.floor, action) == (0, OLD, Action.INSTALL)
    assert handle(spent, Turn(), replace(FACTS, order=FirmwareOrder(NEW, 6))) == (spent, Action.WAIT)
    assert handle(spent, Turn(), replace(FACTS, order=FirmwareOrder(NEWER, 7))) == (spent, Action.WAIT)


def test_a_bundle_that_is_refused_counts_and_three_are_enough() -> None:
    record = replace(WAITING, phase=Phase.DOWNLOADING)
    for tries in (1, 2, 3):
        record, _ = handle(record, NotInstalled(UpdateCode.BAD_SIGNATURE, False, "a\nb"), FACTS)
        assert (record.tries, record.code, record.evidence) == (tries, UpdateCode.BAD_SIGNATURE, "a b")
        assert record.phase is (Phase.FAILED if tries == 3 else Phase.WAITING)
        assert handle(record, Turn(), FACTS)[1] is Action.WAIT
        record = replace(record, phase=Phase.DOWNLOADING)
    done = replace(record, phase=Phase.FAILED)
    assert handle(done, Turn(), replace(FACTS, now=START * 2))[1] is Action.WAIT


def test_a_bad_line_is_tried_again_later_and_later_but_not_for_ever() -> None:
    record, waits = WAITING, []
    for _ in range(STUMBLES_MAX):
        began = replace(record, phase=Phase.INSTALLING)
        record, _ = handle(began, NotInstalled(UpdateCode.NO_NETWORK, True), FACTS)
        waits.append(record.again - START)
    assert record.phase is Phase.FAILED and record.tries == 0 and record.code is UpdateCode.NO_NETWORK
    assert waits == sorted(waits) and waits[0] < waits[-1] <= 6 * 3600
    assert handle(record, Turn(), replace(FACTS, now=START * 2))[1] is Action.WAIT


def test_good_is_said_by_the_new_system_and_raises_the_floor() -> None:
    soak = replace(WAITING, phase=Phase.SOAK, boot="b2", floor=OLD, floor_next=NEW)
    facts = replace(FACTS, running=NEW, boot="b2", outcome=Outcome.ON_TRIAL)
    record, action = handle(soak, Judged(None), facts)
    assert (record, action) == (soak, Action.COMMIT)  # not before it is committed
    record, _ = handle(soak, Committed(), facts)
    assert (record.phase, record.floor) == (Phase.GOOD, NEW)
    low, _ = handle(replace(soak, floor=NEWER), Committed(), facts)
    assert low.floor == NEWER


def test_a_sick_system_leaves_and_keeps_why() -> None:
    soak = replace(WAITING, phase=Phase.SOAK, boot="b2")
    facts = replace(FACTS, running=NEW, boot="b2", outcome=Outcome.ON_TRIAL)
    record, action = handle(soak, Judged(Check.FORWARD, "received 300, sent 0"), facts)
    assert (record.back, record.check, action) == (True, Check.FORWARD, Action.LEAVE)
    assert handle(record, Judged(None), facts) == (record, Action.LEAVE)  # no second thoughts
    assert handle(record, Turn(), facts) == (record, Action.LEAVE)
    old = resume(record, replace(FACTS, boot="b3"))
    assert (old.phase, old.code, old.check, old.tries) == (
        Phase.ROLLED_BACK, UpdateCode.UNHEALTHY, Check.FORWARD, 1,
    )  # fmt: skip
    assert "sent 0" in old.evidence
    assert handle(old, Turn(), FACTS)[0].phase is Phase.ROLLED_BACK  # long enough to be told
    assert handle(old, Turn(), replace(FACTS, now=START + RETRY_S))[1] is Action.INSTALL


def test_a_commit_that_fails_is_repeated_then_the_system_leaves() -> None:
    record, action = replace(WAITING, phase=Phase.SOAK, boot="b2"), Action.WAIT
    facts = replace(FACTS, running=NEW, boot="b2")
    for _ in range(9):
        record, action = handle(record, NotCommitted("read-only"), facts)
        assert action is Action.WAIT and record.phase is Phase.SOAK
    record, action = handle(record, NotCommitted("read-only"), facts)
    assert (record.back, action) == (True, Action.LEAVE)


REBOOT, SOAK = replace(WAITING, phase=Phase.REBOOT, boot="b1"), replace(WAITING, phase=Phase.SOAK, boot="b1")
BUSY = replace(WAITING, phase=Phase.INSTALLING, boot="b1")
NOW_OLD = replace(FACTS, boot="b2")
NOW_NEW = replace(FACTS, boot="b2", running=NEW)


@pytest.mark.parametrize(
    ("record", "facts", "phase", "code", "tries"),
    [
        (REBOOT, FACTS, Phase.REBOOT, None, 0),
        (SOAK, replace(FACTS, running=NEW), Phase.SOAK, None, 0),
        (REBOOT, replace(NOW_NEW, outcome=Outcome.ON_TRIAL), Phase.SOAK, None, 0),
        (SOAK, replace(NOW_NEW, outcome=Outcome.ON_TRIAL), Phase.SOAK, None, 0),
        (SOAK, replace(NOW_NEW, outcome=Outcome.COMMITTED), Phase.GOOD, None, 0),
        (SOAK, replace(NOW_NEW, outcome=Outcome.NONE), Phase.SOAK, None, 0),
        (REBOOT, replace(NOW_OLD, outcome=Outcome.STAGED), Phase.REBOOT, None, 0),
        (REBOOT, replace(NOW_OLD, outcome=Outcome.ACTIVATION_LOST), Phase.REBOOT, UpdateCode.ACTIVATION_LOST, 0),
        (SOAK, replace(NOW_OLD, outcome=Outcome.INTERRUPTED), Phase.REBOOT, None, 0),
        (REBOOT, replace(NOW_OLD, outcome=Outcome.ROLLED_BACK), Phase.ROLLED_BACK, UpdateCode.NOT_STARTED, 1),
        (SOAK, replace(NOW_OLD, outcome=Outcome.ROLLED_BACK), Phase.ROLLED_BACK, UpdateCode.NOT_STARTED, 1),
        (SOAK, NOW_OLD, Phase.WAITING, None, 0),
        (BUSY, NOW_OLD, Phase.WAITING, None, 0),
        (BUSY, FACTS, Phase.WAITING, None, 0),
        (BUSY, replace(NOW_NEW, outcome=Outcome.ON_TRIAL), Phase.SOAK, None, 0),
        (Record(), replace(NOW_NEW, outcome=Outcome.ON_TRIAL), Phase.SOAK, None, 0),
        (replace(BUSY, cuts=CUTS_MAX), NOW_OLD, Phase.FAILED, UpdateCode.INSTALL, 0),
        (replace(SOAK, tries=2), replace(NOW_OLD, outcome=Outcome.ROLLED_BACK), Phase.FAILED,
         UpdateCode.TRIES_SPENT, 3),
        (replace(WAITING, phase=Phase.GOOD), NOW_OLD, Phase.ROLLED_BACK, UpdateCode.NOT_STARTED, 1),
        (replace(WAITING, phase=Phase.GOOD), NOW_NEW, Phase.GOOD, None, 0),
        (WAITING, NOW_OLD, Phase.WAITING, None, 0),
    ],
)  # fmt: skip
def test_what_a_start_means(record: Record, facts: Facts, phase: Phase, code: UpdateCode | None, tries: int) -> None:
    after = resume(record, facts)
    assert (after.phase, after.code, after.tries) == (phase, code, tries)


def test_a_power_cut_in_the_soak_begins_it_again() -> None:
    facts = replace(NOW_NEW, outcome=Outcome.ON_TRIAL, boottime=12.0)
    after = resume(replace(SOAK, since=500.0), facts)
    assert (after.since, after.boot, after.tries) == (12.0, "b2", 0)
    same = resume(replace(SOAK, since=500.0), replace(facts, boot="b1"))
    assert same.since == 500.0


def test_the_record_survives_the_disk_and_is_read_by_older_systems() -> None:
    record = replace(
        SOAK, code=UpdateCode.UNHEALTHY, check=Check.LINK, floor=OLD, floor_next=NEW, since=1.5, evidence="été",
        before_ports=("eth0",), before_base=4, back=True,
    )  # fmt: skip
    assert readable(record.to_dict() | {"later": [1]}) == record
    assert readable({"v": 1}) is None and readable(record.to_dict() | {"phase": "x"}) is None and readable(None) is None
    assert Record().told().floor is None and NO_RELEASE < OLD


def test_a_whole_update_and_what_it_tells() -> None:
    box = Box(offers={NEW: release(NEW, floor=NEW)}, order=ORDER)
    for _ in range(6):
        box.turn()
    told = box.record.told()
    assert (told.phase, told.version, told.tries, told.floor) == (Phase.GOOD, NEW, 0, NEW)
    assert (box.version, box.committed, box.restarts, len(box.installed)) == (NEW, "B", 1, 1)


@pytest.mark.parametrize("make", [Make(sick=Check.LINK), Make(dies=True), Make(torn=UpdateCode.BAD_SIGNATURE)])
def test_a_bad_release_is_tried_three_times(make: Make) -> None:
    box = Box(offers={NEW: release(NEW, floor=NEW)}, order=ORDER, makes={NEW: make})
    for _ in range(2000):
        box.turn()
    told = box.record.told()
    assert (told.phase, told.tries, told.floor, len(box.installed)) == (Phase.FAILED, 3, None, 3)
    assert (box.version, box.committed) == (OLD, "A")
    assert told.code is (make.torn or UpdateCode.TRIES_SPENT)
    assert told.check is make.sick
