"""Which row of the outbox to send when. Pure: time and chance come in, rows come from the filter.

A PUBACK means nothing here: a row leaves the window when the department says `received`. Until then it counts as sent,
and is sent again after a reconnection, or when nothing was confirmed for a while (each time longer: the department may
be down for a day; and each box has a patience of its own, or a fleet whose department was away would repeat itself in
chorus). Only what has had that while to be confirmed goes again, not what left a second ago. What waited while the box
was away is drained slowly, after a random delay; what happens now goes at once.

A row that does not validate is refused: never sent, counted, and skipped in the chain of `prev`, so that the rows after
it can be confirmed (and it goes with them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from vigie.contract import schema
from vigie.contract.envelope import VERSION, Upward
from vigie.contract.errors import ContractError, MessageError
from vigie.contract.words import Kind

WINDOW: Final = 100
"""Rows handed over by the filter and not confirmed, at most: so many of the oldest, and as many live ones. Apart: were
live rows to fill it, those before them, without which none is ever confirmed, would find no room."""
BURST_S: Final = 1.0
"""Rows of this many seconds may go in one go when the loop was late."""
CONFIRM_DOUBLINGS: Final = 5

Key = tuple[str, int]


@dataclass(slots=True)
class Entry:
    """A row on its way. `message` None = refused."""

    prev: int
    kind: Kind
    message: dict[str, Any] | None
    live: bool
    backlog: bool  # came as one of the oldest
    sent_at: float | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What to publish now. `correlation`: of the answer to a command."""

    kind: Kind
    data: bytes
    correlation: bytes | None


@dataclass(slots=True)
class Counts:
    """Since the start."""

    sent: int = 0
    resent: int = 0
    confirmed: int = 0
    refused: int = 0
    last_refusal: str = ""


