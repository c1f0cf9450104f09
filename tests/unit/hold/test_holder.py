"""The hold worker's core with a simulated wire: nothing of a toxic connection leaves; others leave whole, in order."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from vigie.contract.codes import Action, Category, EventKind, Reason, Verdict
from vigie.filter.base.model import ClassEntry
from vigie.filter.decode.frames import parse
from vigie.filter.events import Event
from vigie.filter.flowcache import key_of_event
from vigie.filter.hold import Holder
from vigie.filter.hold_names import NameKind, NameVerdict, Suffix, judge

MS = 1_000_000
BLOCKED = ClassEntry(action=Action.BLOCK, category=Category.PHISHING)
OBSERVED = ClassEntry(action=Action.OBSERVE, category=Category.SUSPICIOUS)


class Wire:
    """Remembers what was asked, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[object, ...]] = []
        self.reports: list[Event] = []

    def send(self, port: int, frame: bytes) -> None:
        self.log.append(("send", port, frame))

    def report(self, event: Event) -> None:
        self.reports.append(event)

    def answer(self, key: bytes, hold: int, verdict: Verdict, reason: Reason) -> None:
        self.log.append(("answer", key, hold, verdict, reason))

    @property
    def answers(self) -> list[tuple[object, ...]]:
        return [entry[1:] for entry in self.log if entry[0] == "answer"]

    def sent(self, port: int) -> list[bytes]:
        return [frame for what, where, frame in (x for x in self.log if x[0] == "send") if where == port]  # type: ignore[misc]


def client_hello(name: str) -> bytes:
    """A real ClientHello of this machine's OpenSSL."""
    context = ssl.create_default_context()
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


HOLD = 77_000_001
"""Identity of a hold."""


def held(payload: bytes, seq: int, ns: int, port: int = 0, gso_size: int = 0, hold: int = HOLD) -> Event:
    frame = bytes(
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IP(src="192.0.2.10", dst="198.51.100.7")
        / TCP(sport=40000, dport=443, seq=seq, ack=77, flags="PA")
        / Raw(payload)
    )
    parsed = parse(frame)
    mapped = b"\0" * 10 + b"\xff\xff"
    return Event(
        *(ns, EventKind.HELD, Verdict.HOLD, Reason.DEFAULT, port, Category.NONE, 0, parsed.smac, parsed.dmac, None),
        *(6, 4, mapped + parsed.src, mapped + parsed.dst, 40000, 443, len(frame), 4, 0x18, 1, gso_size, hold, 0, frame),
    )  # fmt: skip


def names(verdict: NameVerdict) -> Callable[[str, bytes], NameVerdict]:
    asked: list[str] = []

    def ask(name: str, device: bytes) -> NameVerdict:
        asked.append(name)
        assert device == bytes.fromhex("020000000001")
        return verdict

    ask.asked = asked  # type: ignore[attr-defined]
    return ask


def let_go(event: Event) -> tuple[object, ...]:
    return ("answer", key_of_event(event), event.name_hash, Verdict.PASS, Reason.DEFAULT)


TOXIC = NameVerdict(NameKind.BLOCK, Suffix("toxic.example", 99, 3, BLOCKED))


@pytest.mark.parametrize("port", [0, 1])
def test_a_toxic_name_over_two_segments_is_refused_at_both_ends(port: int) -> None:
    wire = Wire()
    holder = Holder(wire, names(TOXIC), 300 * MS)
    hello = client_hello("www.toxic.example")
    first, second = held(hello[:100], 1000, 5 * MS, port), held(hello[100:], 1100, 6 * MS, port)
    holder.take(first, 6 * MS)
    assert wire.log == []
    holder.take(second, 7 * MS)
    assert wire.log[0] == ("answer", key_of_event(first), HOLD, Verdict.REFUSE, Reason.TOXIC_SNI)
    assert len(wire.answers) == 1, "answered before anybody is told, and once"
    (to_client,), (to_server,) = wire.sent(port), wire.sent(1 - port)
    assert Ether(to_client)[TCP].ack == 1000 + len(hello) and Ether(to_server)[TCP].seq == 1000
    assert not Ether(to_server)[TCP].payload
    assert [r.kind for r in wire.reports] == [EventKind.NAME, EventKind.BLOCKED]
    blocked = wire.reports[1]
    assert (blocked.name, blocked.reason, blocked.category) == (
        "www.toxic.example",
        Reason.TOXIC_SNI,
        Category.PHISHING,
    )


@pytest.mark.parametrize("moved", [0, 100, 64 * 1024, -1 << 20, 1 << 31])
def test_another_connection_between_the_same_ends_is_judged_by_its_own_name(moved: int) -> None:
    """A client's port may be used again at once, after a reset, and with the sequence numbers of before."""
    wire = Wire()
    asked: list[str] = []

    def verdict(name: str, _device: bytes) -> NameVerdict:
        asked.append(name)
        return TOXIC if "toxic" in name else NameVerdict(NameKind.CLEAN)

    holder = Holder(wire, verdict, 300 * MS)
    honest, toxic = client_hello("www.honest.example"), client_hello("www.toxic.example")
    start = (5_000_000 + moved) % (1 << 32)
    holder.take(held(honest, 5_000_000, 5 * MS), 5 * MS)
    holder.take(held(toxic[:100], start, 5 * MS, hold=HOLD + 1), 5 * MS)
    holder.take(held(toxic[100:], (start + 100) % (1 << 32), 5 * MS, hold=HOLD + 1), 5 * MS)
    assert asked == ["www.honest.example", "www.toxic.example"]
    holder.take(held(honest, start, 5 * MS, hold=HOLD + 2), 5 * MS)
    assert asked[2:] == ["www.honest.example"]
    told = [(hold, said) for _key, hold, said, _reason in wire.answers]
    assert told == [(HOLD, Verdict.PASS), (HOLD + 1, Verdict.REFUSE), (HOLD + 2, Verdict.PASS)]


