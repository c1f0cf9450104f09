"""The sender against a department and a broker that lose, repeat and forget: nothing is lost, nothing is rushed."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import messages
from vigie.contract.envelope import Upward
from vigie.contract.words import Kind
from vigie.link.sender import Sender

BOOT = "b" * 32


def row(seq: int, prev: int | None = None, boot: str = BOOT, **changes: Any) -> dict[str, Any]:
    body = messages.alert(seq, **changes)
    before = seq - 1 if prev is None else prev
    return {"id": seq, "boot": boot, "seq": seq, "prev": before, "kind": "alert", "ts": 0, "clock": "ntp", "body": body}


def sender(rate: float = 1e6, confirm_s: float = 30.0, window: int = 100) -> Sender:
    made = Sender(rate, confirm_s, window)
    made.opened(0.0, 0.0)
    return made


def seqs(due: list[Any]) -> list[tuple[int, int]]:
    """(seq, prev) of what is sent."""
    found = [json.loads(out.data) for out in due]
    return [(m["seq"], m["prev"]) for m in found]


def test_sent_once_and_gone_when_received() -> None:
    s = sender()
    assert s.offer([row(1, 0), row(2)], live=False) == 2
    assert s.offer([row(1, 0), row(2)], live=False) == 0
    assert seqs(s.due(1.0)) == [(1, 0), (2, 1)]
    assert s.due(2.0) == []
    assert s.received(BOOT, 2, 3.0) == 2
    assert (s.waiting, s.counts.confirmed) == (0, 2)


def test_received_deletes_nothing_that_was_not_sent() -> None:
    s = sender(rate=1.0)
    s.opened(0.0, 100.0)
    s.offer([row(1, 0), row(2)], live=False)
    assert s.received(BOOT, 10**9, 1.0) == 0
    s.due(100.0)
    s.offer([row(3)], live=False)
    assert s.received(BOOT, 10**9, 102.0) < 3
    assert s.received("c" * 32, 5, 103.0) == 0


def test_backlog_waits_and_goes_slowly() -> None:
    s = sender(rate=5.0)
    s.opened(0.0, 10.0)
    s.offer([row(i, i - 1) for i in range(1, 61)], live=False)
    assert s.due(9.9) == []
    assert s.next_due_s(9.0) == pytest.approx(1.0)
    sent, now = 0, 10.0
    while now < 16.0:
        sent += len(s.due(now))
        now += 0.1
    assert sent <= 5 * 6 + 1, "five a second"
    assert sent >= 5 * 6 - 1


def test_what_happens_now_does_not_wait() -> None:
    s = sender(rate=5.0)
    s.opened(0.0, 1000.0)
    s.offer([row(i, i - 1) for i in range(1, 101)], live=False)
    assert s.wants == 0
    s.offer([row(101)], live=True)
    assert s.next_due_s(1.0) == 0.0
    assert seqs(s.due(1.0)) == [(101, 100)]


def test_window_is_bounded() -> None:
    s = sender(window=10)
    assert s.offer([row(i, i - 1) for i in range(1, 50)], live=False) == 10
    assert s.offer([row(i, i - 1) for i in range(50, 99)], live=True) == 10
    assert (s.wants, s.live_wants) == (0, 0)


def test_nobody_confirms() -> None:
    """All again after the time-out, each time later, never in a rush."""
    s = sender(confirm_s=10.0)
    s.offer([row(1, 0), row(2)], live=True)
    times = []
    for now in range(2000):
        if s.due(float(now)):
            times.append(now)
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[:4] == [10, 20, 40, 80], gaps
    assert max(gaps) == 320
    assert s.counts.resent == 2 * len(gaps)


def test_progress_resets_patience() -> None:
    s = sender(confirm_s=10.0)
    s.offer([row(i, i - 1) for i in range(1, 4)], live=True)
    s.due(0.0)
    s.due(10.0)
    s.received(BOOT, 1, 11.0)
    assert s.due(20.0) == []
    assert seqs(s.due(21.0)) == [(2, 0), (3, 2)]


def test_what_has_just_left_is_not_repeated() -> None:
    """The department is silent: what was sent before it fell silent goes again, what is on its way does not."""
    s = sender(confirm_s=10.0)
    s.offer([row(1, 0), row(2)], live=True)
    s.due(0.0)
    s.offer([row(3)], live=True)
    assert seqs(s.due(9.0)) == [(3, 2)]
    assert seqs(s.due(10.0)) == [(1, 0), (2, 1)]
    assert s.due(19.5) == []
    assert s.next_due_s(19.5) == pytest.approx(10.5), "twice as long after the first time"
    assert seqs(s.due(30.0)) == [(1, 0), (2, 1), (3, 2)]


def test_a_row_alone_has_its_while() -> None:
    """The last confirmation was long ago: nothing was sent since."""
    s = sender(confirm_s=10.0)
    s.offer([row(1, 0)], live=True)
    s.due(0.0)
    s.received(BOOT, 1, 1.0)
    s.offer([row(2)], live=True)
    assert seqs(s.due(100.0)) == [(2, 0)]
    assert s.next_due_s(101.0) == pytest.approx(9.0)
    assert s.due(109.9) == []
    assert seqs(s.due(110.0)) == [(2, 0)]


def test_boxes_do_not_repeat_in_chorus() -> None:
    """The department was away for all of them at once."""
    fleet = [Sender(5.0, 30.0, stagger=number / 100) for number in range(100)]
    for s in fleet:
        s.opened(0.0, 0.0)
        s.offer([row(1, 0)], live=True)
        s.due(0.0)
    again = [sum(bool(s.due(float(second))) for s in fleet) for second in range(1, 61)]
    assert sum(again[:29]) == 0
    assert sum(again) == 100
    assert max(again) <= 5


def test_new_session_sends_again() -> None:
    s = sender()
    s.offer([row(1, 0)], live=True)
    assert len(s.due(0.0)) == 1
    s.opened(5.0, 3.0)
    assert s.due(7.0) == []
    assert len(s.due(8.0)) == 1
    assert s.counts.resent == 1


def test_refused_row_is_skipped_in_the_chain() -> None:
    s = sender()
    s.offer([row(1, 0), row(2, mac="02:00:00:00:00:01"), row(3, hostname="pc"), row(4)], live=False)
    assert seqs(s.due(1.0)) == [(1, 0), (4, 1)]
    assert s.counts.refused == 2
    assert "unexpected" in s.counts.last_refusal
    assert s.dropped() == [], "row 1 is not confirmed yet"
    assert s.received(BOOT, 4, 2.0) == 4
    assert s.waiting == 0


def test_refused_rows_alone_are_dropped() -> None:
    s = sender()
    s.offer([row(1, 0, mac="x"), row(2, mac="x"), row(3)], live=False)
    assert s.dropped() == [(BOOT, 1), (BOOT, 2)]
    assert seqs(s.due(1.0)) == [(3, 0)]


def test_refused_row_offered_after_the_next_one() -> None:
    """A live row was numbered first: the chain is looked up when the row is sent."""
    s = sender()
    s.offer([row(2, 1)], live=False)
    s.offer([row(1, 0, mac="x")], live=False)
    assert seqs(s.due(1.0)) == [(2, 0)]


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "state"}, {"kind": "nonsense"}, {"body": []}, {"body": {"v": 2}}, {"ts": "now"}, {"clock": "sundial"},
        {"boot": "short"}, {"seq": 2**60}, {"body": messages.alert(1) | {"boot": "c" * 32}},
    ],
)  # fmt: skip
def test_anything_else_is_refused(bad: dict[str, Any]) -> None:
    s = sender()
    s.offer([row(1, 0) | bad], live=True)
    assert s.due(1.0) == []
    assert s.counts.refused == 1


def test_correlation_of_command_answers() -> None:
    s = sender()
    ack = {"order": "command", "id": "ab" * 16, "result": "done", "code": None, "detail": []}
    desired = {"order": "desired", "version": 3, "result": "in_force", "code": None, "detail": []}
    head = {"boot": BOOT, "ts": 0, "clock": "ntp", "kind": Kind.ACK.value}
    s.offer([head | {"seq": 1, "prev": 0, "body": ack}, head | {"seq": 2, "prev": 1, "body": desired}], live=True)
    assert [out.correlation for out in s.due(1.0)] == [b"ab" * 16, None]


class World:
    """An outbox, a lossy way, a department that keeps one number per boot and rows beyond a gap."""

    def __init__(self, rows: int, bad: set[int], order: list[int]) -> None:
        self.outbox = [row(s, None, **({"mac": "x"} if s in bad else {})) for s in order]
        self.bad = bad
        self.upto = 0
        self.committed: set[int] = set()
        self.s = sender(confirm_s=5.0, window=7)
        self.now = 0.0

    def fetch(self, live: bool) -> None:
        s = self.s
        lowest = min((r["seq"] for r in self.outbox), default=0)
        rows = [r | {"prev": 0 if r["seq"] == lowest else r["seq"] - 1} for r in self.outbox]
        rows.sort(key=lambda r: r["seq"])
        s.offer(rows[-3:] if live else rows[: s.waiting + s.wants], live=live)
        for _boot, seq in s.dropped():
            self.delete(seq)

    def delete(self, upto: int) -> None:
        gone = [r["seq"] for r in self.outbox if r["seq"] <= upto]
        assert all(seq in self.committed or seq in self.bad for seq in gone), f"deleted {gone}, has {self.committed}"
        self.outbox = [r for r in self.outbox if r["seq"] > upto]

    def arrive(self, data: bytes) -> None:
        m = Upward.from_bytes(Kind.ALERT, data)
        assert m.seq not in self.bad
        self.committed.add(m.seq)
        assert m.prev is not None
        if m.prev <= self.upto:
            self.upto = max(self.upto, m.seq)

    def confirm(self) -> None:
        upto = self.s.received(BOOT, self.upto, self.now) if self.upto else 0
        if upto:
            self.delete(upto)


@pytest.mark.slow
@given(st.integers(1, 25), st.sets(st.integers(1, 25)), st.data())
@settings(max_examples=70, deadline=None)
def test_nothing_is_lost_and_all_of_it_ends(rows: int, bad: set[int], data: st.DataObject) -> None:
    """Packets and confirmations lost, sessions ended, the link restarted, live rows first, bad rows anywhere: a row is
    deleted only when committed, and once the way is good again everything arrives and the outbox is empty."""
    bad = {b for b in bad if b <= rows}
    world = World(rows, bad, list(range(1, rows + 1)))
    for _step in range(data.draw(st.integers(0, 40))):
        world.now += data.draw(st.sampled_from([0.1, 1.0, 6.0, 60.0]))
        match data.draw(st.sampled_from(["fetch", "live", "send", "send", "confirm", "session", "restart"])):
            case "fetch":
                world.fetch(live=False)
            case "live":
                world.fetch(live=True)
            case "send":
                for out in world.s.due(world.now):
                    if data.draw(st.booleans()):
                        world.arrive(out.data)
            case "confirm":
                world.confirm()
            case "session":
                world.s.opened(world.now, 0.0)
            case "restart":
                world.s = sender(confirm_s=5.0, window=7)
                world.s.opened(world.now, 0.0)
    for _step in range(200):
        world.now += 400.0
        world.fetch(live=False)
        for out in world.s.due(world.now):
            world.arrive(out.data)
        world.confirm()
        if not world.outbox:
            break
    assert world.outbox == []
    assert world.committed == set(range(1, rows + 1)) - bad


def test_a_department_restored_from_an_old_backup_gets_what_is_left() -> None:
    """It waits for nothing that was confirmed and deleted: the oldest row says that there is none before it."""
    s = sender()
    s.offer([row(i, i - 1) for i in range(1, 9)], live=True)
    s.due(1.0)
    assert s.received(BOOT, 5, 2.0) == 5
    s.opened(3.0, 0.0)
    assert seqs(s.due(10.0)) == [(6, 0), (7, 6), (8, 7)]


def test_live_rows_leave_room_for_those_before_them() -> None:
    """A link that was restarted: 20 rows were handed out before, so live ones come after a gap that must be filled."""
    s = sender(window=5)
    s.offer([row(1, 0), *(row(i) for i in range(2, 6))], live=False)
    s.offer([row(i) for i in range(21, 40)], live=True)
    assert (s.wants, s.live_wants, s.waiting) == (0, 0, 10)
    s.due(1.0)
    assert s.received(BOOT, 5, 2.0) == 5
    assert (s.wants, s.live_wants) == (5, 0)
    assert s.offer([row(i) for i in range(6, 21)], live=False) == 5
    assert seqs(s.due(3.0)) == [(6, 0), *((i, i - 1) for i in range(7, 11))]
