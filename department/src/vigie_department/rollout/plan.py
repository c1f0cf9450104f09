"""The plan of a rollout: its waves, what stops it, and which box is in which wave. Pure.

A wave is written `7` (so many boxes), `20%` (so many of the fleet, those of earlier waves included), `epci:NAME` or
`box:ID,ID`. Whatever no wave names comes in a last one.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from vigie_department.errors import UsageError
from vigie_department.texts import _

FIRST_MAX_PERCENT: Final = 5
"""a bad release is stopped before this much of the fleet has it"""
WAVES_MAX: Final = 20
CANARIES_MAX: Final = 10
_COUNT: Final = re.compile(r"[1-9]\d{0,4}")
_PERCENT: Final = re.compile(r"(\d{1,3})\s*%")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A box that may be in a wave. absent: not heard of for so long that the first wave does without it."""

    box: str
    epci: str = ""
    model: str = ""
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """waves: as written. Percentages are of the boxes of one wave.

    fail_percent, fail_least: a wave stops the rollout once so many of its boxes failed (the larger of both, and never
    more than half of a small wave). success_percent: the next wave begins once so many are good, and `observe_hours`
    after the wave began. silent_days: opening days without a word that count as a failure; late_days: days after which
    a box that only talks does too. absent_days: a box not heard of for longer waits outside until it comes back.
    in_flight: boxes under way at once. through_freeze: goes on in a freeze (critical releases).
    """

    waves: tuple[str, ...]
    success_percent: int = 90
    fail_percent: int = 5
    fail_least: int = 2
    observe_hours: int = 24
    silent_days: int = 3
    late_days: int = 21
    absent_days: int = 14
    in_flight: int = 100
    through_freeze: bool = False

    def __post_init__(self) -> None:
        for name, least, most in (
            ("success_percent", 50, 100),
            ("fail_percent", 1, 50),
            ("fail_least", 1, 50),
            ("observe_hours", 0, 24 * 30),
            ("silent_days", 1, 30),
            ("late_days", 1, 120),
            ("absent_days", 1, 120),
            ("in_flight", 1, 1000),
        ):
            if not least <= getattr(self, name) <= most:
                raise UsageError(
                    _("{name} : entre {least} et {most} est attendu").format(name=name, least=least, most=most)
                )
        if not 1 <= len(self.waves) <= WAVES_MAX:
            raise UsageError(_("un déploiement a de 1 à {n} vagues").format(n=WAVES_MAX))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"waves": list(self.waves)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """As it was stored; a key that a later version wrote is not understood, and says so (TypeError)."""
        return cls(**{**data, "waves": tuple(data["waves"])})

    def limit(self, size: int) -> int:
        """Failures that stop a wave of `size` boxes; 1 at least."""
        wanted = max(self.fail_least, math.ceil(size * self.fail_percent / 100))
        return max(1, min(wanted, math.ceil(size / 2)))

    def needed(self, size: int) -> int:
        """Good boxes that let the next wave begin: never more than failures below the limit leave possible."""
        return max(0, min(math.ceil(size * self.success_percent / 100), size - (self.limit(size) - 1)))


def default_waves(boxes: int) -> tuple[str, ...]:
    """A hundredth of the fleet first (10 boxes at most), then 5, 20 and 50 %."""
    return (str(max(1, min(CANARIES_MAX, boxes // 100))), "5%", "20%", "50%")


def assign(waves: Sequence[str], candidates: Iterable[Candidate], salt: str) -> dict[str, int]:
    """Wave of each box, from 0, without empty ones in between.

    Which box comes when is drawn anew with each release (`salt`), so that it is not always the same mairies that go
    first. UsageError: a wave that cannot be read, a first one of 5 % of the fleet or more.
    """
    fleet = sorted(candidates, key=lambda one: hashlib.sha256(f"{salt}/{one.box}".encode()).digest())
    if not fleet:
        raise UsageError(_("aucun boîtier en service : rien à déployer"))
    wave_of: dict[str, int] = {}
    number = 0
    for text in waves:
        chosen = _chosen(text, fleet, wave_of, first=number == 0)
        if number == 0 and (not chosen or (len(chosen) > 1 and len(chosen) * 100 >= FIRST_MAX_PERCENT * len(fleet))):
            raise UsageError(
                _(
                    "première vague « {text} » : {n} boîtiers sur {all}, il en faut au moins 1 et moins de {most} %"
                ).format(text=text, n=len(chosen), all=len(fleet), most=FIRST_MAX_PERCENT)
            )
        if chosen:
            wave_of |= dict.fromkeys(chosen, number)
            number += 1
    rest = [one.box for one in fleet if one.box not in wave_of]
    return wave_of | dict.fromkeys(rest, number)


def _chosen(text: str, fleet: Sequence[Candidate], taken: Mapping[str, int], *, first: bool) -> list[str]:
    """Boxes that a wave adds."""
    left = [one for one in fleet if one.box not in taken]
    kind, colon, names = text.strip().partition(":")
    if colon and kind == "epci":
        found = [one.box for one in left if one.epci == names.strip()]
        if not any(one.epci == names.strip() for one in fleet):
            raise UsageError(_("« {text} » : aucun boîtier de cet EPCI").format(text=text))
        return found
    if colon and kind == "box":
        wanted = [name.strip() for name in names.split(",") if name.strip()]
        unknown = sorted(set(wanted) - {one.box for one in fleet})
        if unknown:
            raise UsageError(_("« {box} » n'est pas un boîtier en service").format(box=unknown[0]))
        return [one.box for one in left if one.box in wanted]
    if match := _PERCENT.fullmatch(text.strip()):
        if not 1 <= int(match[1]) <= 100:
            raise UsageError(_("« {text} » : de 1 à 100 %").format(text=text))
        wanted_n = len(fleet) * int(match[1]) // 100 - len(taken)
    elif _COUNT.fullmatch(text.strip()):
        wanted_n = int(text)
    else:
        raise UsageError(_("« {text} » : 7, 20%, epci:NOM ou box:ID,ID est attendu").format(text=text))
    pool = _spread([one for one in left if not one.absent]) if first else left
    return [one.box for one in pool[: max(0, wanted_n)]]


def _spread(pool: Sequence[Candidate]) -> list[Candidate]:
    """One of each model first, then one of each EPCI in turn: the first wave should meet what the fleet is made of."""
    models: set[str] = set()
    heads: list[Candidate] = []
    rest: list[Candidate] = []
    for one in pool:
        (rest if one.model in models else heads).append(one)
        models.add(one.model)
    turn: dict[str, int] = {}
    for one in heads:
        turn[one.epci] = turn.get(one.epci, 0) + 1
    ranked: list[tuple[int, Candidate]] = []
    for one in rest:
        ranked.append((turn.get(one.epci, 0), one))
        turn[one.epci] = turn.get(one.epci, 0) + 1
    return heads + [one for _turn, one in sorted(ranked, key=lambda pair: pair[0])]
