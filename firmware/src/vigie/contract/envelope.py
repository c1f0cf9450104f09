"""The frame around every upward message, and reading one.

    {"v":1, "boot":32 hex, "seq":1.., "ts":Unix s, "clock":"ntp", ["prev":0..,] ...the kind's own fields}

**Outbox kinds** (all but `state`): (box, boot, seq) is unique for ever; the receiver deduplicates on it. `boot` is the
outbox's, `seq` its row. Rows may be missing for good (dropped when the outbox was full), and a broker whose queue is
full drops in the middle: neither the highest seq seen nor contiguous numbers say what has arrived. Hence `prev`: the
seq of the row before this one in the outbox, same boot, as it stood when the message was sent; 0 when there is none.
The receiver keeps one number per (box, boot), `upto`: a committed row with `prev <= upto` moves it to `max(upto, seq)`,
one beyond a gap does not. `down/received {boot, upto}` then lets the box delete rows up to there; it sends the others
again, oldest first.

**state**: `boot` is drawn by `vigie link` at its start, `seq` counts its state messages; no `prev`. The latest
(session, seq) wins.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

from vigie.contract import strictjson
from vigie.contract.errors import MessageError
from vigie.contract.fields import Fields
from vigie.contract.upward import UNIX_MAX, Body, body_from_fields
from vigie.contract.words import Clock, Kind

VERSION: Final = 1
BOOT: Final = re.compile(r"[0-9a-f]{32}")
MESSAGE_MAX: Final = strictjson.MESSAGE_MAX


def new_boot() -> str:
    """A boot id: 128 random bits."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Upward:
    """One message of a box. `prev` is None exactly for `state`."""

    boot: str
    seq: int
    ts: int
    clock: Clock
    body: Body
    prev: int | None = None

    @property
    def kind(self) -> Kind:
        """Which topic it goes on."""
        return self.body.KIND

    @classmethod
    def from_bytes(cls, kind: Kind, data: bytes) -> Upward:
        """Reads a message received on `up/<kind>`, of MESSAGE_MAX bytes at most. MessageError names the bad field."""
        return cls.from_dict(kind, strictjson.loads(data, MESSAGE_MAX, kind.value))

    @classmethod
    def from_dict(cls, kind: Kind, data: dict[str, Any]) -> Upward:
        """Same, from a decoded object."""
        f = Fields(kind.value, data)
        f.constant("v", VERSION)
        boot, seq = f.text("boot", 32, BOOT), f.integer("seq", 1)
        ts, clock = f.integer("ts", 0, UNIX_MAX), f.word("clock", Clock)
        prev = None
        if kind.in_outbox:
            prev = f.integer("prev", 0)
            if prev >= seq:
                f.fail("prev", "not below `seq`")
        body = body_from_fields(kind, f)
        f.done()
        return cls(boot, seq, ts, clock, body, prev)

    def to_dict(self) -> dict[str, Any]:
        """As JSON. MessageError when `prev` is missing, or there for `state`."""
        if (self.prev is not None) != self.kind.in_outbox:
            raise MessageError(f"{self.kind.value}.prev", "goes with the kinds of the outbox, and only with them")
        head: dict[str, Any] = {
            "v": VERSION,
            "boot": self.boot,
            "seq": self.seq,
            "ts": self.ts,
            "clock": self.clock.value,
        }
        if self.prev is not None:
            head["prev"] = self.prev
        return head | self.body.fields()

    def to_bytes(self) -> bytes:
        """The message, checked as a receiver would: what cannot be read back raises MessageError and is not sent."""
        data = strictjson.dumps(self.to_dict())
        Upward.from_bytes(self.kind, data)
        return data
