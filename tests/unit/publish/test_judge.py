"""When a wave stops: tables of figures, and what may be shown of a candidate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie_department.base.judge import LEAST_COMMUNES, Comparison, Observed, Refusals, Trial, judge_trial, judge_wave
from vigie_department.base.settings import PublishSettings

SETTINGS = PublishSettings()


def of(rate: float, boxes: int = 20, reporting: int | None = None, hours: int = 100) -> Refusals:
    reporting = boxes if reporting is None else reporting
    return Refusals(boxes, reporting, hours, int(rate * hours))


@pytest.mark.parametrize(
    ("wave", "before", "rest", "rest_before", "jump"),
    [
        (10, 10, 10, 10, False),
        (19, 10, 10, 10, False),
        (21, 10, 10, 10, True),
        (9.9, 0, 0, 0, False),  # below the floor of 5, doubled
        (10.1, 0, 0, 0, True),
        (40, 10, 30, 10, False),  # everybody sees three times as much: an attack, not the base
        (70, 10, 30, 10, True),
        (21, 10, 2, 10, True),  # a quiet week elsewhere excuses nothing
        (0, 50, 10, 10, False),
    ],
)
def test_jumps(wave: float, before: float, rest: float, rest_before: float, jump: bool) -> None:
    seen = Comparison(of(wave), of(before), of(rest), of(rest_before))
    assert judge_wave(seen, SETTINGS).jump is jump


def test_a_jump_of_the_few_that_report_counts_although_the_others_are_silent() -> None:
    seen = Comparison(of(100, 20, 1), of(1), of(1), of(1))
    assert judge_wave(seen, SETTINGS).jump


def test_silence_is_not_enough_and_no_boxes_are() -> None:
    none = Refusals(0, 0, 0, 0)
    assert judge_wave(Comparison(none, none, none, none), SETTINGS).enough
    quiet = Refusals(20, 0, 0, 0)
    verdict = judge_wave(Comparison(quiet, none, none, none), SETTINGS)
    assert not verdict.enough and not verdict.jump


def test_what_fewer_than_three_communes_met_is_told_to_nobody() -> None:
    rows = [Observed(f"n{n}.example.fr", n, 1000 - n) for n in range(6)]
    trial = Trial(100, 100, rows)
    assert [one.communes for one in trial.shown()] == [5, 4, 3]
    reason = judge_trial(Trial(5, 5, rows), SETTINGS).reason
    assert "n5.example.fr" in reason and "n2.example.fr" not in reason


@given(
    rows=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10**6))), volunteers=st.integers(0, 10),
    reporting=st.integers(0, 10),
)  # fmt: skip
def test_nothing_private_is_ever_shown(rows: list[tuple[int, int]], volunteers: int, reporting: int) -> None:
    observed = [Observed(f"x{i}.example.fr", communes, count) for i, (communes, count) in enumerate(rows)]
    trial = Trial(volunteers, reporting, observed)
    reason = judge_trial(trial, SETTINGS).reason
    for one in observed:
        if one.communes < LEAST_COMMUNES:
            assert one.indicator not in reason
            assert one not in trial.shown()
