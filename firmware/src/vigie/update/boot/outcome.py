"""What became of a trial, from what the notes say and why the machine started: one table, no machine."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from .chain import Slot
from .notes import Trial

LOST_MAX: Final = 3
"""restarts into the new slot that never reached userspace, without a fault that was seen: then it counts as failed"""
ARMED_MAX: Final = 10
"""trials of one installation in all: a board that cannot tell a reset from a power cut ends here"""


class Cause(StrEnum):
    """Why this start happened, as far as the board can tell: the guardian's words (firmware/guardian/policy.py)."""

    POWER = "power"
    ORDERLY = "orderly"
    WATCHDOG = "watchdog"
    PANIC = "panic"
    WARM = "warm"
    """a reset while it had power"""
    UNKNOWN = "unknown"


FAULTS: Final = frozenset({Cause.WATCHDOG, Cause.PANIC, Cause.WARM})


class Outcome(StrEnum):
    """Of the trial that the notes tell of, seen from the slot that runs now."""

    NONE = "none"
    """no trial, the committed slot runs"""
    STAGED = "staged"
    """installed, never activated"""
    ON_TRIAL = "on-trial"
    """what runs is not what an ordinary start takes: check, soak, then mark_good, or set_state bad and restart"""
    COMMITTED = "committed"
    """this is the new slot and ordinary starts take it: a cut fell between the commit and its note; `start` ends it"""
    ACTIVATION_LOST = "activation-lost"
    """the old slot runs, the new one never reached userspace, no fault seen: flag or power was lost; activate again"""
    INTERRUPTED = "interrupted"
    """the old slot runs, the new one had reached userspace, power went: neither failure nor attempt; activate again"""
    ROLLED_BACK = "rolled-back"
    """the old slot runs because the new one failed: panic, watchdog, or lost too often"""


def judge(trial: Trial | None, running: Slot, committed: Slot, cause: Cause) -> Outcome:
    """See Outcome. A new system that judged itself bad has closed its trial (`Notes.failed`): that is NONE here."""
    if trial is None:
        return Outcome.NONE if running == committed else Outcome.ON_TRIAL
    if running == trial.slot:
        return Outcome.COMMITTED if committed == trial.slot else Outcome.ON_TRIAL
    if committed == trial.slot:
        return Outcome.ROLLED_BACK  # it was good once, and the firmware does not find it any more
    if trial.armed == 0:
        return Outcome.STAGED
    if cause in FAULTS or trial.armed >= ARMED_MAX:
        return Outcome.ROLLED_BACK
    if trial.reached == trial.armed:
        return Outcome.INTERRUPTED
    return Outcome.ROLLED_BACK if trial.lost + 1 >= LOST_MAX else Outcome.ACTIVATION_LOST
