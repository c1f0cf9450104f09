"""The way into the fleet: every transition of the table, and whole lives in simulated time."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.enrol.simulated import DAY, LIFE, START, Box
from vigie.enrol import backoff
from vigie.enrol import events as on
from vigie.enrol.codes import Code
from vigie.enrol.errors import EnrolError
from vigie.enrol.events import Event, Failed, Lifetime, Memory, Moment, Refused
from vigie.enrol.machine import PROTOCOL_TRIES, TABLE, TELL_TRIES, WAITING, Machine
from vigie.enrol.status import State
from vigie.host.boxconfig import EnrolIntervals

S = State
NOW = Moment(1000.0, START, True)
UNSURE = Moment(1000.0, START, False)
GOOD = Lifetime(START - DAY, START + 89 * DAY, START + 59 * DAY)
OLD = Lifetime(START - 70 * DAY, START + 20 * DAY, START - 10 * DAY)
GONE = Lifetime(START - 100 * DAY, START - 10 * DAY, START - 40 * DAY)


def _machine(state: State, **fields: object) -> Machine:
    machine = Machine(EnrolIntervals(), random.Random(7))
    machine.state = state
    for name, value in fields.items():
        setattr(machine, name, value)
    return machine


DOWN = Failed(Code.AUTHORITY_DOWN, "no answer")
FULL = Failed(Code.DISK_FULL, "no room")
# state, what the machine knows, event, at, next state, code after (None: any)
CASES: list[tuple[State, dict[str, object], Event, Moment, State, Code | None]] = [
    (S.LOADING, {}, on.Loaded(Memory()), UNSURE, S.WAITING, Code.STARTING),
    (S.LOADING, {}, on.Loaded(Memory(certificate=GOOD)), UNSURE, S.ENROLLED, Code.MEMBER),
    (S.LOADING, {}, on.Loaded(Memory(certificate=GONE)), UNSURE, S.WAITING, Code.EXPIRED),
    (S.LOADING, {}, on.Loaded(Memory(certificate=GOOD, reply=GOOD)), UNSURE, S.WAITING, None),
    (S.LOADING, {}, on.Loaded(Memory(leaving=True, certificate=GOOD)), UNSURE, S.LEAVE, None),
    (S.LOADING, {}, on.Loaded(Memory(leaving=True)), UNSURE, S.LEAVE, None),
    (S.LOADING, {}, on.Loaded(Memory(decommissioned=True)), UNSURE, S.DECOMMISSIONED, Code.DECOMMISSIONED),
    (S.LOADING, {}, Failed(Code.IDENTITY), UNSURE, S.BROKEN, Code.IDENTITY),
    (S.PROBING, {}, on.Clear(), UNSURE, S.CHALLENGE, None),
    (S.PROBING, {"certificate": GOOD}, on.Clear(), UNSURE, S.TIME, None),
    (S.PROBING, {"certificate": GOOD}, on.Clear(), NOW, S.ENROLLED, Code.MEMBER),
    (S.PROBING, {"certificate": OLD}, on.Clear(), NOW, S.PREPARE, None),
    (S.PROBING, {"certificate": GONE}, on.Clear(), NOW, S.CHALLENGE, None),
    (S.PROBING, {"_reply": GOOD}, on.Clear(), UNSURE, S.KEEP, None),
    (S.PROBING, {"_reply": GONE}, on.Clear(), UNSURE, S.KEEP, None),
    (S.PROBING, {"_reply": GONE}, on.Clear(), NOW, S.FORGET, None),
    (S.PROBING, {}, Failed(Code.NO_LINK), UNSURE, S.WAITING, Code.NO_LINK),
    (S.CHALLENGE, {}, on.Challenged(), NOW, S.PREPARE, None),
    (S.CHALLENGE, {"certificate": GOOD}, on.Challenged(), NOW, S.ENROLLED, Code.MEMBER),
    (S.CHALLENGE, {"certificate": GOOD, "_void": True}, on.Challenged(), NOW, S.PREPARE, None),
    (S.CHALLENGE, {}, Failed(Code.PORTAL), UNSURE, S.WAITING, Code.PORTAL),
    (S.CHALLENGE, {}, Refused("busy", 30), UNSURE, S.WAITING, Code.AUTHORITY_DOWN),
    (S.PREPARE, {"_challenged": True}, on.Prepared(), NOW, S.ENROL, None),
    (S.PREPARE, {"_challenged": True, "certificate": OLD}, on.Prepared(), NOW, S.RENEW, None),
    (S.PREPARE, {"certificate": GONE}, on.Prepared(), NOW, S.CHALLENGE, None),
    (S.PREPARE, {}, FULL, NOW, S.WAITING, Code.DISK_FULL),
    (S.ENROL, {}, on.Granted(), NOW, S.KEEP, None),
    (S.ENROL, {}, Refused("refused"), NOW, S.REFUSED, Code.UNKNOWN),
    (S.ENROL, {"joined": True}, Refused("refused"), NOW, S.REFUSED, Code.BLOCKED),
    (S.ENROL, {}, Refused("conflict"), NOW, S.CONFLICT, Code.CONFLICT),
    (S.ENROL, {}, Refused("clone"), NOW, S.CONFLICT, Code.CLONE),
    (S.ENROL, {}, Refused("wait", 60), NOW, S.WAITING, Code.PENDING),
    (S.ENROL, {}, Refused("busy", 60), NOW, S.WAITING, Code.AUTHORITY_DOWN),
    (S.ENROL, {}, Refused("malformed"), NOW, S.WAITING, Code.PROTOCOL),
    (S.ENROL, {}, Refused("challenge"), NOW, S.CHALLENGE, None),
    (S.ENROL, {"_stale": 3}, Refused("challenge"), NOW, S.WAITING, Code.PROTOCOL),
    (S.CONFIRM, {}, Refused("challenge"), NOW, S.WAITING, Code.PROTOCOL),
    (S.ENROL, {}, DOWN, NOW, S.WAITING, Code.AUTHORITY_DOWN),
    (S.RENEW, {"certificate": OLD}, on.Granted(), NOW, S.KEEP, None),
    (S.RENEW, {"certificate": OLD, "joined": True}, Refused("refused"), NOW, S.WAITING, Code.EXPIRED),
    (S.RENEW, {"certificate": OLD, "joined": True}, Refused("clone"), NOW, S.CONFLICT, Code.CLONE),
    (S.RENEW, {"certificate": OLD}, DOWN, NOW, S.WAITING, Code.AUTHORITY_DOWN),
    (S.KEEP, {}, on.Kept(GOOD), NOW, S.CONFIRM, None),
    (S.KEEP, {}, FULL, NOW, S.WAITING, Code.DISK_FULL),
    (S.CONFIRM, {}, on.Confirmed(), NOW, S.INSTALL, None),
    (S.CONFIRM, {}, Refused("refused"), NOW, S.FORGET, Code.EXPIRED),
    (S.CONFIRM, {}, Refused("clone"), NOW, S.FORGET, Code.CLONE),
    (S.CONFIRM, {}, Refused("busy"), NOW, S.WAITING, Code.AUTHORITY_DOWN),
    (S.CONFIRM, {}, DOWN, NOW, S.WAITING, Code.AUTHORITY_DOWN),
    (S.INSTALL, {}, on.Installed(GOOD), NOW, S.ENROLLED, Code.MEMBER),
    (S.INSTALL, {}, FULL, NOW, S.WAITING, Code.DISK_FULL),
    (S.FORGET, {"_after": S.REFUSED}, on.Forgotten(), NOW, S.REFUSED, None),
    (S.FORGET, {}, FULL, NOW, S.WAITING, Code.DISK_FULL),
    (S.TIME, {"certificate": GOOD}, on.Challenged(), NOW, S.ENROLLED, Code.MEMBER),
    (S.TIME, {"certificate": GONE}, on.Challenged(), NOW, S.PROBING, Code.EXPIRED),
    (S.TIME, {"certificate": GOOD}, DOWN, UNSURE, S.ENROLLED, Code.MEMBER),
    (S.TIME, {"certificate": GOOD}, Refused("busy"), UNSURE, S.ENROLLED, Code.MEMBER),
    (S.ENROLLED, {"certificate": GOOD}, on.Due(), UNSURE, S.TIME, None),
    (S.ENROLLED, {"certificate": GOOD, "_time_at": 2000.0}, on.Due(), UNSURE, S.ENROLLED, None),
    (S.ENROLLED, {"certificate": GOOD, "_time_at": 2000.0}, on.Due(), NOW, S.ENROLLED, None),
    (S.ENROLLED, {"certificate": GOOD}, on.Due(), NOW, S.TIME, None),
    (S.ENROLLED, {"certificate": OLD, "_time_at": 2000.0}, on.Due(), NOW, S.PROBING, None),
    (S.ENROLLED, {"certificate": GONE, "_time_at": 2000.0}, on.Due(), NOW, S.PROBING, Code.EXPIRED),
    (S.ENROLLED, {"certificate": GOOD, "_time_tries": 1, "_time_at": 9e9}, on.Moved(), UNSURE, S.ENROLLED, None),
    (S.ENROLLED, {"certificate": GOOD}, on.Doubted(), NOW, S.PROBING, None),
    (S.WAITING, {}, on.Due(), NOW, S.PROBING, None),
    (S.WAITING, {"code": Code.NO_LINK}, on.Moved(), NOW, S.WAITING, Code.NO_LINK),
    (S.REFUSED, {}, on.Due(), NOW, S.PROBING, None),
    (S.CONFLICT, {}, on.Due(), NOW, S.PROBING, None),
    (S.BROKEN, {}, on.Due(), NOW, S.LOADING, None),
    (S.ENROLLED, {"certificate": GOOD}, on.Leave(), NOW, S.LEAVE, None),
    (S.WAITING, {"certificate": GOOD}, on.Leave(), NOW, S.LEAVE, None),
    (S.WAITING, {}, on.Leave(), NOW, S.LEAVE, None),
    (S.REFUSED, {}, on.Leave(), NOW, S.LEAVE, None),
    (S.CONFLICT, {}, on.Leave(), NOW, S.LEAVE, None),
    (S.BROKEN, {}, on.Leave(), NOW, S.ERASE, None),
    (S.LEAVING, {}, on.Leave(), NOW, S.LEAVE, None),
    (S.LEAVING, {}, on.Due(), NOW, S.LEAVE, None),
    (S.LEAVE, {}, on.Told(), NOW, S.ERASE, None),
    (S.LEAVE, {}, DOWN, NOW, S.LEAVING, None),
    (S.LEAVE, {}, Refused("refused"), NOW, S.ERASE, None),
    (S.LEAVE, {}, Refused("busy"), NOW, S.LEAVING, None),
    (S.LEAVE, {"_tell_tries": TELL_TRIES - 1}, DOWN, NOW, S.ERASE, None),
    (S.ERASE, {}, on.Erased(), NOW, S.DECOMMISSIONED, Code.DECOMMISSIONED),
    (S.ERASE, {}, FULL, NOW, S.BROKEN, Code.DISK_FULL),
    (S.DECOMMISSIONED, {}, on.Leave(), NOW, S.DECOMMISSIONED, None),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0].value}-{type(c[2]).__name__}-{c[4].value}")
def test_each_transition(case: tuple[State, dict[str, object], Event, Moment, State, Code | None]) -> None:
    state, fields, event, at, target, code = case
    machine = _machine(state, **fields)
    step = machine.handle(event, at)
    assert step is not None and step.state is target, (step, machine)
    assert code is None or machine.code is code
    if target in WAITING and target is not S.DECOMMISSIONED:
        assert step.wait_s is not None and step.wait_s >= 0, step
    else:
        assert step.wait_s is None, step


def test_the_cases_cover_the_table_and_every_choice() -> None:
    assert {(state, type(event)) for state, _f, event, _at, _t, _c in CASES} == set(TABLE)
    reached = {target for _s, _f, _e, _at, target, _c in CASES}
    assert reached == set(State), set(State) - reached


def test_an_event_out_of_place_is_a_fault_and_movement_never_is() -> None:
    with pytest.raises(EnrolError, match="Granted in state probing"):
        _machine(S.PROBING).handle(on.Granted(), NOW)
    for state in State:
        if state not in (S.ENROLLED, S.WAITING):
            assert _machine(state).handle(on.Moved(), NOW) is None
            assert _machine(state).handle(on.Doubted(), NOW) is None


# -- lives


def test_a_new_box_is_a_member_within_seconds() -> None:
    box = Box()
    box.run(30)
    assert box.machine.state is S.ENROLLED and box.machine.code is Code.MEMBER
    assert [what for _t, what in box.attempts] == ["challenge", "enrol", "confirm"]
    assert box.disk.certificate == box.authority.active and box.disk.csr is None


def test_two_years_of_renewals_without_a_gap() -> None:
    box = Box()
    box.run(30)
    for _day in range(730):
        box.run(DAY)
        assert box.disk.certificate is not None and box.disk.certificate.lifetime.end > box.now()
        assert box.machine.code is Code.MEMBER
    assert 12 <= len(box.authority.issued) <= 14, len(box.authority.issued)
    times = sum(what == "challenge" for _t, what in box.attempts)
    assert 650 <= times <= 830, times


@pytest.mark.parametrize("what", ["challenge", "enrol", "renew", "confirm"])
@pytest.mark.parametrize("side", ["request", "reply"])
def test_a_loss_at_each_step_costs_one_attempt_and_no_second_certificate(what: str, side: str) -> None:
    lost: list[str] = []

    def lose(point: str) -> str:
        if point == f"{side} {what}" and point not in lost:
            lost.append(point)
            return "line"
        return ""

    box = Box(lose=lose)
    box.run(120)
    assert box.machine.state is S.ENROLLED
    box.run(75 * DAY)
    assert lost and box.machine.code is Code.MEMBER
    assert len(box.authority.issued) == 2, box.authority.issued  # one enrolment, one renewal
    assert box.disk.certificate == box.authority.active and not box.authority.quarantined


POINTS = [
    *(f"{when} {s.value}" for when in ("before", "after") for s in State if s not in WAITING and s is not S.FORGET),
    "between reply and join state",
    "between set and pending",
]


@pytest.mark.parametrize("point", [p for p in POINTS if not p.endswith(("leave", "erase"))])
def test_power_cut_at_each_point_resumes_without_a_second_certificate(point: str) -> None:
    cuts: list[str] = []

    def lose(at: str) -> str:
        if at == point and len(cuts) < 3:
            cuts.append(at)
            return "power"
        return ""

    box = Box(lose=lose)
    box.run(75 * DAY)
    assert len(cuts) >= 2, cuts  # the last steps are passed once per certificate
    assert box.machine.code is Code.MEMBER and box.disk.certificate == box.authority.active
    assert len(box.authority.issued) == 2 and not box.authority.quarantined


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(["", "", "", "line", "power", "nonsense"]), max_size=60))
def test_any_mixture_of_losses_and_cuts_ends_as_a_member(seed: int, faults: list[str]) -> None:
    box = Box(seed, lose=lambda _point: faults.pop() if faults else "")
    box.run(3 * DAY)
    assert not faults and box.machine.code is Code.MEMBER, (box.machine, faults)
    assert len(box.authority.issued) == 1 and not box.authority.quarantined
    assert box.disk.certificate == box.authority.active and box.disk.join_seq == box.authority.seq


def test_authority_down_for_seven_days_then_a_member_within_two_hours() -> None:
    box = Box()
    box.authority.down = True
    box.run(7 * DAY)
    tries = [t for t, what in box.attempts if what == "challenge"]
    first_day = [t for t in tries if t < DAY]
    later = [b - a for a, b in pairwise(t for t in tries if t > 1.1 * DAY)]
    assert 150 <= len(first_day) <= 260, len(first_day)  # 15 min at most, 7.5 in the mean
    assert all(1750 <= gap <= 5450 for gap in later), (min(later), max(later))
    assert 120 <= len(later) <= 170, len(later)
    box.authority.down = False
    box.run(2 * 3600)
    assert box.machine.code is Code.MEMBER


def test_a_certificate_that_expired_in_a_drawer_is_replaced_without_a_person() -> None:
    box = Box()
    box.run(60)
    first = box.disk.certificate
    box.mono += LIFE + 200 * DAY
    box.clock_error = -(LIFE + 200 * DAY)  # no battery: the clock stands where it stood
    box.boot()
    box.run(300)
    assert box.machine.code is Code.MEMBER and box.disk.certificate != first
    assert Code.EXPIRED in box.codes and not box.authority.quarantined
    assert len(box.authority.issued) == 2


def test_a_clock_that_says_2040_costs_nothing() -> None:
    box = Box()
    box.run(60)
    box.clock_error = 14 * 365 * DAY
    box.boot()
    box.run(300)
    assert box.machine.code is Code.MEMBER and len(box.authority.issued) == 1


def test_a_clock_at_1970_renews_when_it_is_due() -> None:
    box = Box()
    box.run(60)
    box.mono += 70 * DAY
    box.clock_error = -START
    box.boot()
    box.run(300)
    assert box.machine.code is Code.MEMBER and len(box.authority.issued) == 2


def test_unknown_waits_for_hours_and_enters_by_itself_once_registered() -> None:
    box = Box()
    box.authority.known = False
    box.run(3 * DAY)
    assert (box.machine.state, box.machine.code) == (S.REFUSED, Code.UNKNOWN)
    tries = [t for t, what in box.attempts if what == "enrol"]
    assert all(3 * 3600 <= b - a <= 9.1 * 3600 for a, b in pairwise(tries)) and 6 <= len(tries) <= 20, tries
    box.authority.known = True
    box.run(9.1 * 3600)
    assert box.machine.code is Code.MEMBER


def test_a_copy_is_noticed_and_both_are_told() -> None:
    box = Box(1)
    box.run(60)
    twin = Box(2)
    twin.disk, twin.mono = type(box.disk)(**vars(box.disk)), box.mono
    twin.authority = box.authority
    twin.boot()
    for _day in range(90):
        box.run(DAY)
        twin.run(DAY)
    assert box.authority.quarantined
    assert Code.CLONE in (box.machine.code, twin.machine.code)
    assert {box.machine.state, twin.machine.state} & {S.CONFLICT, S.REFUSED}


def test_a_released_box_comes_back_without_waiting_for_its_certificate_to_end() -> None:
    """Blocked and released while its certificate is young: the broker's refusal makes it ask with its identity."""
    box = Box()
    box.run(60)
    box.authority.blocked = True
    box.give(on.Doubted())
    box.run(60)
    assert (box.machine.state, box.machine.code) == (S.REFUSED, Code.BLOCKED)
    box.authority.blocked = False
    box.run(9.1 * 3600)
    assert box.machine.code is Code.MEMBER and box.disk.certificate == box.authority.active


