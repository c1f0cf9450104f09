"""Whether a wave goes on: what its boxes refuse now, against before and against the boxes outside. Pure.

A base that blocks somebody's work shows as a jump of refusals. Mornings, Mondays and attacks on everybody show as
well, so the same hours a week earlier are the measure, corrected by what the other boxes saw meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vigie_department.base.settings import PublishSettings

#: Counts of a candidate's indicators are shown from that many communes up, and only then: fewer would point at one.
LEAST_COMMUNES: Final = 3


@dataclass(frozen=True, slots=True)
class Refusals:
    """What a group of boxes refused in a time. boxes: in the group; reporting: that sent figures; hours: sums of hours
    that they reported; refusals: packets refused because of the base."""

    boxes: int
    reporting: int
    hours: int
    refusals: int

    @property
    def rate(self) -> float:
        """Per box and hour; 0.0 without figures."""
        return self.refusals / self.hours if self.hours else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The boxes in the wave and the rest, now and in the same hours a week before."""

    wave: Refusals
    wave_before: Refusals
    rest: Refusals
    rest_before: Refusals


@dataclass(frozen=True, slots=True)
class Observed:
    """A candidate's indicator that boxes met. communes: how many."""

    indicator: str
    communes: int
    count: int


@dataclass(frozen=True, slots=True)
class Trial:
    """What the volunteers met. volunteers: communes that try; reporting: of them, those that sent figures."""

    volunteers: int
    reporting: int
    observed: Sequence[Observed]

    def shown(self) -> list[Observed]:
        """What people and files may see: indicators met in `LEAST_COMMUNES` or more, most widespread first."""
        wide = [one for one in self.observed if one.communes >= LEAST_COMMUNES]
        return sorted(wide, key=lambda one: (-one.communes, -one.count, one.indicator))


@dataclass(frozen=True, slots=True)
class Verdict:
    """jump: stop, and why; enough: the figures suffice to go on; reason: in words, either way."""

    jump: bool
    enough: bool
    reason: str


def judge_wave(seen: Comparison, settings: PublishSettings) -> Verdict:
    """A wave of boxes that enforce."""
    wave = seen.wave
    trend = max(1.0, seen.rest.rate / seen.rest_before.rate) if seen.rest_before.rate > 0 else 1.0
    expected = max(settings.jump_floor, seen.wave_before.rate * trend)
    reason = (
        f"{wave.rate:.1f} refusals per box and hour in the wave ({wave.reporting} of {wave.boxes} boxes reported), "
        f"{seen.wave_before.rate:.1f} a week before; others {seen.rest.rate:.1f}, {seen.rest_before.rate:.1f} before"
    )
    if wave.hours and wave.rate > settings.jump_factor * expected:
        return Verdict(True, True, f"jump: {reason}")
    enough = wave.reporting >= settings.least_reporting * wave.boxes
    return Verdict(False, enough, reason if enough else f"too few figures: {reason}")


def judge_trial(trial: Trial, settings: PublishSettings) -> Verdict:
    """Volunteers who only observe. An indicator that much of the fleet meets is in use, not an attack."""
    limit = max(LEAST_COMMUNES, settings.candidate_communes * trial.volunteers)
    common = [one for one in trial.shown() if one.communes >= limit]
    if common:
        worst = ", ".join(f"{one.indicator} ({one.communes} communes)" for one in common[:5])
        return Verdict(True, True, f"{len(common)} new indicators are met in many communes: {worst}")
    reason = f"{trial.reporting} of {trial.volunteers} volunteers reported, {len(trial.shown())} indicators met widely"
    enough = trial.reporting >= settings.least_reporting * trial.volunteers
    return Verdict(False, enough, reason if enough else f"too few figures: {reason}")
