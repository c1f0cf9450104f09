"""Power cuts in a whole update: a share of what `make bench-powercut` counts, the write that commits completely."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from tests.support.pi_box import SCENARIOS, Board, Box, End, PiBoard, Release, Scenario, double, single
from tests.support.pi_power import Cut
from tests.support.uboot_board import UbootBoard

EVERY = 11
GOOD = [scenario for scenario in SCENARIOS if scenario.release is Release.GOOD]


def finishes(board: Board, scenario: Scenario, cuts: list[Cut]) -> None:
    run = Box(board, scenario, cuts).finish()
    steps = [run.power.names[cut.step] for cut in cuts]
    assert run.end is End.FINISHED, f"{scenario.name}, cut at {steps} {cuts}: {run.end}: {run.why}"
    assert not run.power.cuts, "every cut that was asked for fell"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_without_a_cut(pi: PiBoard, scenario: Scenario) -> None:
    finishes(pi, scenario, [])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_one_cut(pi: PiBoard, scenario: Scenario) -> None:
    for cut in islice(single(pi, scenario), 0, None, EVERY):
        finishes(pi, scenario, [cut])


@pytest.mark.parametrize("walk", [True, False])
@pytest.mark.parametrize("scenario", GOOD[:2], ids=lambda scenario: scenario.name)
def test_the_commit_torn_in_every_way(tmp_path: Path, scenario: Scenario, walk: bool) -> None:
    """Old, new, mixed at several bytes, erased, unreadable, with its page or alone; with PARTITION_WALK or not."""
    board = PiBoard(tmp_path, walk=walk)
    names = Box(board, scenario, []).finish().power.names
    (step,) = [number for number, name in enumerate(names) if name.startswith("write sector")]
    cuts = [cut for cut in single(board, scenario) if cut.step == step]
    assert len(cuts) > 20
    for cut in cuts:
        finishes(board, scenario, [cut])


@pytest.mark.parametrize("scenario", SCENARIOS[:4], ids=lambda scenario: scenario.name)
def test_two_cuts(pi: PiBoard, scenario: Scenario) -> None:
    for cuts in double(pi, scenario, 8, seed=7):
        finishes(pi, scenario, cuts)


@pytest.mark.parametrize("scenario", SCENARIOS[:6], ids=lambda scenario: scenario.name)
def test_uboot(uboot: UbootBoard, scenario: Scenario) -> None:
    finishes(uboot, scenario, [])
    for cut in islice(single(uboot, scenario), 0, None, 2 * EVERY):
        finishes(uboot, scenario, [cut])


def test_what_was_not_flushed_is_lost(pi: PiBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model sees what it is there for: without the flush of a slot, a cut leaves one that is not whole."""
    monkeypatch.setattr("tests.support.pi_power.Power.flush_slot", lambda power: power.step("no fsync"))
    scenario = GOOD[0]
    power = Box(pi, scenario, []).finish().power
    step = power.names.index("restart")
    ends = {Box(pi, scenario, [Cut(step, way)]).finish().end for way in range(power.ways[step])}
    assert End.BRICKED in ends
