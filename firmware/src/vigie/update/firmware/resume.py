"""What a start means for the record: how far did it come before the power, or this service alone, went?

From the boot loader's notes. Pure; one row a case, the first that holds is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from vigie.contract.firmware import NO_RELEASE, Phase, UpdateCode
from vigie.update.boot.outcome import Outcome
from vigie.update.firmware.record import Record
from vigie.update.firmware.view import Facts

CUTS_MAX: Final = 30
"""Installations of one order that a cut ended. Some boxes are switched off every evening; none for months."""
RETRY_S: Final = 2 * 3600.0
"""How long a box shows that it went back before it tries again."""
_BUSY: Final = frozenset({Phase.DOWNLOADING, Phase.INSTALLING})
_TRIED: Final = frozenset({Phase.REBOOT, Phase.SOAK})


def resume(record: Record, facts: Facts) -> Record:
    """The record with which this start goes on."""
    for holds, after in _ROWS:
        if holds(record, facts):
            return after(record, facts)
    return record


def went_back(record: Record, facts: Facts, code: UpdateCode) -> Record:
    """The old system runs again, because the new one did not do: one failed try."""
    tries = record.tries + 1
    record = replace(record, tries=tries, code=code, back=False, again=facts.now + RETRY_S)
    if record.spent:
        return replace(record, phase=Phase.FAILED, code=UpdateCode.TRIES_SPENT)
    return replace(record, phase=Phase.ROLLED_BACK)


def _here(record: Record, facts: Facts) -> bool:
    """Whether the new system runs."""
    return record.version == facts.running


def _restarted(record: Record, facts: Facts) -> bool:
    return record.boot != facts.boot


def _soak(record: Record, facts: Facts) -> Record:
    """The watch begins from its beginning: a power cut in it was neither a failure nor a try."""
    version = facts.running if facts.running > NO_RELEASE else record.version
    code = record.code if record.back else None
    return replace(record, version=version, phase=Phase.SOAK, code=code, boot=facts.boot, since=facts.boottime)


def _cut(record: Record, _facts: Facts) -> Record:
    """An installation was cut: what it wrote is used by the next one."""
    cuts = record.cuts + 1
    phase, code = (Phase.FAILED, UpdateCode.INSTALL) if cuts > CUTS_MAX else (Phase.WAITING, None)
    return replace(record, phase=phase, code=code, check=None, cuts=cuts, back=False)


def _again(record: Record, facts: Facts) -> Record:
    lost = facts.outcome is Outcome.ACTIVATION_LOST
    return replace(
        record, phase=Phase.REBOOT, code=UpdateCode.ACTIVATION_LOST if lost else None, boot=facts.boot,
        since=facts.boottime,
    )  # fmt: skip


def _good(record: Record, _facts: Facts) -> Record:
    """A cut fell between the commit and this record of it."""
    floor = max(record.floor, record.floor_next)
    return replace(record, phase=Phase.GOOD, code=None, check=None, back=False, evidence="", floor=floor)


_Row = tuple[Callable[[Record, Facts], bool], Callable[[Record, Facts], Record]]
_ROWS: Final[tuple[_Row, ...]] = (
    # committed, and not written down
    (lambda r, f: f.outcome is Outcome.COMMITTED and r.phase in _TRIED and _here(r, f), _good),
    # the service alone started again: the watch goes on, the restart is still to come
    (lambda r, f: r.phase in _TRIED and not _restarted(r, f), lambda r, f: r),
    # the new system, under trial; a record that was lost or is about something else gives way
    (lambda r, f: f.outcome is Outcome.ON_TRIAL or (r.phase in _TRIED and _here(r, f)), _soak),
    # an installation
    (lambda r, f: r.phase in _BUSY, _cut),
    # the old system: the new one judged itself unfit
    (lambda r, f: r.phase in _TRIED and r.back, lambda r, f: went_back(r, f, r.code or UpdateCode.UNHEALTHY)),
    # ... did not come up, or died
    (
        lambda r, f: r.phase in _TRIED and f.outcome is Outcome.ROLLED_BACK,
        lambda r, f: went_back(r, f, UpdateCode.NOT_STARTED),
    ),
    # ... or was never reached, or the power went while it was watched: again
    (
        lambda r, f: r.phase in _TRIED and f.outcome in (Outcome.STAGED, Outcome.ACTIVATION_LOST, Outcome.INTERRUPTED),
        _again,
    ),
    # ... or the notes were lost, and with them the trial
    (lambda r, f: r.phase in _TRIED, _cut),
    # it was good once and is not what runs: its slot has rotted
    (lambda r, f: r.phase is Phase.GOOD and not _here(r, f), lambda r, f: went_back(r, f, UpdateCode.NOT_STARTED)),
)