def test_doubt_is_heard_once_an_hour() -> None:
    box = Box()
    box.run(60)
    for _minute in range(180):
        box.give(on.Doubted())
        box.run(60)
    assert len(box.authority.issued) == 4, box.authority.issued  # the first, then three hours


def test_identity_lost_but_serial_enrolled_is_a_conflict() -> None:
    box = Box()
    box.run(60)
    box.disk.certificate, box.disk.join_seq = None, None
    box.boot()
    box.run(60)
    assert (box.machine.state, box.machine.code) == (S.CONFLICT, Code.CONFLICT)


def test_a_full_disk_sends_nothing_and_confirms_nothing() -> None:
    box = Box()
    box.disk.full = True
    box.run(3600)
    assert box.machine.code is Code.DISK_FULL
    assert {what for _t, what in box.attempts} == {"challenge"}
    box.disk.full = False
    box.run(1800)
    assert box.machine.code is Code.MEMBER


def test_a_disk_that_fills_after_the_grant_confirms_nothing() -> None:
    box = Box()

    def lose(point: str) -> str:
        if point == "before keep" and box.mono < 3600:
            box.disk.full = True
        return ""

    box.lose = lose
    box.run(3600)
    assert box.authority.active is None and box.machine.code is Code.DISK_FULL
    box.disk.full = False
    box.run(1800)
    assert box.machine.code is Code.MEMBER and len(box.authority.issued) == 1


