"""698 boxes with faults through the pure engine, every six hours: waves are respected, a bad release stops in the
first one, boxes that were away for months join later, by steps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import pytest

from tests.support.rolloutfleet import BOXES, DAY, GOAL, HOUR, OLD, START, STEP, SimBox, fleet
from vigie.contract.firmware import Version
from vigie_department.rollout.engine import Member, Outcome, Report, Situation, Stage, counts, decide
from vigie_department.rollout.plan import Candidate, Plan, assign, default_waves
from vigie_department.rollout.steps import Release

STEP_H = 6
PARIS = ZoneInfo("Europe/Paris")
RELEASES = (Release(OLD), Release(STEP), Release(GOAL, requires=OLD))


@dataclass
class Simulation:
    """A department in memory: what the tables hold, and what each box's document says."""

    boxes: dict[str, SimBox]
    plan: Plan
    now_is: Situation
    orders: dict[str, tuple[Version, int]] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    began: dict[int, float] = field(default_factory=lambda: {0: START})
    stopped: str = ""

    @classmethod
    def of(cls, boxes: list[SimBox], **settings: int) -> Simulation:
        plan = Plan.from_dict({"waves": default_waves(len(boxes)), **settings})
        away = START - plan.absent_days * DAY
        placed = assign(
            plan.waves, [Candidate(b.name, f"e{n % 20}", "", b.seen < away) for n, b in enumerate(boxes)], "s"
        )
        members = tuple(Member(box, wave) for box, wave in placed.items())
        return cls({b.name: b for b in boxes}, plan, Situation(Stage.RUNNING, GOAL, plan, 0, START, members))

    def report(self, box: SimBox) -> Report:
        return Report(box.running, box.order, box.phase, box.code, box.check, box.seen, box.days)

    def turn(self, now: float, frozen: bool = False) -> None:
        for box in self.boxes.values():
            box.live(now, self.orders.get(box.name))
        before = self.now_is
        done = decide(
            before, {b.name: self.report(b) for b in self.boxes.values()}, RELEASES, now=now, frozen=frozen, zone=PARIS
        )
        members = {one.box: one for one in before.members}
        members |= {one.box: one for one in done.changed} | {one.box: one for one in done.withdrawn}
        for one in done.withdrawn:
            del self.orders[one.box]
        for name, step in done.orders:
            assert members[name].wave <= (before.wave if done.wave is None else done.wave)
            number = self.told[name] = self.told.get(name, 0) + 1
            self.orders[name] = (step, number)
            members[name] = members[name].ordered(step, number, now)
        if done.wave is not None:
            # the wave before had what it needed, and its time
            last = counts(members.values(), self.plan, before.wave)[before.wave]
            assert last.good >= last.needed
            assert last.failed < last.limit
            assert now - before.wave_since >= self.plan.observe_hours * HOUR
            self.began[done.wave] = now
        if done.stopped_by is not None:
            self.stopped = f"{done.stopped_by.wave}: {done.stopped_by.failed}/{done.stopped_by.size}"
        self.now_is = Situation(
            done.stage or before.stage,
            GOAL,
            self.plan,
            before.wave if done.wave is None else done.wave,
            before.wave_since if done.wave is None else now,
            tuple(members.values()),
        )

    def run(self, days: int) -> Simulation:
        for hour in range(0, 24 * days, STEP_H):
            self.turn(START + hour * HOUR)
        return self

    def outcomes(self) -> Counter[Outcome]:
        return Counter(one.outcome for one in self.now_is.members)


def test_a_good_release_reaches_everybody() -> None:
    sim = Simulation.of(fleet(1, faults=False)).run(25)
    assert sim.now_is.stage is Stage.DONE
    assert sim.outcomes() == {Outcome.GOOD: BOXES}
    assert sorted(sim.began) == [0, 1, 2, 3, 4]
    assert set(sim.told.values()) == {1}


@pytest.mark.parametrize("seed", [1, 2])
def test_faults_here_and_there_stop_nothing(seed: int) -> None:
    boxes = fleet(seed)
    # a wave of 28 tolerates one: the faulty ones are not in the small waves
    sim = Simulation.of(boxes)
    small = {one.box for one in sim.now_is.members if one.wave < 2}
    for box in boxes:
        if box.name in small:
            box.fate = "good"
    sim.run(60)
    assert sim.now_is.stage is Stage.DONE, sim.stopped
    found = sim.outcomes()
    bad = sum(box.fate != "good" for box in boxes)
    assert bad > 0
    assert found == {Outcome.GOOD: BOXES - bad, **_failures(boxes)}
    # those away for months and those too old came by the step that the release requires
    away = [box for box in boxes if box.back]
    assert len(away) > 20
    for box in boxes:
        if box.fate == "good" and any(text.endswith(str(STEP)) for _at, text in box.history):
            assert [text for _at, text in box.history if "good" in text] == [f"good {STEP}", f"good {GOAL}"]
    assert sum(box.running == GOAL for box in away) == sum(box.fate == "good" for box in away)


def _failures(boxes: list[SimBox]) -> dict[Outcome, int]:
    dead = sum(box.fate == "dies" for box in boxes)
    failed = sum(box.fate == "failed" for box in boxes)
    return {outcome: n for outcome, n in ((Outcome.SILENT, dead), (Outcome.FAILED, failed)) if n}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("bad", "fate"), [(1.0, "rolled-back"), (0.6, "rolled-back"), (1.0, "dies"), (1.0, "failed")])
def test_a_bad_release_stops_before_5_percent(seed: int, bad: float, fate: str) -> None:
    boxes = fleet(seed, bad=bad, faults=False)
    for box in boxes:
        if box.fate != "good":
            box.fate = fate
    sim = Simulation.of(boxes).run(20)
    assert sim.now_is.stage is Stage.STOPPED
    assert sim.now_is.wave == 0
    assert len(sim.told) < 0.05 * BOXES
    assert sum(box.order > 0 for box in boxes) < 0.05 * BOXES
    # nothing is left in any document that a box could still begin
    assert not sim.orders


def test_a_release_that_goes_bad_late_stops_in_its_wave() -> None:
    """One in five fails: the few of the first wave may all be lucky, the next one is not."""
    boxes = fleet(7, bad=0.2, faults=False)
    sim = Simulation.of(boxes)
    lucky = {one.box for one in sim.now_is.members if one.wave == 0}
    for box in boxes:
        if box.name in lucky:
            box.fate = "good"
    sim.run(20)
    assert sim.now_is.stage is Stage.STOPPED
    assert sim.now_is.wave == 1
    assert len(sim.told) <= 34
    assert len(sim.told) < 0.05 * BOXES


def test_a_freeze_in_the_middle() -> None:
    sim = Simulation.of(fleet(3, faults=False))
    freeze = range(24 * 8, 24 * 15)
    began: list[float] = []
    for hour in range(0, 24 * 40, STEP_H):
        sim.turn(START + hour * HOUR, frozen=hour in freeze)
        if hour == freeze.stop - STEP_H:
            edge = START + (freeze.start + 2) * HOUR
            began = [at for box in sim.boxes.values() for at, text in box.history if "good" in text and at > edge]
    assert began == []
    assert sim.now_is.stage is Stage.DONE
    assert sim.outcomes() == {Outcome.GOOD: BOXES}
