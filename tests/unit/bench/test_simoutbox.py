"""A simulated box sends what the product's sender sends, at the same time: neither gentler nor harsher."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.simoutbox import Outbox
from tests.support import messages
from vigie.link.sender import Sender

BOOT = "b" * 32
RATE, CONFIRM_S, STAGGER = 5.0, 30.0, 0.5


class Real:
    """The product's sender with the pump's order: live rows first, then the oldest."""

    def __init__(self) -> None:
        self.sender = Sender(RATE, CONFIRM_S, stagger=STAGGER)
        self.rows: list[int] = []
        self.seq = 0
        self.above = 0

    def add(self) -> None:
        self.seq += 1
        self.rows.append(self.seq)

    def _offer(self, seqs: list[int], *, live: bool) -> None:
        rows = [
            {"boot": BOOT, "seq": s, "prev": 0 if s == self.rows[0] else s - 1, "kind": "alert", "ts": 0}
            | {"clock": "ntp", "body": messages.alert(s)}
            for s in seqs
        ]
        self.sender.offer(rows, live=live)

    def opened(self, now: float, delay_s: float) -> None:
        self.sender.opened(now, delay_s)
        self.above = self.seq

    def due(self, now: float) -> list[tuple[int, int]]:
        live = [s for s in self.rows if s > self.above][: self.sender.live_wants]
        self._offer(live, live=True)
        self.above = max([self.above, *live])
        if self.sender.wants:
            self._offer(self.rows[: self.sender.waiting + self.sender.wants], live=False)
        return [(m["seq"], m["prev"]) for m in (json.loads(out.data) for out in self.sender.due(now))]

    def received(self, upto: int, now: float) -> None:
        upto = self.sender.received(BOOT, upto, now)
        self.rows = [s for s in self.rows if s > upto]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("alerts"), st.integers(1, 9)),
        st.tuples(st.just("seconds"), st.sampled_from([1, 1, 5, 40, 100])),
        st.tuples(st.just("received"), st.floats(0, 1)),
        st.tuples(st.just("silence"), st.integers(0, 40)),
        st.tuples(st.just("session"), st.sampled_from([0.0, 3.0, 20.0])),
    ),
    max_size=30,
)


@example([("silence", 40), ("silence", 40), ("silence", 40), ("silence", 40), ("received", 0.3), ("seconds", 100)])
@example([("alerts", 9), ("silence", 40), ("alerts", 9), ("seconds", 5), ("seconds", 40), ("received", 0.5)])
@example([("alerts", 9)] * 15)
@given(STEPS)
@settings(max_examples=40, deadline=None)
def test_both_send_the_same(steps: list[tuple[str, Any]]) -> None:
    real, sim, now = Real(), Outbox(RATE, CONFIRM_S, STAGGER), 1000.0
    online = False
    sent_real: list[tuple[float, int, int]] = []
    sent_sim: list[tuple[float, int, int]] = []

    def tick() -> None:
        sent_real.extend((now, *pair) for pair in real.due(now))
        sent_sim.extend((now, one.seq, one.prev) for one in sim.due(now))

    for step, value in [("session", 0.0), *steps]:
        match step:
            case "alerts":
                now += 1.0
                for _ in range(value):
                    real.add()
                    made = sim.add(real.seq, now, online=online)
                    if made is not None:
                        sent_sim.append((now, made.seq, made.prev))
                tick()
            case "seconds":
                for _ in range(value):
                    now += 1.0
                    tick()
            case "silence":
                for _ in range(value):
                    now += 1.0
                    real.add()
                    sim.add(real.seq, now, online=online)
                    tick()
                sent_sim.clear()
                sent_real.clear()
            case "received":
                if real.rows:
                    upto = real.rows[0] + int(value * (real.rows[-1] - real.rows[0]))
                    real.received(upto, now)
                    sim.received(upto, now)
            case "session":
                online = True
                real.opened(now, value)
                sim.opened(now, value)
                tick()
        assert sorted(sent_real) == sorted(sent_sim)
        assert sim.resent == real.sender.counts.resent
        assert len(sim) == len(real.rows)