def test_a_cable_is_noticed_at_once_but_a_flapping_one_does_not_hammer() -> None:
    line: list[Code | None] = [Code.NO_LINK]
    box = Box(network=lambda: line[0])
    box.run(DAY)
    assert box.machine.code is Code.NO_LINK
    line[0] = None
    box.give(on.Moved())
    box.run(10)
    assert box.machine.code is Code.MEMBER
    line[0] = Code.NO_ADDRESS
    flapping = Box(network=lambda: line[0])
    looks = 0
    for _second in range(600):
        flapping.give(on.Moved())
        before = flapping.machine._tried_at
        flapping.run(1)
        looks += flapping.machine._tried_at != before
    assert 60 <= looks <= 130, looks  # every `look_s` (5 s), not each second


def test_movement_does_not_shorten_a_refusal() -> None:
    box = Box()
    box.authority.known = False
    box.run(60)
    wait = box.step.wait_s
    box.give(on.Moved())
    assert box.step.wait_s == wait and box.machine.state is S.REFUSED


def test_nonsense_from_the_server_ends_with_a_fresh_request() -> None:
    machine = _machine(S.CONFIRM, _reply=GOOD)
    for turn in range(PROTOCOL_TRIES):
        step = machine.handle(Failed(Code.PROTOCOL, "400"), NOW)
        assert step is not None
        if turn < PROTOCOL_TRIES - 1:
            assert step.state is S.WAITING
            machine.state = S.CONFIRM
    assert machine.state is S.FORGET
    step = machine.handle(on.Forgotten(), NOW)
    assert step is not None and step.state is S.WAITING and step.wait_s is not None
    machine.handle(on.Due(), NOW)
    step = machine.handle(on.Clear(), NOW)
    assert step is not None and step.state is S.CHALLENGE


