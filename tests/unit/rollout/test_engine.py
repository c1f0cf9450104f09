"""The engine, by table: what each word of a box and each moment makes of a rollout."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.firmware import NO_RELEASE, Phase, Version, parse_version
from vigie_department.rollout.engine import (
    DAY_S,
    HOUR_S,
    NO_WAY,
    Decision,
    Member,
    Outcome,
    Report,
    Situation,
    Stage,
    counts,
    decide,
)
from vigie_department.rollout.plan import Plan
from vigie_department.rollout.steps import Release

OLD, GOAL = parse_version("2026.9.1"), parse_version("2026.11.2")
RELEASES = (Release(OLD), Release(GOAL))
PARIS = ZoneInfo("Europe/Paris")
MONDAY = datetime(2026, 11, 2, 9, 0, tzinfo=UTC).timestamp()
PLAN = Plan(waves=("7", "50%"))


def at(days: float = 0.0) -> float:
    return MONDAY + days * DAY_S


def step(
    members: list[Member],
    reports: dict[str, Report],
    *,
    stage: Stage = Stage.RUNNING,
    wave: int = 0,
    since: float = MONDAY,
    now: float = MONDAY,
    frozen: bool = False,
    plan: Plan = PLAN,
    releases: tuple[Release, ...] | None = RELEASES,
) -> Decision:
    now_is = Situation(stage, GOAL, plan, wave, since, tuple(members))
    return decide(now_is, reports, releases, now=now, frozen=frozen, zone=PARIS)


def told(**changes: object) -> Member:
    """A box that got order 1 on Monday morning."""
    return replace(Member("a", 0).ordered(GOAL, 1, MONDAY), **changes)  # type: ignore[arg-type]


def says(phase: str, *, order: int = 1, running: Version = OLD, seen: float = MONDAY, **more: object) -> Report:
    return Report(running, order, phase, seen=seen, **more)  # type: ignore[arg-type]


# member, report, days after Monday 10:00 -> outcome
OUTCOMES = [
    ("no word yet", told(), says("", order=0), 2, Outcome.ORDERED),
    ("the new system says so", told(), says("good", running=GOAL), 1, Outcome.GOOD),
    ("the old system's word counts for nothing", told(), says("good"), 1, Outcome.ORDERED),
    ("it runs, and is not sure yet", told(), says("soak", running=GOAL), 1, Outcome.ORDERED),
    ("it runs a later one by hand", told(), says("idle", order=0, running=parse_version("2026.12.1")), 1, Outcome.GOOD),
    ("it went back", told(), says("rolled-back", code="unhealthy", check="forward"), 1, Outcome.FAILED),
    ("it gave up", told(), says("failed", code="no-space"), 1, Outcome.FAILED),
    ("an older order went wrong", told(order=2), says("rolled-back", order=1), 1, Outcome.ORDERED),
    ("it tries again by itself", told(outcome=Outcome.FAILED), says("installing"), 1, Outcome.FAILED),
    ("and manages", told(outcome=Outcome.FAILED), says("good", running=GOAL), 1, Outcome.GOOD),
    ("silent for two opening days", told(), says("", order=0), 3, Outcome.ORDERED),
    ("silent for three", told(), says("", order=0), 4, Outcome.SILENT),
    ("three days, two of them its own", told(), says("", order=0, days=frozenset({1, 3})), 4, Outcome.ORDERED),
    ("online, and deaf to the order", told(), says("idle", order=0, seen=at(4)), 4, Outcome.SILENT),
    ("it answered on Wednesday", told(), says("waiting", seen=at(2)), 5, Outcome.ORDERED),
    ("and not since", told(), says("waiting", seen=at(2)), 8.1, Outcome.SILENT),
    ("a weekend is no opening day", told(ordered_at=at(3)), says("", order=0), 7, Outcome.ORDERED),
    ("it postpones for ever", told(), says("postponed", seen=at(22)), 22, Outcome.LATE),
    ("back after silence", told(outcome=Outcome.SILENT), says("good", running=GOAL, seen=at(30)), 30, Outcome.GOOD),
    ("taken out of service", told(), says("installing", serving=False), 1, Outcome.LEFT),
    ("away for a fortnight", Member("a", 1), says("", order=0, seen=at(-15)), 0, Outcome.ABSENT),
    ("back from it", Member("a", 1, Outcome.ABSENT), says("", order=0), 0, Outcome.WAITING),
    ("put back by hand", told(outcome=Outcome.GOOD), says("idle", order=0), 0, Outcome.WAITING),
]


@pytest.mark.parametrize(
    ("member", "report", "days", "expected"), [row[1:] for row in OUTCOMES], ids=[r[0] for r in OUTCOMES]
)
def test_outcome(member: Member, report: Report, days: float, expected: Outcome) -> None:
    # nine boxes beside it, so that its failure alone stops nothing
    others = [replace(told(), box=f"b{n}", outcome=Outcome.GOOD) for n in range(9)]
    reports = {"a": report} | {one.box: says("good", running=GOAL) for one in others}
    plan = replace(PLAN, observe_hours=720)
    done = step([member, *others], reports, now=at(days), plan=plan)
    found = {one.box: one for one in done.changed}.get("a", member)
    assert found.outcome is expected
    if expected is Outcome.FAILED and report.phase in ("failed", "rolled-back"):
        assert (found.code, found.check) == (report.code, report.check)
    assert done.stage is not Stage.STOPPED


class TestWaves:
    def fleet(self, first: int = 7, second: int = 40) -> list[Member]:
        return [Member(f"a{n}", 0) for n in range(first)] + [Member(f"b{n}", 1) for n in range(second)]

    def test_only_the_first_wave_is_told(self) -> None:
        members = self.fleet()
        done = step(members, {one.box: says("", order=0) for one in members})
        assert {box for box, _version in done.orders} == {f"a{n}" for n in range(7)}
        assert (done.wave, done.stage, done.withdrawn) == (None, None, ())

    def after(self, good: int, failed: int, ordered: int, hours: float = 25) -> Decision:
        results = [Outcome.GOOD] * good + [Outcome.FAILED] * failed + [Outcome.ORDERED] * ordered
        members = self.fleet()
        words = {one.box: says("", order=0, seen=MONDAY) for one in members}
        for n, result in enumerate(results):
            members[n] = replace(members[n].ordered(GOAL, 1, MONDAY), outcome=result)
            good_now = result is Outcome.GOOD
            words[f"a{n}"] = says("good", running=GOAL) if good_now else says("waiting")
        return step(members, words, now=MONDAY + hours * HOUR_S)

    @pytest.mark.parametrize(
        ("good", "failed", "ordered", "hours", "wave", "stage"),
        [
            (7, 0, 0, 25, 1, None),
            (7, 0, 0, 23, None, None),
            (6, 0, 1, 25, 1, None),
            (5, 0, 2, 25, None, None),
            (6, 1, 0, 25, 1, None),
            (5, 1, 1, 25, None, None),
            (5, 2, 0, 25, None, Stage.STOPPED),
            (0, 2, 5, 0, None, Stage.STOPPED),
        ],
    )
    def test_the_next_one(
        self, good: int, failed: int, ordered: int, hours: float, wave: int | None, stage: Stage | None
    ) -> None:
        done = self.after(good, failed, ordered, hours)
        assert (done.wave, done.stage) == (wave, stage)
        assert len(done.orders) == (40 if wave else 0)

    def test_a_stop_takes_back_what_was_not_begun(self) -> None:
        members = [replace(one.ordered(GOAL, 1, MONDAY), box=one.box) for one in self.fleet(7, 0)]
        members[1] = replace(members[1], outcome=Outcome.SILENT)
        phases = ["rolled-back", "waiting", "rolled-back", "installing", "downloading", "good", ""]
        words = {f"a{n}": says(phase, running=GOAL if phase == "good" else OLD) for n, phase in enumerate(phases)}
        done = step(members, words)
        assert done.stage is Stage.STOPPED
        assert done.stopped_by is not None
        assert (done.stopped_by.wave, done.stopped_by.failed, done.stopped_by.limit) == (0, 3, 2)
        kept = {one.box: one.outcome for one in done.withdrawn}
        assert kept == {
            "a0": Outcome.FAILED,
            "a1": Outcome.SILENT,
            "a2": Outcome.FAILED,
            "a4": Outcome.WAITING,
            "a5": Outcome.GOOD,
            "a6": Outcome.WAITING,
        }
        assert not any(one.stands for one in done.withdrawn)
        assert done.orders == ()

    def test_an_earlier_wave_stops_it_too(self) -> None:
        members = [replace(told(), box=f"a{n}", outcome=Outcome.GOOD) for n in range(7)] + [Member("b", 1)]
        words = {f"a{n}": says("good", running=GOAL) for n in range(5)}
        words |= {f"a{n}": says("rolled-back") for n in (5, 6)} | {"b": says("")}
        done = step(members, words, wave=1)
        assert (done.stage, done.orders) == (Stage.STOPPED, ())

    def test_a_first_wave_that_is_away_proves_nothing(self) -> None:
        members = [replace(told(), box="a0", outcome=Outcome.GOOD)]
        members += [Member(f"a{n}", 0, Outcome.ABSENT) for n in range(1, 7)] + [Member("b", 1)]
        words = {"a0": says("good", running=GOAL), "b": says("")}
        assert step(members, words, now=at(0.9)).wave is None
        assert step(members, words, now=at(9)).wave is None

    def test_room(self) -> None:
        members = [Member(f"a{n}", 0) for n in range(30)]
        members[0] = replace(told(), box="a0")
        done = step(members, {one.box: says("") for one in members}, plan=replace(PLAN, in_flight=5))
        assert len(done.orders) == 4

    def test_the_last_wave_ends_it_and_late_boxes_are_still_told(self) -> None:
        members = [replace(told(), box=f"a{n}", outcome=Outcome.GOOD) for n in range(20)]
        members.append(Member("z", 0, Outcome.ABSENT))
        words = {f"a{n}": says("good", running=GOAL) for n in range(20)}
        assert step(members, words, now=at(2)).stage is Stage.DONE
        back = words | {"z": says("", order=0, seen=at(60))}
        done = step(members, back, now=at(60), stage=Stage.DONE)
        assert done.orders == (("z", GOAL),)

    def test_done_is_not_safe_from_a_stop(self) -> None:
        members = [replace(told(), box=f"a{n}", outcome=Outcome.GOOD) for n in range(20)]
        words = {f"a{n}": says("good" if n > 1 else "rolled-back", running=GOAL if n > 1 else OLD) for n in range(20)}
        assert step(members, words, stage=Stage.DONE).stage is Stage.STOPPED

    def test_what_was_forgiven_counts_no_more(self) -> None:
        members = [replace(told(), box=f"a{n}", outcome=Outcome.GOOD) for n in range(20)]
        members[0] = replace(members[0], outcome=Outcome.FAILED, forgiven=True)
        words = {f"a{n}": says("good", running=GOAL) for n in range(1, 20)} | {"a0": says("failed")}
        done = step(members, words, now=at(2))
        assert (done.stage, done.counts[0].failed, done.counts[0].size) == (Stage.DONE, 0, 19)

    @pytest.mark.parametrize("stage", [Stage.PLANNED, Stage.SUPERSEDED])
    def test_nothing_happens_before_and_after(self, stage: Stage) -> None:
        assert step([Member("a", 0)], {"a": says("")}, stage=stage) == Decision()

    def test_a_pause_listens_and_tells_nobody(self) -> None:
        members = [told(), Member("b", 0), Member("c", 0)]
        words = {"a": says("good", running=GOAL), "b": says(""), "c": says("")}
        done = step(members, words, stage=Stage.PAUSED, now=at(2))
        assert [one.outcome for one in done.changed] == [Outcome.GOOD]
        assert (done.orders, done.withdrawn, done.wave, done.stage) == ((), (), None, None)

    def test_without_the_repository_it_still_stops(self) -> None:
        members = [replace(told(), box=f"a{n}") for n in range(7)]
        words = {one.box: says("rolled-back") for one in members}
        assert step(members, words, releases=None).stage is Stage.STOPPED
        assert step([Member("a", 0)], {"a": says("")}, releases=None) == Decision(counts=())


class TestFreeze:
    def test_nobody_begins(self) -> None:
        members = [replace(told(), box=f"a{n}") for n in range(4)] + [Member("b", 0)]
        phases = {"a0": "waiting", "a1": "soak", "a2": "good", "a3": "waiting"}
        words = {box: says(p, running=GOAL if p == "good" else OLD) for box, p in phases.items()} | {"b": says("")}
        members[3] = replace(members[3], outcome=Outcome.SILENT)
        done = step(members, words, frozen=True, now=at(2))
        assert {one.box: one.outcome for one in done.withdrawn} == {"a0": Outcome.WAITING, "a3": Outcome.WAITING}
        assert (done.orders, done.wave, done.stage) == ((), None, None)
        # and afterwards they are told again
        after = {one.box: one for one in (*members, *done.changed, *done.withdrawn)}
        again = step(list(after.values()), words, now=at(2))
        assert {box for box, _version in again.orders} == {"a0", "a3", "b"}

    def test_but_a_critical_release_goes_through(self) -> None:
        done = step([Member("a", 0)], {"a": says("")}, frozen=True, plan=replace(PLAN, through_freeze=True))
        assert done.orders == (("a", GOAL),)


class TestSteps:
    STEP = parse_version("2026.10.4")
    KNOWN = (Release(OLD), Release(STEP), Release(GOAL, requires=STEP))

    def test_a_box_that_was_away_for_months_goes_by_steps(self) -> None:
        done = step([Member("a", 0)], {"a": says("", order=0)}, releases=self.KNOWN)
        assert done.orders == (("a", self.STEP),)
        half = replace(told(), step=self.STEP)
        done = step([half], {"a": says("good", running=self.STEP)}, releases=self.KNOWN)
        assert [one.outcome for one in done.changed] == [Outcome.WAITING]
        assert done.orders == (("a", GOAL),)

    def test_no_way_is_a_failure_until_one_is_published(self) -> None:
        known = (Release(OLD), Release(GOAL, requires=self.STEP))
        members = [Member(f"a{n}", 0) for n in range(3)]
        words = {one.box: says("", order=0) for one in members}
        done = step(members, words, releases=known)
        assert {one.code for one in done.changed} == {NO_WAY}
        assert done.stage is Stage.STOPPED
        lost = replace(members[0], outcome=Outcome.FAILED, code=NO_WAY)
        found = step([lost, *members[1:]], words, releases=self.KNOWN)
        assert ("a0", self.STEP) in found.orders


MEMBERS = st.builds(
    Member,
    box=st.uuids().map(str),
    wave=st.integers(0, 3),
    outcome=st.sampled_from(list(Outcome)),
    step=st.sampled_from([None, OLD, GOAL]),
    order=st.integers(0, 3),
    ordered_at=st.floats(at(-40), at(40)),
    stands=st.booleans(),
    forgiven=st.booleans(),
)
REPORTS = st.builds(
    Report,
    running=st.sampled_from([NO_RELEASE, OLD, GOAL]),
    order=st.integers(0, 3),
    phase=st.sampled_from(["", *(one.value for one in Phase)]),
    seen=st.none() | st.floats(at(-60), at(40)),
    days=st.sets(st.integers(0, 6)).map(frozenset),
    serving=st.booleans(),
)


@given(
    rows=st.lists(st.tuples(MEMBERS, REPORTS), min_size=1, max_size=40, unique_by=lambda row: row[0].box),
    stage=st.sampled_from(list(Stage)),
    wave=st.integers(0, 3),
    days=st.floats(0, 40),
    frozen=st.booleans(),
)
def test_whatever_is_stored_the_rules_hold(
    rows: list[tuple[Member, Report]], stage: Stage, wave: int, days: float, frozen: bool
) -> None:
    members = [row[0] for row in rows]
    words = {one.box: report for one, report in rows}
    done = step(members, words, stage=stage, wave=wave, now=at(days), frozen=frozen)
    after = {one.box: one for one in (*members, *done.changed, *done.withdrawn)}
    ordered = [box for box, _version in done.orders]
    # nobody is told twice, out of turn, without need, in a freeze, or in a rollout that does not run
    assert len(ordered) == len(set(ordered))
    reached = wave if done.wave is None else done.wave
    assert reached in (wave, wave + 1)
    for box in ordered:
        assert after[box].outcome is Outcome.WAITING
        assert after[box].wave <= reached
        assert words[box].running < GOAL
        assert words[box].serving
    if frozen or (done.stage or stage) not in (Stage.RUNNING, Stage.DONE):
        assert not ordered
    if frozen:
        assert done.wave is None
    # good is what the new system says, and nothing else
    for one in done.changed:
        if one.outcome is Outcome.GOOD:
            assert words[one.box].running >= GOAL
    # a wave with too many failures never goes on
    if (done.stage or stage) in (Stage.RUNNING, Stage.DONE):
        assert not any(count.bad for count in counts(after.values(), PLAN, wave))
    # the same again changes nothing: a repeated tick is no further step, but for what was withdrawn or told
    if not done.orders and not done.withdrawn:
        again = step(
            list(after.values()), words, stage=done.stage or stage, wave=reached, now=at(days), frozen=frozen,
            since=at(days) if done.wave is not None else MONDAY,
        )  # fmt: skip
        assert again.changed == ()


@given(
    size=st.integers(1, 2000),
    plan=st.builds(
        Plan,
        waves=st.just(("1",)),
        success_percent=st.integers(50, 100),
        fail_percent=st.integers(1, 50),
        fail_least=st.integers(1, 50),
    ),
)
def test_a_settled_wave_goes_on_or_stops(size: int, plan: Plan) -> None:
    """No number of failures leaves a rollout hanging once every box has its result."""
    for failed in {0, 1, plan.limit(size) - 1, plan.limit(size), size}:
        if failed <= size:
            assert failed >= plan.limit(size) or size - failed >= plan.needed(size)
    assert 1 <= plan.limit(size) <= max(1, (size + 1) // 2)
