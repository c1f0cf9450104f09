"""Waves as written, boxes in them, the way through required versions, and opening days: pure parts, by table."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.downward import Opening
from vigie.contract.firmware import NO_RELEASE, Version
from vigie_department.errors import UsageError
from vigie_department.rollout import days
from vigie_department.rollout.plan import Candidate, Plan, assign, default_waves
from vigie_department.rollout.steps import Release, next_step

PARIS = ZoneInfo("Europe/Paris")


def fleet(n: int = 698, absent: int = 0) -> list[Candidate]:
    """Boxes of 20 EPCI and, one in a hundred, of a second model."""
    return [Candidate(f"vg-{i:04}", f"EPCI {i % 20}", "b" if i % 100 == 7 else "a", i < absent) for i in range(n)]


class TestAssign:
    def test_the_default_for_698_boxes(self) -> None:
        placed = assign(default_waves(698), fleet(), "2026.11.1")
        assert Counter(placed.values()) == {0: 6, 1: 28, 2: 105, 3: 210, 4: 349}

    def test_the_first_wave_meets_every_model_and_many_epci(self) -> None:
        boxes = {one.box: one for one in fleet()}
        first = [boxes[box] for box, wave in assign(("10",), boxes.values(), "x").items() if wave == 0]
        assert {one.model for one in first} == {"a", "b"}
        assert len({one.epci for one in first}) == 10

    def test_who_is_away_is_not_in_the_first_wave(self) -> None:
        placed = assign(("30",), fleet(698, absent=600), "x")
        assert all(int(box[3:]) >= 600 for box, wave in placed.items() if wave == 0)
        assert len(placed) == 698

    def test_another_release_begins_elsewhere(self) -> None:
        one, other = (assign(("6",), fleet(), salt) for salt in ("2026.11.1", "2026.12.1"))
        assert one == assign(("6",), reversed(fleet()), "2026.11.1")
        assert {box for box in one if one[box] == 0} != {box for box in other if other[box] == 0}

    def test_by_name(self) -> None:
        placed = assign(("box:vg-0003,vg-0005", "epci:EPCI 4", "50%"), fleet(100), "x")
        assert {box for box, wave in placed.items() if wave == 0} == {"vg-0003", "vg-0005"}
        assert {int(box[3:]) % 20 for box, wave in placed.items() if wave == 1} == {4}
        assert Counter(placed.values()) == {0: 2, 1: 5, 2: 43, 3: 50}

    def test_a_wave_that_adds_nobody_is_none(self) -> None:
        assert Counter(assign(("4", "1%", "100%"), fleet(100), "x").values()) == {0: 4, 1: 96}

    @pytest.mark.parametrize("n", [1, 2, 5, 19, 20, 21, 99, 100, 698, 3000])
    def test_the_default_suits_every_fleet(self, n: int) -> None:
        placed = assign(default_waves(n), fleet(n), "x")
        first = sum(wave == 0 for wave in placed.values())
        assert len(placed) == n
        assert first == 1 or first / n < 0.05
        assert set(placed.values()) == set(range(max(placed.values()) + 1))

    @pytest.mark.parametrize(
        "waves",
        [("5",), ("5%",), ("epci:EPCI 1",), ("epci:nowhere",), ("box:vg-9999",), ("0",), ("120%",), ("",), ("most",)],
    )
    def test_refused(self, waves: tuple[str, ...]) -> None:
        with pytest.raises(UsageError):
            assign(waves, fleet(100), "x")

    def test_nobody(self) -> None:
        with pytest.raises(UsageError):
            assign(("1",), [], "x")


class TestPlan:
    def test_as_stored(self) -> None:
        plan = Plan(("6", "20%"), observe_hours=12, through_freeze=True)
        assert Plan.from_dict(plan.to_dict()) == plan

    @pytest.mark.parametrize("wrong", [{"fail_percent": 0}, {"success_percent": 101}, {"in_flight": 0}, {"waves": ()}])
    def test_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(UsageError):
            Plan.from_dict({"waves": ("6",)} | wrong)

    @pytest.mark.parametrize(
        ("size", "limit", "needed"),
        [(1, 1, 1), (2, 1, 2), (3, 2, 2), (6, 2, 5), (7, 2, 6), (28, 2, 26), (349, 18, 315)],
    )
    def test_thresholds(self, size: int, limit: int, needed: int) -> None:
        plan = Plan(("6",))
        assert (plan.limit(size), plan.needed(size)) == (limit, needed)


class TestSteps:
    V = tuple(Version(2026, 1, n) for n in range(9))

    @pytest.mark.parametrize(
        ("running", "requires", "expected"),
        [
            (0, {8: None}, 8),
            (0, {8: 5, 5: None, 4: None}, 5),
            (6, {8: 5, 5: None}, 8),
            (0, {8: 5, 6: 3, 5: 1, 3: None}, 3),
            (3, {8: 5, 7: 3, 6: 3, 5: 3}, 7),
            (0, {8: 5}, None),
            (8, {8: None}, None),
            (0, {7: None}, None),
        ],
    )
    def test_table(self, running: int, requires: dict[int, int | None], expected: int | None) -> None:
        known = [Release(self.V[v], NO_RELEASE if r is None else self.V[r]) for v, r in requires.items()]
        assert next_step(self.V[running], self.V[8], known) == (None if expected is None else self.V[expected])

    @given(
        requires=st.dictionaries(st.integers(1, 8), st.integers(0, 7), max_size=8),
        running=st.integers(0, 7),
    )
    def test_as_a_search_through_all_ways(self, requires: dict[int, int], running: int) -> None:
        known = {v: r for v, r in requires.items() if r < v}

        def length(now: int) -> float:
            """Steps to version 8, by trying them all."""
            if now == 8:
                return 0
            return min((1 + length(v) for v, r in known.items() if r <= now < v), default=float("inf"))

        found = next_step(self.V[running], self.V[8], [Release(self.V[v], self.V[r]) for v, r in known.items()])
        if length(running) == float("inf") or 8 not in known:
            assert found is None
        else:
            assert found is not None
            assert length(self.V.index(found)) == length(running) - 1
            assert known[self.V.index(found)] <= running < self.V.index(found)


class TestDays:
    MONDAY = datetime(2026, 11, 2, 9, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("hours", "usual", "expected"),
        [
            (0, days.WEEKDAYS, 0),
            (47, days.WEEKDAYS, 1),
            (24 * 4, days.WEEKDAYS, 3),
            (24 * 7, days.WEEKDAYS, 4),
            (24 * 7, frozenset({1, 3}), 2),
            (24 * 7, frozenset({5}), 1),
            (-50, days.WEEKDAYS, 0),
            (24 * 14, frozenset(), 0),
        ],
    )
    def test_gone_by(self, hours: float, usual: frozenset[int], expected: int) -> None:
        now = (self.MONDAY + timedelta(hours=hours)).timestamp()
        assert days.gone_by(self.MONDAY.timestamp(), now, usual, PARIS) == expected

    def test_a_day_ends_at_midnight_in_france(self) -> None:
        late = datetime(2026, 11, 2, 23, 30, tzinfo=UTC)  # Tuesday 00:30 in Paris
        assert (
            days.gone_by(late.timestamp(), datetime(2026, 11, 4, 9, tzinfo=UTC).timestamp(), days.WEEKDAYS, PARIS) == 0
        )

    def test_usual(self) -> None:
        assert days.usual([Opening(1, 540, 720), Opening(3, 540, 720)]) == {1, 3}
        assert days.usual([]) == days.WEEKDAYS
        saturdays = [date(2026, 10, 10), date(2026, 10, 17)]
        assert days.usual([], [*saturdays, *saturdays, date(2026, 10, 14)]) == {5}