def test_the_answer_to_a_hold_that_ends_late_is_its_own() -> None:
    """The next connection has begun when the hold time of the one before is over."""
    wire = Wire()
    holder = Holder(wire, names(TOXIC), 300 * MS)
    hello = client_hello("www.toxic.example")
    first, again = held(hello[:100], 1000, 5 * MS), held(hello[:100], 1000, 250 * MS, hold=HOLD + 1)
    holder.take(first, 5 * MS)
    holder.take(again, 250 * MS)
    holder.expire(305 * MS)
    assert wire.log == [("send", 1, first.payload), let_go(first)]
    holder.take(held(hello[100:], 1100, 306 * MS, hold=HOLD + 1), 306 * MS)
    assert wire.answers[1:] == [(key_of_event(again), HOLD + 1, Verdict.REFUSE, Reason.TOXIC_SNI)]


def test_a_late_segment_of_a_refused_connection_is_refused_too() -> None:
    wire = Wire()
    holder = Holder(wire, names(TOXIC), 300 * MS)
    hello = client_hello("www.toxic.example")
    holder.take(held(hello, 1000, 5 * MS), 5 * MS)
    holder.take(held(b"GET / HTTP/1.1", 1000 + len(hello), 6 * MS), 6 * MS)
    assert all(not Ether(f)[TCP].payload for f in wire.sent(1))


@pytest.mark.parametrize(("verdict", "kinds"), [
    (NameVerdict(NameKind.CLEAN), [EventKind.NAME]),
    (NameVerdict(NameKind.NEVER), [EventKind.NAME]),
    (NameVerdict(NameKind.OBSERVE, Suffix("odd.example", 7, 2, OBSERVED)), [EventKind.NAME, EventKind.OBSERVED]),
])  # fmt: skip
def test_others_go_on_in_order_and_are_released_after(verdict: NameVerdict, kinds: list[EventKind]) -> None:
    wire = Wire()
    holder = Holder(wire, names(verdict), 300 * MS)
    hello = client_hello("www.fine.example")
    second, first = held(hello[200:], 1200, 5 * MS), held(hello[:200], 1000, 6 * MS)
    holder.take(second, 5 * MS)  # out of order
    holder.take(first, 6 * MS)
    assert wire.log == [("send", 1, second.payload), ("send", 1, first.payload), let_go(first)]
    assert [r.kind for r in wire.reports] == kinds


def test_undecided_after_the_hold_time_is_let_through() -> None:
    wire = Wire()
    holder = Holder(wire, names(TOXIC), 300 * MS)
    event = held(client_hello("www.toxic.example")[:100], 1000, 5 * MS)
    holder.take(event, 5 * MS)
    assert holder.next_deadline_ns == 305 * MS
    holder.expire(304 * MS)
    assert wire.log == []
    holder.expire(305 * MS)
    assert wire.log == [("send", 1, event.payload), let_go(event)]


def test_a_merged_hello_is_read_and_sent_as_two_segments() -> None:
    wire = Wire()
    holder = Holder(wire, names(NameVerdict(NameKind.CLEAN)), 300 * MS)
    hello = client_hello("www.fine.example")
    holder.take(held(hello, 1000, 5 * MS, gso_size=300), 5 * MS)
    sent = wire.sent(1)
    assert len(sent) == -(-len(hello) // 300)
    assert b"".join(bytes(Ether(f)[TCP].payload) for f in sent) == hello


def test_frames_left_by_a_killed_worker_are_forgotten() -> None:
    wire = Wire()
    Holder(wire, names(TOXIC), 300 * MS).take(held(b"x", 1, 5 * MS), 5000 * MS)
    assert wire.log == []


NEVER = ClassEntry(flags=1)
FORCED = ClassEntry(flags=4, action=Action.BLOCK, category=Category.DOH)


@pytest.mark.parametrize(
    ("suffixes", "kind"),
    [
        ([], NameKind.CLEAN),
        ([(None, "none")], NameKind.CLEAN),
        ([(BLOCKED, "none")], NameKind.BLOCK),
        ([(BLOCKED, "none"), (OBSERVED, "none")], NameKind.OBSERVE),
        ([(NEVER, "none"), (BLOCKED, "none")], NameKind.NEVER),
        ([(BLOCKED, "none"), (NEVER, "none")], NameKind.NEVER),
        ([(NEVER, "none"), (FORCED, "none")], NameKind.BLOCK),
        ([(BLOCKED, "allow"), (BLOCKED, "none")], NameKind.EXCEPTION_ALLOW),
        ([(None, "allow"), (None, "block")], NameKind.EXCEPTION_BLOCK),
        ([(NEVER, "observe")], NameKind.EXCEPTION_OBSERVE),
    ],
)
def test_precedence_of_names(suffixes: list[tuple[ClassEntry | None, str]], kind: NameKind) -> None:
    made = [Suffix(f"s{i}", i, 1 if e else 0, e, Action[local.upper()]) for i, (e, local) in enumerate(suffixes)]
    assert judge(made).kind is kind
