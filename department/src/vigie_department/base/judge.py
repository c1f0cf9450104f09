"""Whether a wave goes on: what its boxes refuse now, against before and against the boxes outside. Pure.

A base that blocks somebody's work shows as a jump of refusals. Mornings, Mondays and attacks on everybody show as
well, so the same hours a week earlier are the measure, corrected by what the other boxes saw meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vigie_department.base.settings import PublishSettings
from vigie_department.texts import _

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
    reason = _(
        "{rate} refus par boîtier et par heure dans la vague ({n} boîtiers sur {all} ont rendu compte), {before} une "
        "semaine avant ; les autres {rest}, {rest_before} avant"
    ).format(
        rate=_rate(wave),
        n=wave.reporting,
        all=wave.boxes,
        before=_rate(seen.wave_before),
        rest=_rate(seen.rest),
        rest_before=_rate(seen.rest_before),
    )
    if wave.hours and wave.rate > settings.jump_factor * expected:
        return Verdict(True, True, _("saut des refus : {reason}").format(reason=reason))
    return _unless_silent(wave.reporting >= settings.least_reporting * wave.boxes, reason)


def judge_trial(trial: Trial, settings: PublishSettings) -> Verdict:
    """Volunteers who only observe. An indicator that much of the fleet meets is in use, not an attack."""
    limit = max(LEAST_COMMUNES, settings.candidate_communes * trial.volunteers)
    common = [one for one in trial.shown() if one.communes >= limit]
    if common:
        worst = ", ".join(f"{one.indicator} ({one.communes} communes)" for one in common[:5])
        text = _("{n} nouveaux indicateurs se rencontrent dans beaucoup de communes : {worst}")
        return Verdict(True, True, text.format(n=len(common), worst=worst))
    reason = _("{n} volontaires sur {all} ont rendu compte, {met} indicateurs rencontrés dans {least} communes ou plus")
    return _unless_silent(
        trial.reporting >= settings.least_reporting * trial.volunteers,
        reason.format(n=trial.reporting, all=trial.volunteers, met=len(trial.shown()), least=LEAST_COMMUNES),
    )


def _unless_silent(enough: bool, reason: str) -> Verdict:
    return Verdict(False, enough, reason if enough else _("trop peu de chiffres : {reason}").format(reason=reason))


def _rate(seen: Refusals) -> str:
    return f"{seen.rate:.1f}".replace(".", ",")