def test_a_request_that_may_have_been_granted_is_never_given_up() -> None:
    """Forty answers that make no sense to a box whose request was granted each time: another request would come with
    an old join state and look like a copy's."""
    turns = [0]

    def lose(point: str) -> str:
        turns[0] += point == "reply renew"
        return "nonsense" if point == "reply renew" and turns[0] <= 40 else ""

    box = Box(lose=lose)
    box.run(75 * DAY)
    assert turns[0] == 41 and box.machine.code is Code.MEMBER
    assert len(box.authority.issued) == 2 and not box.authority.quarantined


def test_a_certificate_that_the_authority_does_not_take_leads_back_to_the_identity() -> None:
    """Its store was restored from a backup that is older than the certificate."""
    box = Box()
    box.run(60)
    box.authority.active = None
    box.run(62 * DAY)
    assert box.machine.code is Code.MEMBER and box.disk.certificate == box.authority.active
    assert [what for _t, what in box.attempts if what != "challenge"] == [
        "enrol",
        "confirm",
        "renew",
        "enrol",
        "confirm",
    ]


def test_decommissioning_tells_first_and_survives_a_cut() -> None:
    cuts = ["between keys and mark"]
    box = Box(lose=lambda point: "power" if point in cuts and not cuts.remove(point) else "")
    box.run(60)
    box.give(on.Leave())
    box.run(60)
    assert box.told and not cuts and box.disk.decommissioned and not box.disk.identity
    assert box.machine.code is Code.DECOMMISSIONED
    box.boot()
    box.run(DAY)
    assert box.machine.state is S.DECOMMISSIONED and box.attempts[-1][1] == "leave"