@dataclass(slots=True)
class Sender:
    """The window. Times are monotonic seconds. `stagger`: drawn by the caller, from 0 to 1; it stretches `confirm_s` up
    to twofold."""

    rate_per_s: float
    confirm_s: float
    window: int = WINDOW
    stagger: float = 0.0
    counts: Counts = field(default_factory=Counts)
    _entries: dict[Key, Entry] = field(default_factory=dict)
    _highest: dict[str, int] = field(default_factory=dict)  # highest seq sent, per boot, in this run
    _confirmed: dict[str, int] = field(default_factory=dict)  # highest seq confirmed, same
    _next_s: float = 0.0  # when the next paced row may go
    _progress_s: float = 0.0
    _patience: int = 0

    def opened(self, now: float, delay_s: float) -> None:
        """A session has begun: everything in the window is to be sent again, paced, `delay_s` from now."""
        for entry in self._entries.values():
            entry.sent_at, entry.live = None, False
        self._next_s = now + delay_s
        self._progress_s, self._patience = now, 0

    def offer(self, rows: Iterable[dict[str, Any]], *, live: bool) -> int:
        """Rows as the filter gives them; those already in the window are ignored. How many were new."""
        before = len(self._entries)
        for row in rows:
            if not (self.live_wants if live else self.wants):
                break
            self._add(row, live)
        return len(self._entries) - before

    @property
    def wants(self) -> int:
        """How many more of the oldest rows the window takes."""
        return max(0, self.window - sum(e.backlog for e in self._entries.values()))

    @property
    def live_wants(self) -> int:
        """How many more live rows it takes: an alert does not wait for the backlog to be confirmed."""
        return max(0, self.window - sum(not e.backlog for e in self._entries.values()))

    @property
    def waiting(self) -> int:
        """Rows in the window, not confirmed yet."""
        return len(self._entries)

    def due(self, now: float) -> list[Outgoing]:
        """What to publish now, in order; each counts as sent. Live rows at once, the others at the drain rate."""
        self._check_confirmations(now)
        out: list[Outgoing] = []
        for key in sorted(self._entries, key=_order(self._entries)):
            entry = self._entries[key]
            if entry.sent_at is not None or entry.message is None:
                continue
            if not entry.live:
                if now < self._next_s:
                    continue
                self._next_s = max(self._next_s, now - BURST_S) + 1.0 / self.rate_per_s
            entry.sent_at = now
            highest = self._highest.get(key[0], 0)
            self.counts.sent += 1
            self.counts.resent += key[1] <= highest
            self._highest[key[0]] = max(highest, key[1])
            upward = Upward.from_dict(entry.kind, entry.message | {"prev": self._prev(key)})
            out.append(Outgoing(entry.kind, upward.to_bytes(), _correlation(entry.message)))
        return out

    def next_due_s(self, now: float) -> float | None:
        """When `due` may have something next, as seconds from now; None when there is nothing to send."""
        unsent = [e for e in self._entries.values() if e.sent_at is None and e.message is not None]
        if unsent:
            return 0.0 if any(e.live for e in unsent) else max(0.0, self._next_s - now)
        if self._entries:
            return max(0.0, self._impatient_s(now) - now)
        return None

    def received(self, boot: str, upto: int, now: float) -> int:
        """`down/received`. The seq up to which the filter may delete rows of `boot`; 0 for none.

        Never beyond what this run has sent: a broker (or a mistake) cannot make the box forget what never left.
        """
        upto = min(upto, self._highest.get(boot, 0))
        gone = [key for key in self._entries if key[0] == boot and key[1] <= upto]
        for key in gone:
            del self._entries[key]
        if not gone:
            return 0
        self._confirmed[boot] = max(self._confirmed.get(boot, 0), upto)
        self.counts.confirmed += len(gone)
        self._progress_s, self._patience = now, 0
        return upto

    def dropped(self) -> list[Key]:
        """Refused rows below which nothing is left to confirm: they leave the window, and the filter may delete them.

        Others go with the next row that is confirmed.
        """
        out = []
        for key, entry in sorted(self._entries.items()):
            prev = self._prev(key)
            if entry.message is None and prev <= self._confirmed.get(key[0], 0):
                del self._entries[key]
                for (boot, _seq), after in self._entries.items():
                    if boot == key[0] and after.prev == key[1]:
                        after.prev = prev
                self._confirmed[key[0]] = max(self._confirmed.get(key[0], 0), key[1])
                out.append(key)
        return out

    def _prev(self, key: Key) -> int:
        """The row before this one that is not refused; 0 when the department has confirmed it and it is gone.

        As the outbox stands now, not as it stood when the filter handed the row over: a department restored from a
        backup has forgotten what it confirmed, and would wait for ever for a row that nobody can send again.
        """
        prev = self._entries[key].prev
        while (before := self._entries.get((key[0], prev))) is not None and before.message is None:
            prev = before.prev
        return 0 if prev <= self._confirmed.get(key[0], 0) else prev

    def _impatient_s(self, now: float) -> float:
        """When what is unconfirmed goes again: a while after the last confirmation, and after its own sending."""
        sent = [e.sent_at for e in self._entries.values() if e.sent_at is not None]
        if not sent:
            return now + self._patience_s
        return max(
            self._progress_s + self._patience_s * 2.0 ** min(self._patience, CONFIRM_DOUBLINGS),
            min(sent) + self._patience_s,
        )

    @property
    def _patience_s(self) -> float:
        return self.confirm_s * (1.0 + self.stagger)

    def _check_confirmations(self, now: float) -> None:
        """Nothing confirmed for a while, though rows were sent: from the oldest on, what was sent before it again."""
        sent = [e for e in self._entries.values() if e.sent_at is not None]
        if not sent:
            self._progress_s = now
        elif now >= self._impatient_s(now):
            self._patience += 1
            self._progress_s = now
            for entry in sent:
                if entry.sent_at is not None and now >= entry.sent_at + self._patience_s:
                    entry.sent_at, entry.live = None, False

    def _add(self, row: dict[str, Any], live: bool) -> None:
        key = (str(row.get("boot")), _number(row, "seq"))
        if key in self._entries:
            return
        prev = _number(row, "prev")
        if prev >= key[1]:
            prev = key[1] - 1
        try:
            kind, message = _message(row, prev)
        except (ContractError, ValueError, TypeError, KeyError) as e:
            self.counts.refused += 1
            self.counts.last_refusal = str(e)[:200]
            self._entries[key] = Entry(prev, Kind.ALERT, None, live, not live)
        else:
            self._entries[key] = Entry(prev, kind, message, live, not live)


def _order(entries: dict[Key, Entry]) -> Callable[[Key], tuple[bool, int]]:
    """Live rows first, then in the order in which the filter gave them."""
    place = {key: i for i, key in enumerate(entries)}
    return lambda key: (not entries[key].live, place[key])


def _number(row: dict[str, Any], name: str) -> int:
    value = row.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _message(row: dict[str, Any], prev: int) -> tuple[Kind, dict[str, Any]]:
    """A row as its message, after both checks: the schema (what may leave) and the class (what it means)."""
    kind = Kind(row["kind"])
    body = row["body"]
    if not isinstance(body, dict) or not kind.in_outbox:
        raise MessageError(kind.value, "not a row of the outbox")
    head = {"v": VERSION, "boot": row["boot"], "seq": row["seq"], "ts": row["ts"], "clock": row["clock"], "prev": prev}
    if head.keys() & body.keys():
        raise MessageError(kind.value, "the body holds a field of the frame")
    message = head | body
    schema.validate(kind.value, message)
    Upward.from_dict(kind, message).to_bytes()
    return kind, message


def _correlation(message: dict[str, Any]) -> bytes | None:
    """The id of the command that an ack answers: MQTT's correlation data."""
    ident = message.get("id") if message.get("order") == "command" else None
    return ident.encode() if isinstance(ident, str) and ident else None
