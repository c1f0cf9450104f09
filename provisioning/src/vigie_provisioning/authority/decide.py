"""Who gets a certificate: the decision, without I/O. The caller has checked the attestation before.

A join state is a signed counter. Each certificate that is issued moves it on by one, and the box must show the last one
to get the next: of two copies of a box, the one that comes second shows an old one. What was shown at the last issue is
kept too, so that a box whose reply was lost, and that asks again with the same key, gets the same reply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Block(StrEnum):
    """Why a serial gets nothing. The empty word means that it is not blocked."""

    NONE = ""
    OPERATOR = "operator"
    REVOKED = "revoked"
    CLONE = "clone"
    DECOMMISSIONED = "decommissioned"


class Outcome(StrEnum):
    """What to do."""

    ISSUE = "issue"
    REPEAT = "repeat"
    CONFLICT = "conflict"
    CLONE = "clone"
    REFUSE = "refuse"


@dataclass(slots=True, frozen=True)
class Record:
    """What the authority remembers of a serial.

    seq: last join state issued, 0 before the first. shown: the one shown to get it, 0 for none. key: SHA-256 of the
    public key certified with it, b"" before the first. released: an operator lets it enrol once without the right join
    state.
    """

    seq: int = 0
    shown: int = 0
    key: bytes = b""
    block: Block = Block.NONE
    released: bool = False


@dataclass(slots=True, frozen=True)
class Ask:
    """What the box shows.

    shown: sequence of its join state, 0 for none (or none that we signed for this box). key: SHA-256 of its new key.
    """

    shown: int
    key: bytes


@dataclass(slots=True, frozen=True)
class Rule:
    """The first rule that applies decides."""

    name: str
    applies: Callable[[Record, Ask], bool]
    outcome: Outcome


RULES = (
    # A quarantined box is told that it has a double: it proved who it is, and the mairie must know whom to call.
    Rule("quarantined", lambda r, _a: r.block is Block.CLONE, Outcome.CLONE),
    Rule("blocked", lambda r, _a: r.block is not Block.NONE, Outcome.REFUSE),
    # The reply was lost, or power was cut before it was stored.
    Rule("lost-reply", lambda r, a: r.seq > 0 and (a.shown, a.key) == (r.shown, r.key), Outcome.REPEAT),
    Rule("first", lambda r, a: r.seq == 0 and a.shown == 0, Outcome.ISSUE),
    Rule("released", lambda r, _a: r.released, Outcome.ISSUE),
    # Enrolled before, and shows nothing: a thief would leave it out.
    Rule("conflict", lambda _r, a: a.shown == 0, Outcome.CONFLICT),
    Rule("current", lambda r, a: a.shown == r.seq, Outcome.ISSUE),
    # Signed by us, yet newer than what we remember: this store was restored from an older backup. The counter only
    # moves up, so a copy that comes later is still found.
    Rule("restored", lambda r, a: a.shown > r.seq, Outcome.ISSUE),
    Rule("stale", lambda _r, _a: True, Outcome.CLONE),
)


def decide(record: Record, ask: Ask) -> tuple[Outcome, str]:
    """What to do, and the name of the rule."""
    for rule in RULES:
        if rule.applies(record, ask):
            return rule.outcome, rule.name
    raise AssertionError("the last rule always applies")


def after_issue(record: Record, ask: Ask) -> Record:
    """The record once a certificate was issued. The counter never goes back."""
    return Record(seq=max(record.seq, ask.shown) + 1, shown=ask.shown, key=ask.key, block=record.block, released=False)
