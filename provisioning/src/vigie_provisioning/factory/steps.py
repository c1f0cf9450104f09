"""How far a board is at the station: one table, no I/O.

    new -> flashed -> tested -> keyed -> registered -> sealed -> confirmed -> done

Each step is written down before the next begins, and each can be done twice: a power cut between doing and writing down
costs the work of one step, never a board. A board that is parked keeps its step and goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from vigie.contract.bench import Test
from vigie_provisioning.errors import StateError


class Step(StrEnum):
    """What has been reached."""

    NEW = "new"
    FLASHED = "flashed"  # the image is on the eMMC, read back
    TESTED = "tested"  # every test passed
    KEYED = "keyed"  # the board made its key and showed that it holds it
    REGISTERED = "registered"  # the register has its line
    SEALED = "sealed"  # the board wrote box.json
    CONFIRMED = "confirmed"  # it started as that box
    DONE = "done"  # the label is there


class Event(StrEnum):
    """What happened."""

    FLASHED = "flashed"
    RESULT = "result"  # of one test
    TESTED = "tested"
    KEYED = "keyed"
    REGISTERED = "registered"
    SEALED = "sealed"
    CONFIRMED = "confirmed"
    LABELLED = "labelled"


class Action(StrEnum):
    """What is to be done next."""

    FLASH = "flash"
    TEST = "test"
    KEY = "key"
    REGISTER = "register"
    SEAL = "seal"
    CONFIRM = "confirm"
    LABEL = "label"
    NONE = "none"


REQUIRED: Final = tuple(Test)
TABLE: Final[Mapping[tuple[Step, Event], Step]] = MappingProxyType(
    {
        (Step.NEW, Event.FLASHED): Step.FLASHED,
        # Written again before it has a key: what was measured is measured again.
        (Step.FLASHED, Event.FLASHED): Step.FLASHED,
        (Step.TESTED, Event.FLASHED): Step.FLASHED,
        (Step.FLASHED, Event.RESULT): Step.FLASHED,
        (Step.FLASHED, Event.TESTED): Step.TESTED,
        (Step.TESTED, Event.KEYED): Step.KEYED,
        # Its key is made: the image may be written again (never over the identity), the key must be the same.
        (Step.KEYED, Event.FLASHED): Step.KEYED,
        (Step.KEYED, Event.KEYED): Step.KEYED,
        (Step.KEYED, Event.REGISTERED): Step.REGISTERED,
        (Step.REGISTERED, Event.SEALED): Step.SEALED,
        (Step.SEALED, Event.CONFIRMED): Step.CONFIRMED,
        (Step.CONFIRMED, Event.LABELLED): Step.DONE,
    }
)
NEXT: Final[Mapping[Step, Action]] = MappingProxyType(
    {
        Step.NEW: Action.FLASH,
        Step.FLASHED: Action.TEST,
        Step.TESTED: Action.KEY,
        Step.KEYED: Action.REGISTER,
        Step.REGISTERED: Action.SEAL,
        Step.SEALED: Action.CONFIRM,
        Step.CONFIRMED: Action.LABEL,
        Step.DONE: Action.NONE,
    }
)
ORDER: Final = tuple(Step)


def after(step: Step, event: Event) -> Step:
    """The step that an event leads to. StateError when it may not happen there."""
    found = TABLE.get((step, event))
    if found is None:
        raise StateError(f"a board that is `{step}` cannot become `{event}`: a bug, or a job's file that was edited")
    return found


def reached(step: Step, other: Step) -> bool:
    """Whether `step` is `other` or later."""
    return ORDER.index(step) >= ORDER.index(other)
