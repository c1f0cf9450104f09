"""Isolation and quarantine ordered online: their ends, their budget, the commune's word, clocks that jump."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.department_policy.world import BOX, DAY, GATEWAY, HOUR, MACS, T0, Isolation, Quarantine, World
from vigie.errors import HostError
from vigie.filter import department_file
from vigie.filter.department import QUARANTINES_ONLINE_MAX, OrderError
from vigie.filter.department_budget import Budget
from vigie.filter.department_layer import FILE
from vigie.filter.local_policy import Isolation as LocalIsolation
from vigie.filter.local_policy import LocalPolicy, Quarantined


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_isolation_holds_until_its_end(world: World) -> None:
    answer = world.isolate(2, 1.0)
    assert answer["status"] == "in_force" and answer["in_force"] == ["isolation", "settings"]
    assert (world.level(), world.effective().isolation.origin) == (2, "department")
    assert world.effective().isolation.until == pytest.approx(T0 + HOUR)
    world.pass_time(HOUR - 5, 5)
    assert world.level() == 2
    world.pass_time(10, 5)
    assert world.level() == 0


def test_level_one_is_no_cut_and_may_last(world: World) -> None:
    world.isolate(1, 300.0)
    world.pass_time(30 * HOUR, 60)
    assert world.level() == 1 and world.layer.to_json()["budget_left_s"] == 4 * HOUR


def test_too_long_is_refused_in_part(world: World) -> None:
    answer = world.isolate(2, 4.5)
    assert answer["status"] == "partial" and world.level() == 0
    assert answer["refused"] == [{"code": "temporary-too-long", "what": "isolation"}]


def test_the_document_of_another_box_an_old_or_a_broken_one_changes_nothing(world: World) -> None:
    world.isolate(2, 1.0)
    before = world.layer.orders
    old = world.document(version=1, isolation=None)
    for payload, box, code in (
        (old.to_bytes(), BOX, None),  # the version in force, offered again: nothing happens
        (world.document(version=3).to_bytes(), "vg-zzzzzzzzzzzzzzzz", "foreign"),
        (b"{}", BOX, "malformed"),
        (world.document(version=4, expires=int(world.unix) + 401 * DAY).to_bytes(), BOX, "lifetime"),
        (world.document(version=5, issued=T0 - 20, expires=T0 - 10).to_bytes(), BOX, "expired"),
        (world.document(version=6, issued=T0 + DAY, expires=T0 + 2 * DAY).to_bytes(), BOX, "not-yet"),
    ):
        if code is None:
            world.layer.order(payload, box, second=False)
        else:
            with pytest.raises(OrderError, match=rf"^\[{code}\]"):
                world.layer.order(payload, box, second=False)
        assert world.layer.orders == before
    world.order(version=20)
    with pytest.raises(OrderError, match=r"^\[older\]"):
        world.order(version=19)


def test_four_hours_in_a_day_and_not_by_the_second_afterwards(world: World) -> None:
    world.isolate(3, 4.0)
    world.pass_time(4 * HOUR + 60, 30)
    assert world.level() == 0
    answer = world.isolate(2, 4.0)
    assert answer["refused"] == [{"code": "isolation-budget", "what": "isolation"}] and world.level() == 0
    world.pass_time(19 * HOUR, 60)
    world.isolate(2, 4.0)  # 23 h after the first began: still nothing left
    assert world.level() == 0
    world.pass_time(2 * HOUR, 30)
    assert world.level() == 0, "an order that met an empty budget does not come back as the day slides on"
    world.isolate(2, 1.0)
    assert world.level() == 2


def test_a_short_budget_ends_the_order_early_also_in_the_kernel(world: World) -> None:
    world.isolate(2, 3.0)
    world.pass_time(3 * HOUR + 1, 30)
    world.isolate(2, 4.0)
    assert world.effective().isolation.until == pytest.approx(world.unix + HOUR, abs=40)
    world.pass_time(HOUR - 60, 30)
    assert world.level() == 2
    world.pass_time(120, 1)
    assert world.level() == 0 and world.refused() == {"isolation": "isolation-budget"}


def test_lifting_early_gives_the_rest_back(world: World) -> None:
    world.isolate(2, 4.0)
    world.pass_time(HOUR, 10)
    world.order()
    world.pass_time(5)
    assert world.layer.to_json()["budget_left_s"] == pytest.approx(3 * HOUR, abs=30)


def test_offline_keys_go_beyond_the_budget(world: World) -> None:
    world.isolate(2, 4.0)
    world.pass_time(4 * HOUR + 60, 30)
    world.isolate(2, 4.0, second=True)
    world.pass_time(4 * HOUR - 60, 60)
    assert world.level() == 2


def test_a_local_lift_holds_against_new_orders_for_a_day(world: World) -> None:
    world.isolate(2, 4.0)
    assert world.layer.lift_isolation() and world.level() == 0
    assert world.refused() == {"isolation": "lifted-locally"}
    world.isolate(3, 4.0)
    assert world.level() == 0 and world.refused() == {"isolation": "lifted-locally"}
    world.restart()
    assert world.level() == 0
    world.power_cut()
    assert world.level() == 0
    world.pass_time(23 * HOUR, 60)
    world.isolate(2, 4.0)
    assert world.level() == 0
    world.pass_time(2 * HOUR, 60)
    world.isolate(2, 4.0)
    assert world.level() == 2


def test_a_local_lift_ends_what_offline_keys_signed_and_only_a_new_one_comes_back(world: World) -> None:
    world.isolate(2, 4.0, second=True)
    assert world.layer.lift_isolation() and world.level() == 0
    world.restart()
    payload = world.document(version=world.version, isolation=Isolation(2, int(world.unix) + HOUR)).to_bytes()
    world.layer.order(payload, BOX, second=True)
    assert world.level() == 0, "the same version again"
    world.isolate(2, 4.0, second=True)
    assert world.level() == 2


def test_nothing_to_lift_bars_nothing(world: World) -> None:
    assert not world.layer.lift_isolation() and not world.layer.lift_quarantine(MACS[0])
    world.isolate(2, 1.0)
    assert world.level() == 2


def test_quarantine_by_pseudonym(world: World) -> None:
    answer = world.order(
        quarantine=(
            Quarantine(world.pseudonym(MACS[0]), T0 + HOUR),
            Quarantine("d-0123456789abcdef", T0 + HOUR),
            Quarantine(world.pseudonym(GATEWAY), T0 + HOUR),
        )
    )
    assert [q.mac for q in world.effective().quarantine] == [MACS[0]]
    assert {r["code"] for r in answer["refused"]} == {"unknown-device"}
    world.seen = (*MACS, GATEWAY)
    world.pass_time(15)
    assert world.refused() == {"quarantine[1]": "unknown-device", "quarantine[2]": "protected-device"}
    assert [q.mac for q in world.effective().quarantine] == [MACS[0]]
    assert world.layer.lift_quarantine(MACS[0])
    world.quarantine(MACS[:2])
    assert [q.mac for q in world.effective().quarantine] == [MACS[1]]


def test_a_device_found_once_stays_found_when_its_name_has_changed(world: World) -> None:
    old = world.pseudonym(MACS[3])
    world.order(quarantine=(Quarantine(old, T0 + 4 * HOUR),))
    for month in (1, 2, 3):
        world.names.turn(world.mono + month * 31 * DAY)
    assert world.pseudonym(MACS[3]) != old
    world.order(quarantine=(Quarantine(old, T0 + 4 * HOUR),))
    assert [q.mac for q in world.effective().quarantine] == [MACS[3]]


def test_a_few_devices_at_once(world: World) -> None:
    world.quarantine(MACS)
    assert [q.mac for q in world.effective().quarantine] == list(MACS[:QUARANTINES_ONLINE_MAX])
    assert world.refused() == {f"quarantine[{i}]": "mass-unsigned" for i in range(QUARANTINES_ONLINE_MAX, len(MACS))}
    world.quarantine(MACS, second=True)
    assert len(world.effective().quarantine) == len(MACS)


def test_four_hours_a_day_for_each_device(world: World) -> None:
    world.quarantine(MACS[:2])
    world.pass_time(2 * HOUR, 30)
    world.quarantine(MACS[1:3])
    world.pass_time(2 * HOUR + 60, 30)
    assert [q.mac for q in world.effective().quarantine] == [MACS[2]]
    assert world.refused() == {"quarantine[0]": "isolation-budget"}
    world.quarantine(MACS[:3])
    held = {q.mac: q.until - world.unix for q in world.effective().quarantine}
    assert held == {MACS[0]: pytest.approx(2 * HOUR, abs=40), MACS[2]: pytest.approx(2 * HOUR, abs=100)}
    world.restart()
    world.pass_time(2 * HOUR + 120, 30)
    world.quarantine(MACS[:3])
    assert world.effective().quarantine == () and len(world.refused()) == 3
    world.isolate(2, 1.0)
    assert world.level() == 2, "the commune's hours are counted apart"
    world.quarantine(MACS[:3], second=True)
    assert len(world.effective().quarantine) == 3


def test_a_device_named_twice_counts_once(world: World) -> None:
    one = Quarantine(world.pseudonym(MACS[0]), T0 + HOUR)
    longer = Quarantine(one.device, T0 + 2 * HOUR)
    world.order(quarantine=(one, longer, one))
    (held,) = world.effective().quarantine
    assert held.mac == MACS[0] and T0 + HOUR - 60 < held.until < T0 + 2 * HOUR + 60


def test_meters_are_forgotten_when_nothing_stands_on_them(world: World) -> None:
    world.quarantine(MACS[:3], 0.1)
    world.pass_time(600, 10)
    assert set(world.on_disk()["meters"]) == set(MACS[:3])
    world.pass_time(DAY + HOUR, 600)
    world.order()
    assert world.on_disk()["meters"] == {}


def test_a_version_far_ahead_needs_offline_keys(world: World) -> None:
    """Whoever holds the online key once must not burn the numbers for ever."""
    world.order()
    world.version += 2_000_000
    with pytest.raises(OrderError, match=r"^\[version-jump\]"):
        world.order()
    world.order(second=True)
    assert world.layer.orders.version > 2_000_000


def test_an_expired_document_keeps_what_is_not_temporary(world: World) -> None:
    world.order(
        isolation=Isolation(1, T0 + 300 * DAY), never_block=("impots.example",), expires=T0 + DAY,
        quarantine=(Quarantine(world.pseudonym(MACS[0]), T0 + 4 * HOUR),),
    )  # fmt: skip
    world.pass_time(DAY + 60, 60)
    assert (world.level(), world.effective().quarantine) == (0, ())
    assert [r.target for r in world.effective().rules] == ["impots.example"]
    assert world.layer.to_json()["status"] == "expired"


@pytest.mark.slow
@pytest.mark.parametrize("jump", [-56 * 365 * DAY, -30 * DAY, -HOUR, HOUR, 14 * 365 * DAY])
def test_a_clock_that_jumps_and_comes_back(world: World, jump: int) -> None:
    """1970 or 2040 for a while: what was ordered neither lasts longer nor is lost, and the budget does not notice."""
    world.isolate(2, 3.0)
    world.pass_time(HOUR, 30)
    world.unix += jump
    world.pass_time(600, 10)
    world.unix -= jump
    world.pass_time(60, 10)
    assert world.level() == 2
    assert world.layer.to_json()["budget_left_s"] == pytest.approx(3 * HOUR - 660, abs=700)
    world.pass_time(2 * HOUR, 30)
    assert world.level() == 0


def test_an_order_that_comes_before_the_clock_is_right(world: World) -> None:
    """At the floor, ten days behind: taken over, and still in force once the time is known."""
    world.unix, world.trusted = T0 - 10 * DAY, False
    payload = world.document(issued=T0, expires=T0 + DAY, isolation=Isolation(2, T0 + 2 * HOUR)).to_bytes()
    world.layer.order(payload, BOX, second=False)
    assert world.level() == 2
    world.pass_time(60)
    world.unix, world.trusted = T0 + 61.0, True
    world.pass_time(30)
    assert world.level() == 2
    world.pass_time(2 * HOUR, 30)
    assert world.level() == 0


def test_the_same_document_again_starts_nothing_anew(world: World) -> None:
    document = world.document(isolation=Isolation(2, T0 + HOUR))
    world.layer.order(document.to_bytes(), BOX, second=False)
    world.pass_time(1800, 30)
    world.unix -= 1800  # as if it came just now
    world.layer.order(document.to_bytes(), BOX, second=False)
    world.pass_time(1860, 30)
    assert world.level() == 0


def test_restarts_and_kills_are_paid_for(world: World) -> None:
    """While the daemon is away the kernel goes on isolating: these hours count."""
    world.isolate(2, 4.0)
    world.pass_time(600, 10)
    world.kill(HOUR)
    assert world.level() == 2
    world.pass_time(600, 10)
    world.restart(HOUR)
    world.pass_time(60, 10)
    assert world.layer.to_json()["budget_left_s"] == pytest.approx(4 * HOUR - 2 * HOUR - 1260, abs=70)


@pytest.mark.slow
def test_power_cuts_buy_no_time(world: World) -> None:
    world.isolate(2, 4.0)
    isolated = 0.0
    for _ in range(400):
        for _ in range(5):
            world.pass_time(20, 10)
            isolated += 20 * (world.level() >= 2)
        world.power_cut(0.0)
        world.unix = T0 + 10.0  # and a clock that is set back each time
        world.version += 1
        world.layer.order(
            world.document(issued=T0, expires=T0 + DAY, isolation=Isolation(2, T0 + 4 * HOUR - 60)).to_bytes(),
            BOX, second=False,
        )  # fmt: skip
    assert 2 * HOUR < isolated <= 4 * HOUR + 60


def test_an_order_that_cannot_be_kept_is_not_in_force(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.order()

    def full(*_args: object) -> None:
        raise HostError("no room")

    monkeypatch.setattr(department_file, "save", full)
    with pytest.raises(HostError):
        world.isolate(2, 1.0)
    assert world.level() == 0 and world.layer.orders.version == 1


def test_local_isolation_and_quarantine_stand_beside_the_ordered_ones(world: World) -> None:
    world.order(isolation=Isolation(2, T0 + HOUR), quarantine=(Quarantine(world.pseudonym(MACS[0]), T0 + HOUR),))
    local = LocalPolicy(
        quarantine=(Quarantined(MACS[0], T0 + 2 * HOUR, T0), Quarantined(MACS[1], T0 + 60, T0)),
        isolation=LocalIsolation(3, T0 + 60.0),
    )
    merged = world.effective(local)
    assert (merged.isolation.level, merged.isolation.origin) == (3, "")
    assert {q.mac: q.until for q in merged.quarantine} == {MACS[0]: T0 + 2 * HOUR, MACS[1]: T0 + 60}
    world.pass_time(120)
    merged = world.effective(local)
    assert (merged.isolation.level, merged.isolation.origin, len(merged.quarantine)) == (2, "department", 1)


def test_the_file_is_for_the_daemon_alone_and_a_bad_one_is_said(world: World) -> None:
    world.quarantine(MACS[:1])
    path = world.folder / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    load = department_file.load
    assert load(path) == world.layer.orders
    for bad in (b"", b"{}", b"[]", b'{"format": 9}', path.read_bytes()[:-20]):
        path.write_bytes(bad)
        with pytest.raises(department_file.OrdersFileError):
            load(path)


_acts = st.lists(
    st.one_of(
        st.tuples(st.just("isolate"), st.integers(5, 240)),
        st.tuples(st.just("quarantine"), st.integers(5, 240)),
        st.tuples(st.just("wait"), st.integers(1, 400)),
        st.tuples(st.just("end"), st.just(0)),
        st.tuples(st.just("jump"), st.integers(-2000, 2000)),
        st.tuples(st.just("restart"), st.integers(0, 30)),
        st.tuples(st.just("kill"), st.integers(0, 30)),
        st.tuples(st.just("power"), st.integers(0, 30)),
    ),
    max_size=24,
)


@pytest.mark.slow
@given(_acts)
@settings(max_examples=40, deadline=None)
def test_never_more_than_four_hours_in_any_day(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, int]]
) -> None:
    """Whoever holds the online key, the clock and the power switch: in any 24 h that the box is on, 4 h at most."""
    world = World(tmp_path_factory.mktemp("w"))
    cut: list[set[str]] = []  # per half minute that the box was on

    def wait(minutes: float) -> None:
        for _ in range(int(minutes * 2)):
            world.pass_time(30, 30)
            policy = world.effective()
            cut.append({""} if policy.isolation.level >= 2 else set())
            cut[-1] |= {q.mac for q in policy.quarantine}
            assert len(policy.quarantine) <= QUARANTINES_ONLINE_MAX

    for act, minutes in acts:
        if act == "isolate":
            world.isolate(2, minutes / 60)
        elif act == "quarantine":
            world.quarantine(MACS[minutes % 4 :], minutes / 60)
        elif act == "wait":
            wait(minutes)
        elif act == "end":
            world.order()
        elif act == "jump":
            world.unix += minutes * 60
        elif act == "power":
            world.power_cut(minutes * 60)
        else:
            before = world.effective()
            held = {q.mac: q.until - world.unix for q in before.quarantine}
            if before.isolation.level >= 2:
                held[""] = before.isolation.until - world.unix
            (world.restart if act == "restart" else world.kill)(minutes * 60.0)
            cut += [{who for who, left in held.items() if i * 30 < left} for i in range(minutes * 2)]
    window = DAY // 30
    for who in ("", *MACS):
        sums = list(itertools.accumulate((who in held for held in cut), initial=0))
        worst = max((sums[min(i + window, len(cut))] - sums[i] for i in range(len(cut))), default=0)
        assert worst * 30 <= 4 * HOUR + 90, (who, acts)


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 3e5), st.floats(1, 5000)), max_size=40), st.floats(0, 4e5))
def test_the_budget_counts_each_second_once(spans: list[tuple[float, float]], at: float) -> None:
    budget = Budget()
    seconds: set[int] = set()
    for first, length in sorted(spans):
        budget = budget.charged(float(int(first)), float(int(first + length)))
        seconds |= set(range(int(first), int(first + length)))
    when = max(at, max((int(f + n) for f, n in spans), default=0))
    used = sum(1 for s in seconds if s >= when - DAY)
    assert budget.left(when) == pytest.approx(max(0, 4 * HOUR - used), abs=1.5)
    assert all(a[1] < b[0] for a, b in zip(budget.spans, budget.spans[1:], strict=False))


def test_a_local_lift_needs_no_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commune is never held by a disk that is full; the lift is kept as soon as there is room."""
    world.order(
        isolation=Isolation(2, T0 + HOUR),
        quarantine=(Quarantine(world.pseudonym(MACS[0]), T0 + HOUR),),
    )
    save = department_file.save

    def full(*_args: object) -> None:
        raise HostError("no room")

    monkeypatch.setattr(department_file, "save", full)
    assert world.layer.lift_isolation() and world.layer.lift_quarantine(MACS[0])
    assert world.level() == 0 and not world.effective().quarantine
    world.pass_time(5)
    assert world.level() == 0 and world.layer.problem == "no room"
    monkeypatch.setattr(department_file, "save", save)
    world.pass_time(5)
    assert world.layer.problem == ""
    world.power_cut()
    assert world.level() == 0 and not world.effective().quarantine


def test_a_lost_clock_file_bars_for_a_day_not_for_years(world: World) -> None:
    world.mono += 700 * DAY
    world.unix += 700 * DAY
    world.isolate(2, 1.0)
    assert world.level() == 2 and world.layer.lift_isolation()
    (world.folder / "service.json").unlink()
    world.power_cut()
    world.isolate(2, 1.0)
    assert world.level() == 0, "the bar stands"
    world.pass_time(DAY, 60.0)
    world.isolate(2, 1.0)
    assert world.level() == 2