def test_decommissioning_offline_erases_after_a_few_tries() -> None:
    box = Box()
    box.run(60)
    box.authority.down = True
    box.give(on.Leave())
    box.run(1800)
    assert not box.told and box.disk.decommissioned
    assert sum(what == "leave" for _t, what in box.attempts) == TELL_TRIES
    assert "could not be told" in box.machine.detail


# -- waiting


@given(st.integers(0, 2**32), st.integers(0, 400), st.floats(0, 30 * DAY))
def test_back_off_is_bounded_jittered_and_never_ends(seed: int, tries: int, failing: float) -> None:
    times = EnrolIntervals()
    wait = backoff.after_failure(times, random.Random(seed), tries, failing)
    if failing < DAY:
        assert 0 <= wait <= min(900, 5 * 2 ** min(tries, 30))
    else:
        assert 1800 <= wait <= 5400


def test_full_jitter_is_uniform() -> None:
    rnd, times = random.Random(3), EnrolIntervals()
    waits = sorted(backoff.after_failure(times, rnd, 12, 0.0) for _ in range(4000))
    worst = max(abs(wait / 900 - i / 4000) for i, wait in enumerate(waits))
    assert worst < 0.03, worst  # Kolmogorov-Smirnov: 0.0258 at 1 %


@given(st.integers(0, 2**32), st.floats(0.001, 10 * DAY))
def test_retry_after_is_obeyed_up_to_a_day(seed: int, asked: float) -> None:
    wait = backoff.as_asked(EnrolIntervals(), random.Random(seed), asked)
    assert min(asked, DAY) <= wait <= 1.1 * min(asked, DAY) + 5


def test_renewal_is_due_at_two_thirds() -> None:
    box = Box()
    box.run(30)
    box.run(59 * DAY)
    assert len(box.authority.issued) == 1
    box.run(2 * DAY)
    assert len(box.authority.issued) == 2
