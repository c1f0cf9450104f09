"""Numbers enforced in the box, whoever signed: what an attacker who holds the online steering key cannot go beyond.

`check_desired` and `check_command` are functions of the document and the time; what needs the filter's own state (hours
of isolation used up, local lifts, the built-in never-block list, pseudonyms) is checked there with the numbers here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from vigie.contract import downward, targets
from vigie.contract.downward import Command, Desired, Exemption, Isolation, Quarantine
from vigie.contract.errors import ContractError
from vigie.contract.words import Code, RuleAction

HOUR_S: Final = 3600
DAY_S: Final = 86_400

DESIRED_LIFE_MAX_S: Final = 400 * DAY_S
COMMAND_LIFE_MAX_S: Final = DAY_S
FUTURE_MAX_S: Final = 600
"""How far ahead of a trusted clock of the box a document may have been issued."""

TEMPORARY_MAX_S: Final = 4 * HOUR_S
"""Longest `until` of isolation >= TEMPORARY_LEVEL and of a quarantine, from `issued` and from now."""
TEMPORARY_LEVEL: Final = 2
ISOLATION_BUDGET_S: Final = 4 * HOUR_S
ISOLATION_WINDOW_S: Final = DAY_S
"""At most ISOLATION_BUDGET_S of isolation >= TEMPORARY_LEVEL ordered online in any ISOLATION_WINDOW_S."""
LIFT_BAR_S: Final = DAY_S
"""After a local lift, no new online isolation for that long."""
MASS_ONLINE_MAX: Final = 5
"""Boxes in one mass order without the offline second signature."""

EXCEPTIONS_MAX: Final = downward.EXCEPTIONS_MAX
NEVER_BLOCK_MAX: Final = downward.NEVER_BLOCK_MAX
BLOCK_PREFIX4_MIN: Final = 24
BLOCK_PREFIX6_MIN: Final = 48
ALLOW_PREFIX4_MIN: Final = 16
ALLOW_PREFIX6_MIN: Final = 32
"""Allow, observe and never-block: one order must not switch the base off by allowing every address."""

COMMANDS_PER_HOUR: Final = 30
VERSION_JUMP_MAX: Final = 1_000_000
"""Largest step of a version (desired state, base) without an offline signature: whoever holds the online key once must
not use up all the numbers, so that no later order is ever newer."""

BASE_PREFIX4_MIN: Final = 16
BASE_PREFIX6_MIN: Final = 32
BASE_ADDED_MAX: Final = 0.20
"""Largest growth of the covered address space, as a share of the space covered before."""
BASE_KEPT_MIN: Final = 0.5
"""Fewest entries, as a share of the entries before."""


class OrderRefused(ContractError):
    """A whole order is refused; `code` goes into the `ack`."""

    def __init__(self, code: Code, reason: str) -> None:
        self.code = code
        super().__init__(f"{code.value}: {reason}")


@dataclass(frozen=True, slots=True)
class Part:
    """One part that is refused, and where it stands: `exceptions[3]`."""

    what: str
    code: Code

    @property
    def detail(self) -> str:
        """As in `ack.detail`."""
        return f"{self.what}:{self.code.value}"


@dataclass(frozen=True, slots=True)
class Checked:
    """What remains of a desired state: times cut to their limit, refused parts left out and listed."""

    desired: Desired
    refused: tuple[Part, ...]


def check_desired(
    desired: Desired, *, box: str, now: float, trusted: bool, second_signed: bool, newer_than: int = 0
) -> Checked:
    """Judges a desired state whose signature is right. OrderRefused when nothing of it may be used.

    now: the box's time, `trusted` or not (an untrusted clock may be far behind: it cannot say "issued in the future").
    second_signed: enough offline keys signed too. newer_than: the version in force; an equal one is older.

    Temporary parts are cut to TEMPORARY_MAX_S from now as well: an `issued` in the future, or a box's clock that is
    behind, buys nothing.
    """
    if desired.box != box:
        raise OrderRefused(Code.FOREIGN, f"for {desired.box}, this is {box}")
    if desired.version <= newer_than:
        raise OrderRefused(Code.OLDER, f"version {desired.version}, {newer_than} is in force")
    if desired.version > newer_than + VERSION_JUMP_MAX and not second_signed:
        raise OrderRefused(Code.VERSION_JUMP, f"version {desired.version}, {newer_than} is in force")
    _check_times(desired.issued, desired.expires, DESIRED_LIFE_MAX_S, now, trusted)
    if desired.mass is not None:
        if box not in desired.mass:
            raise OrderRefused(Code.FOREIGN, "a mass order that does not name this box")
        if len(desired.mass) > MASS_ONLINE_MAX and not second_signed:
            raise OrderRefused(Code.MASS_UNSIGNED, f"{len(desired.mass)} boxes without the second signature")
    return _parts(desired, now)


def check_command(command: Command, *, box: str, now: float, trusted: bool) -> None:
    """Judges a command whose signature is right; whether it was done already is not known here. OrderRefused."""
    if command.box != box:
        raise OrderRefused(Code.FOREIGN, f"for {command.box}, this is {box}")
    _check_times(command.issued, command.expires, COMMAND_LIFE_MAX_S, now, trusted)


def _check_times(issued: int, expires: int, life: int, now: float, trusted: bool) -> None:
    if expires - issued > life:
        raise OrderRefused(Code.LIFETIME, f"lasts {expires - issued} s, at most {life} s")
    if expires <= now:
        raise OrderRefused(Code.EXPIRED, f"expired {now - expires:.0f} s ago")
    if trusted and issued > now + FUTURE_MAX_S:
        raise OrderRefused(Code.NOT_YET, f"issued {issued - now:.0f} s in the future")


def _parts(desired: Desired, now: float) -> Checked:
    refused = [Part(what, Code.UNKNOWN_FIELD) for what in desired.skipped]
    exceptions: list[Exemption] = []
    for i, exemption in enumerate(desired.exceptions):
        code = exemption_code(exemption, now)
        if code is None:
            exceptions.append(exemption)
        else:
            refused.append(Part(f"exceptions[{i}]", code))
    never_block: list[str] = []
    for i, target in enumerate(desired.never_block):
        if too_short(target, ALLOW_PREFIX4_MIN, ALLOW_PREFIX6_MIN):
            refused.append(Part(f"never_block[{i}]", Code.PREFIX_TOO_SHORT))
        else:
            never_block.append(target)
    isolation = desired.isolation
    if isolation is not None:
        code = isolation_code(isolation, desired.issued, now)
        if code is not None:
            refused.append(Part("isolation", code))
            isolation = None
        elif isolation.level >= TEMPORARY_LEVEL:
            isolation = replace(isolation, until=_cut(isolation.until, now))
    quarantine: list[Quarantine] = []
    for i, one in enumerate(desired.quarantine):
        code = _temporary_code(one.until, desired.issued, now)
        if code is None:
            quarantine.append(replace(one, until=_cut(one.until, now)))
        else:
            refused.append(Part(f"quarantine[{i}]", code))
    kept = replace(
        desired,
        exceptions=tuple(exceptions),
        never_block=tuple(never_block),
        isolation=isolation,
        quarantine=tuple(quarantine),
        skipped=(),
    )
    return Checked(kept, tuple(refused))


def exemption_code(exemption: Exemption, now: float) -> Code | None:
    """Why an exception is refused; None when it is not."""
    if exemption.until <= now:
        return Code.PART_EXPIRED
    blocks = exemption.action is RuleAction.BLOCK
    least4, least6 = (BLOCK_PREFIX4_MIN, BLOCK_PREFIX6_MIN) if blocks else (ALLOW_PREFIX4_MIN, ALLOW_PREFIX6_MIN)
    return Code.PREFIX_TOO_SHORT if too_short(exemption.target, least4, least6) else None


def isolation_code(isolation: Isolation, issued: int, now: float) -> Code | None:
    """Why an isolation is refused; None when it is not. Level 1 only watches: it may last."""
    if isolation.level >= TEMPORARY_LEVEL:
        return _temporary_code(isolation.until, issued, now)
    return Code.PART_EXPIRED if isolation.level and isolation.until <= now else None


def too_short(target: str, least4: int, least6: int) -> bool:
    """Whether a target is a prefix shorter than allowed. A name never is."""
    network = targets.network(target)
    return network is not None and network.prefixlen < (least4 if network.version == 4 else least6)


def _temporary_code(until: int, issued: int, now: float) -> Code | None:
    if until - issued > TEMPORARY_MAX_S:
        return Code.TEMPORARY_TOO_LONG
    return Code.PART_EXPIRED if until <= now else None


def _cut(until: int, now: float) -> int:
    return min(until, int(now) + TEMPORARY_MAX_S)
