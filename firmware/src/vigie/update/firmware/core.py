"""The decision: one table, (phase, event) -> (next record, action). No clock, no disk, no bus.

    IDLE, WAITING, POSTPONED, GOOD, ROLLED_BACK, FAILED   at rest: an order begins, waits or is refused
        -> DOWNLOADING -> INSTALLING -> REBOOT -> | new system | SOAK -> GOOD
                  |            |           ^      |            |  -> (leaves) | old system | ROLLED_BACK
                  +------------+-> WAITING |      +---- the power went: again
                                           +------ the restart did not try the new slot: again, counted by the notes

The shell writes the record before it does what the action says. So a cut leaves the old record, and the step is done
again, or the new one, and `resume` finds out from the boot loader's notes how far it came. Three rules hold for any
sequence of events and cuts: nothing is installed but a signed release for this board, newer than the running system and
not below the floor; the floor never falls; one order costs at most TRIES_MAX failures and CUTS_MAX cuts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from vigie.contract.firmware import FirmwareOrder, Phase, Severity, UpdateCode
from vigie.update.firmware.record import REST, Record, evidence
from vigie.update.firmware.resume import CUTS_MAX, RETRY_S, resume
from vigie.update.firmware.view import (
    Action,
    Committed,
    Copying,
    Event,
    Facts,
    Installed,
    Judged,
    NotCommitted,
    NotInstalled,
    Postpone,
    Started,
    Turn,
)

HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S
POSTPONE_MAX_S: Final = 7 * DAY_S
"""A mairie may postpone so long, counted from the first sight of the order."""
PATIENCE_S: Final = 7 * DAY_S
"""A box that is never on in its window takes any hour after that."""
PATIENCE_CRITICAL_S: Final = 12 * HOUR_S
STUMBLES_MAX: Final = 40
STUMBLE_S: Final = 300.0
STUMBLE_MAX_S: Final = 6 * HOUR_S
FREE_MIN: Final = 64 << 20
COMMITS_MAX: Final = 10

Result = tuple[Record, Action]
PASSING: Final = frozenset(
    {
        UpdateCode.NO_NETWORK, UpdateCode.EXPIRED, UpdateCode.FROZEN, UpdateCode.CLOCK, UpdateCode.EARLY,
        UpdateCode.NO_SPACE, UpdateCode.UNKNOWN_VERSION, UpdateCode.BAD_SIGNATURE, UpdateCode.TOO_LARGE,
        UpdateCode.MISMATCH, UpdateCode.UNHEALTHY, UpdateCode.WINDOW,
    }
)  # fmt: skip
"""Reasons not to begin that may pass without a new order. The others are shown as failed; they are looked at again all
the same, since a later version of the metadata or of this system may judge otherwise."""


def handle(record: Record, event: Event, facts: Facts) -> Result:
    """The next record and what to do. Events that a phase does not know change nothing."""
    act = TABLE.get((record.phase, type(event)))
    return (record, Action.WAIT) if act is None else act(record, event, facts)


# ---- at rest ------------------------------------------------------------------------------------------------------


def _rest(record: Record, _event: Turn, facts: Facts) -> Result:
    order = facts.order
    if order is None:
        return _no_order(record), Action.WAIT
    if order.order < record.order or (order.order == record.order and record.version not in (None, order.version)):
        return record, Action.WAIT  # orders rise, and one number stands for one version
    if order.order > record.order:
        record = _taken_up(record, order, facts)
    if record.seen > facts.now:  # a clock that went back must not make the patience longer
        record = replace(record, seen=facts.now)
    if facts.running == order.version:
        return _arrived(record, facts), Action.WAIT
    if record.phase is Phase.ROLLED_BACK and facts.now < record.again:
        return record, Action.WAIT  # long enough to be told
    if record.phase is Phase.FAILED and (record.spent or record.cuts > CUTS_MAX or record.stumbles >= STUMBLES_MAX):
        return record, Action.WAIT
    code = obstacle(record, facts)
    if code is not None:
        return _waits(record, code, facts), Action.WAIT
    if facts.now < record.again or facts.offer is None:
        return record, Action.WAIT
    critical = facts.offer.severity is Severity.CRITICAL
    record = replace(record, critical=critical, floor_next=max(record.floor, facts.offer.floor))
    if facts.now < record.until and not critical and facts.now < record.seen + POSTPONE_MAX_S:
        return replace(record, phase=Phase.POSTPONED, code=None, check=None), Action.WAIT
    if not may_disturb(record, facts):
        return replace(record, phase=Phase.WAITING, code=UpdateCode.WINDOW, check=None), Action.WAIT
    return _began(record, Phase.DOWNLOADING, facts), Action.INSTALL


def _no_order(record: Record) -> Record:
    """An order that is withdrawn leaves what was done: only what waits stops waiting."""
    if record.phase in (Phase.WAITING, Phase.POSTPONED):
        return replace(record, phase=Phase.IDLE, code=None, check=None)
    return record


def _taken_up(record: Record, order: FirmwareOrder, facts: Facts) -> Record:
    return Record(version=order.version, order=order.order, phase=Phase.WAITING, floor=record.floor, seen=facts.now)


def _arrived(record: Record, facts: Facts) -> Record:
    """The running system is the one ordered: flashed with it, or committed. (Under trial, the phase is SOAK.)"""
    offer = facts.offer
    floor = max(record.floor, offer.floor) if offer is not None and offer.version == facts.running else record.floor
    return replace(record, phase=Phase.GOOD, code=None, check=None, back=False, floor=floor)


def obstacle(record: Record, facts: Facts) -> UpdateCode | None:
    """Why the order cannot be carried out now; None when it can, hours aside."""
    if not facts.signed:
        return UpdateCode.CLOCK
    if record.version is None or record.version <= facts.running:
        return UpdateCode.OLDER
    if record.version < record.floor:
        return UpdateCode.OLDER
    if facts.offer is None:
        return facts.refusal
    if facts.offer.version != record.version:
        return UpdateCode.UNKNOWN_VERSION
    if facts.offer.bundle(facts.board) is None:
        return UpdateCode.OTHER_BOARD
    if facts.offer.requires is not None and facts.running < facts.offer.requires:
        return UpdateCode.STEP_MISSING
    if facts.now < facts.offer.earliest:
        return UpdateCode.EARLY
    if facts.free < FREE_MIN:
        return UpdateCode.NO_SPACE
    return UpdateCode.UNHEALTHY if facts.ill is not None else None


def _waits(record: Record, code: UpdateCode, facts: Facts) -> Record:
    check = facts.ill if code is UpdateCode.UNHEALTHY else None
    phase = Phase.WAITING if code in PASSING else Phase.FAILED
    return replace(record, phase=phase, code=code, check=check)


def may_disturb(record: Record, facts: Facts) -> bool:
    """Whether the line may be used, or cut for a restart, now."""
    patience = PATIENCE_CRITICAL_S if record.critical else PATIENCE_S
    return facts.quiet or facts.now >= record.seen + patience


def _postpone(record: Record, event: Postpone, facts: Facts) -> Result:
    if record.critical or record.version is None or facts.order is None:
        return record, Action.WAIT
    latest = min(event.until, record.seen + POSTPONE_MAX_S)
    record = replace(record, until=max(0.0, latest))
    if record.phase in (Phase.WAITING, Phase.POSTPONED):
        waits = facts.now < record.until
        record = replace(record, phase=Phase.POSTPONED if waits else Phase.WAITING, code=None, check=None)
    return record, Action.WAIT


# ---- installing ---------------------------------------------------------------------------------------------------


def _began(record: Record, phase: Phase, facts: Facts) -> Record:
    return replace(
        record, phase=phase, code=None, check=None, back=False, boot=facts.boot, since=facts.boottime, evidence=""
    )


def _copying(record: Record, _event: Copying, _facts: Facts) -> Result:
    return replace(record, phase=Phase.INSTALLING), Action.WAIT


def _installed(record: Record, _event: Installed, facts: Facts) -> Result:
    record = replace(record, stumbles=0, before_base=facts.base, before_ports=facts.ports)
    return _began(record, Phase.REBOOT, facts), Action.WAIT


def _not_installed(record: Record, event: NotInstalled, facts: Facts) -> Result:
    record = replace(record, code=event.code, check=None, evidence=evidence(event.detail))
    if event.passing:
        wait = min(STUMBLE_MAX_S, STUMBLE_S * 2 ** min(record.stumbles, 10))
        record = replace(record, stumbles=record.stumbles + 1, again=facts.now + wait)
        over = record.stumbles >= STUMBLES_MAX
    else:
        record = replace(record, tries=record.tries + 1, again=facts.now + RETRY_S)
        over = record.spent
    return replace(record, phase=Phase.FAILED if over else Phase.WAITING), Action.WAIT


# ---- the trial ----------------------------------------------------------------------------------------------------


def _reboot(record: Record, _event: Turn, facts: Facts) -> Result:
    """Installed. After the restart, `resume` says what became of it."""
    order = facts.order
    if order is None or order.order > record.order:  # stopped by the department before it was tried
        return replace(record, phase=Phase.IDLE, code=None, check=None), Action.DROP
    if facts.now < record.until and not record.critical and facts.now < record.seen + POSTPONE_MAX_S:
        return record, Action.WAIT
    return record, Action.TRY if may_disturb(record, facts) else Action.WAIT


def _soak(record: Record, _event: Turn, _facts: Facts) -> Result:
    return record, Action.LEAVE if record.back else Action.EXAMINE


def _judged(record: Record, event: Judged, _facts: Facts) -> Result:
    if record.back:
        return record, Action.LEAVE
    if event.check is None:
        return record, Action.COMMIT
    return replace(
        record, back=True, code=UpdateCode.UNHEALTHY, check=event.check, evidence=evidence(event.evidence)
    ), Action.LEAVE  # fmt: skip


def _committed(record: Record, _event: Committed, _facts: Facts) -> Result:
    return good(record), Action.WAIT


def _not_committed(record: Record, event: NotCommitted, _facts: Facts) -> Result:
    record = replace(record, stumbles=record.stumbles + 1, evidence=evidence(event.detail))
    if record.stumbles < COMMITS_MAX:
        return record, Action.WAIT
    return replace(record, back=True, code=UpdateCode.ACTIVATION_LOST, check=None), Action.LEAVE


def good(record: Record) -> Record:
    """The new system calls itself good: from here on nothing below its floor is installed."""
    return replace(
        record, phase=Phase.GOOD, code=None, check=None, back=False, evidence="", stumbles=0,
        floor=max(record.floor, record.floor_next),
    )  # fmt: skip


def _started(record: Record, _event: Started, facts: Facts) -> Result:
    return resume(record, facts), Action.WAIT


_Act = Callable[[Record, Any, Facts], Result]
TABLE: Final[Mapping[tuple[Phase, type[Event]], _Act]] = MappingProxyType(
    {
        **{(phase, Started): _started for phase in Phase},
        **{(phase, Turn): _rest for phase in REST},
        **{(phase, Postpone): _postpone for phase in (Phase.WAITING, Phase.POSTPONED, Phase.REBOOT)},
        **{(phase, Copying): _copying for phase in (Phase.DOWNLOADING, Phase.INSTALLING)},
        **{(phase, Installed): _installed for phase in (Phase.DOWNLOADING, Phase.INSTALLING)},
        **{(phase, NotInstalled): _not_installed for phase in (Phase.DOWNLOADING, Phase.INSTALLING)},
        (Phase.REBOOT, Turn): _reboot,
        (Phase.SOAK, Turn): _soak,
        (Phase.SOAK, Judged): _judged,
        (Phase.SOAK, Committed): _committed,
        (Phase.SOAK, NotCommitted): _not_committed,
    }
)
