"""What may be asked of a board, and when: one table, no I/O.

A board goes blank -> keyed -> sealed. Its state is what lies on the identity partition (no key, a key, a key and
box.json), so that a power cut between any two steps leaves one of the three. No question leads back.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Final

from vigie.contract.bench import Question, State

_ALWAYS: Final = frozenset({Question.HELLO, Question.REPORT})
ALLOWED: Final[Mapping[State, Set[Question]]] = MappingProxyType(
    {
        State.BLANK: _ALWAYS | {Question.TEST, Question.KEY, Question.RESTART},
        # `key` again answers with the key that is there.
        State.KEYED: _ALWAYS | {Question.TEST, Question.KEY, Question.PROVE, Question.SEAL, Question.RESTART},
        # `seal` again, with the same label: the answer may have been lost.
        State.SEALED: _ALWAYS | {Question.SEAL, Question.LEAVE},
        State.IN_SERVICE: frozenset(),
        State.REPORT: _ALWAYS | {Question.RESTART},
    }
)


def state_of(has_key: bool, has_label: bool) -> State:
    """State of the files of the identity partition. A label without a key is a decommissioned box: sealed for good."""
    if has_label:
        return State.SEALED
    return State.KEYED if has_key else State.BLANK


def allowed(state: State, question: Question) -> bool:
    """Whether a board in `state` answers `question`."""
    return question in ALLOWED[state]
