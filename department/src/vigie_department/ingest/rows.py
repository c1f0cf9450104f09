"""From messages to rows, table by table. Pure: what to write, in the database's own columns; `store` writes it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from vigie.contract.envelope import Upward
from vigie.contract.upward import Ack, Alert, Diagnostic, Metric, Offline, Request, State
from vigie.contract.words import Order

Row = tuple[Any, ...]
_LAST: Final = datetime(9999, 12, 31, tzinfo=UTC)


@functools.lru_cache(maxsize=4096)
def moment(unix_s: int) -> datetime:
    """A box's time as the database keeps it. Beyond the year 9999, which the contract lets through, its last day.

    Remembered: most rows of a batch name the same few hours and seconds.
    """
    try:
        return datetime.fromtimestamp(unix_s, UTC)
    except (OverflowError, ValueError, OSError):
        return _LAST


@dataclass(slots=True)
class Rows:
    """What one batch writes. Keys are those of the tables' constraints: the last one of a batch wins, sums add."""

    alerts: dict[tuple[str, str, int], Row] = field(default_factory=dict)
    counters: dict[tuple[str, datetime, str], int] = field(default_factory=dict)
    observations: dict[tuple[str, int, str], tuple[int, datetime]] = field(default_factory=dict)
    requests: list[Row] = field(default_factory=list)
    diagnostics: list[Row] = field(default_factory=list)
    states: dict[str, tuple[Upward, State]] = field(default_factory=dict)
    offline: dict[str, int] = field(default_factory=dict)
    """box -> highest session that ended"""
    acks: list[tuple[str, Ack]] = field(default_factory=list)

    def add(self, box: str, message: Upward, received: datetime) -> None:
        """One message, which was not received before."""
        body = message.body
        match body:
            case Alert():
                self._alert(box, message, body, received)
            case Metric():
                self._metric(box, body)
            case State():
                known = self.states.get(box)
                if known is None or (known[1].session, known[0].seq) < (body.session, message.seq):
                    self.states[box] = (message, body)
            case Offline():
                self.offline[box] = max(body.session, self.offline.get(box, 0))
            case Ack():
                self.acks.append((box, body))
            case Request():
                self.requests.append(
                    (
                        box,
                        message.boot,
                        message.seq,
                        received,
                        body.indicator,
                        body.device,
                        body.days,
                        body.words,
                        moment(body.consent.at),
                        "mairie",
                        "open",
                        "",
                    )
                )
            case Diagnostic():
                self.diagnostics.append(
                    (box, message.boot, message.seq, received, body.command, moment(body.consent.at), body.items)
                )

    def _alert(self, box: str, message: Upward, body: Alert, received: datetime) -> None:
        key = (box, message.boot, body.id)
        known = self.alerts.get(key)
        if known is not None and known[2] > message.seq:
            return
        self.alerts[key] = (
            box,
            message.boot,
            message.seq,
            received,
            body.id,
            moment(message.ts),
            message.clock.value,
            body.rule.value,
            body.reason,
            body.severity,
            int(body.category),
            int(body.direction),
            body.indicator,
            body.device,
            int(body.device_class),
            body.count,
            moment(body.first),
            moment(body.last),
            body.incident,
            "",
        )

    def _metric(self, box: str, body: Metric) -> None:
        hour = moment(body.hour * 3600)
        values = {f"blocked:{reason}": count for reason, count in body.blocked.items()}
        values |= {"frames_in": body.frames_in, "frames_out": body.frames_out, "drops": body.drops}
        for name, value in values.items():
            if value:
                key = (box, hour, name)
                self.counters[key] = self.counters.get(key, 0) + value
        if body.candidate is not None:
            for indicator, count in body.observed.items():
                place = (box, body.candidate, indicator)
                before, last = self.observations.get(place, (0, hour))
                self.observations[place] = (before + count, max(last, hour))

    def boxes(self) -> set[str]:
        """Every box that a row refers to."""
        return (
            {key[0] for key in self.alerts}
            | {key[0] for key in self.counters}
            | {key[0] for key in self.observations}
            | {row[0] for row in self.requests}
            | {row[0] for row in self.diagnostics}
            | set(self.states)
            | set(self.offline)
        )

    def desired_acks(self) -> list[tuple[str, Ack]]:
        """Answers to documents."""
        return [(box, ack) for box, ack in self.acks if ack.order is Order.DESIRED]

    def command_acks(self) -> list[tuple[str, Ack]]:
        """Answers to commands."""
        return [(box, ack) for box, ack in self.acks if ack.order is Order.COMMAND]
