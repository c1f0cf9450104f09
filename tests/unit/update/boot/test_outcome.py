"""What became of a trial: the table, and the bounds of what is tried again."""

from __future__ import annotations

import pytest

from vigie.update.boot import Cause, Outcome, Slot, Trial
from vigie.update.boot.outcome import ARMED_MAX, LOST_MAX, judge

WAITS, LOST, REACHED = Trial("B"), Trial("B", armed=1), Trial("B", armed=1, reached=1)


@pytest.mark.parametrize(
    ("trial", "running", "committed", "cause", "outcome"),
    [
        (None, "A", "A", Cause.POWER, Outcome.NONE),
        (None, "B", "A", Cause.POWER, Outcome.ON_TRIAL),
        (WAITS, "A", "A", Cause.POWER, Outcome.STAGED),
        (LOST, "B", "A", Cause.ORDERLY, Outcome.ON_TRIAL),
        (REACHED, "B", "B", Cause.POWER, Outcome.COMMITTED),
        (LOST, "A", "A", Cause.ORDERLY, Outcome.ACTIVATION_LOST),
        (LOST, "A", "A", Cause.POWER, Outcome.ACTIVATION_LOST),
        (LOST, "A", "A", Cause.UNKNOWN, Outcome.ACTIVATION_LOST),
        (LOST, "A", "A", Cause.PANIC, Outcome.ROLLED_BACK),
        (REACHED, "A", "A", Cause.POWER, Outcome.INTERRUPTED),
        (REACHED, "A", "A", Cause.UNKNOWN, Outcome.INTERRUPTED),
        (REACHED, "A", "A", Cause.WATCHDOG, Outcome.ROLLED_BACK),
        (REACHED, "A", "A", Cause.WARM, Outcome.ROLLED_BACK),
        (REACHED, "A", "B", Cause.POWER, Outcome.ROLLED_BACK),
        (Trial("B", armed=3, reached=0, lost=LOST_MAX - 1), "A", "A", Cause.POWER, Outcome.ROLLED_BACK),
        (Trial("B", armed=ARMED_MAX, reached=ARMED_MAX), "A", "A", Cause.POWER, Outcome.ROLLED_BACK),
        (Trial("B", armed=ARMED_MAX - 1, reached=ARMED_MAX - 1), "A", "A", Cause.POWER, Outcome.INTERRUPTED),
    ],
)
def test_table(trial: Trial | None, running: Slot, committed: Slot, cause: Cause, outcome: Outcome) -> None:
    assert judge(trial, running, committed, cause) is outcome
