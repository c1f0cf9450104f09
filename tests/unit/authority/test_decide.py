"""The decision table, whole; ids of challenges; rate limits."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.identity import SERIAL
from vigie_provisioning.authority.decide import RULES, Ask, Block, Outcome, Record, after_issue, decide
from vigie_provisioning.authority.limits import Buckets, source_of
from vigie_provisioning.authority.profiles import new_key
from vigie_provisioning.authority.token import Tickets, derived_key

OLD, NEW = b"old key", b"new key"
ENROLLED = Record(seq=3, shown=2, key=OLD)


@pytest.mark.parametrize(
    ("record", "ask", "rule", "outcome"),
    [
        (Record(), Ask(0, NEW), "first", Outcome.ISSUE),
        (Record(), Ask(7, NEW), "restored", Outcome.ISSUE),
        (Record(1, 0, OLD), Ask(0, OLD), "lost-reply", Outcome.REPEAT),
        (Record(1, 0, OLD), Ask(0, NEW), "conflict", Outcome.CONFLICT),
        (Record(1, 0, OLD), Ask(1, NEW), "current", Outcome.ISSUE),
        (ENROLLED, Ask(3, NEW), "current", Outcome.ISSUE),
        (ENROLLED, Ask(3, OLD), "current", Outcome.ISSUE),
        (ENROLLED, Ask(2, OLD), "lost-reply", Outcome.REPEAT),
        (ENROLLED, Ask(2, NEW), "stale", Outcome.CLONE),
        (ENROLLED, Ask(1, OLD), "stale", Outcome.CLONE),
        (ENROLLED, Ask(0, OLD), "conflict", Outcome.CONFLICT),
        (ENROLLED, Ask(0, NEW), "conflict", Outcome.CONFLICT),
        (ENROLLED, Ask(9, NEW), "restored", Outcome.ISSUE),
        (Record(3, 2, OLD, released=True), Ask(0, NEW), "released", Outcome.ISSUE),
        (Record(3, 2, OLD, released=True), Ask(1, NEW), "released", Outcome.ISSUE),
        (Record(3, 2, OLD, released=True), Ask(2, OLD), "lost-reply", Outcome.REPEAT),
        (Record(3, 2, OLD, Block.CLONE, released=True), Ask(3, NEW), "quarantined", Outcome.CLONE),
        (Record(3, 2, OLD, Block.OPERATOR), Ask(3, NEW), "blocked", Outcome.REFUSE),
        (Record(3, 2, OLD, Block.REVOKED), Ask(2, OLD), "blocked", Outcome.REFUSE),
        (Record(block=Block.DECOMMISSIONED), Ask(0, NEW), "blocked", Outcome.REFUSE),
    ],
)
def test_table(record: Record, ask: Ask, rule: str, outcome: Outcome) -> None:
    assert decide(record, ask) == (outcome, rule)


def test_every_rule_is_used() -> None:
    records = [
        Record(seq, max(seq - 1, 0), OLD if seq else b"", block, released)
        for seq, block, released in product(range(4), Block, (False, True))
    ]
    used = {decide(record, Ask(shown, key))[1] for record in records for shown in range(6) for key in (OLD, NEW)}
    assert used == {rule.name for rule in RULES}


blocks = st.sampled_from(list(Block))
records = st.builds(Record, st.integers(0, 9), st.integers(0, 9), st.sampled_from([OLD, NEW]), blocks, st.booleans())
asks = st.builds(Ask, st.integers(0, 12), st.sampled_from([OLD, NEW]))


@given(records, asks)
def test_what_always_holds(record: Record, ask: Ask) -> None:
    outcome, _rule = decide(record, ask)
    if record.block:
        assert outcome in (Outcome.CLONE, Outcome.REFUSE), "a blocked serial gets nothing"
    if outcome is Outcome.ISSUE:
        after = after_issue(record, ask)
        assert after.seq > max(record.seq, ask.shown), "the counter only moves up"
        assert decide(after, ask) == (Outcome.REPEAT, "lost-reply"), "asking again with the same key changes nothing"
        assert not after.released, "a release counts once"
        copy = Ask(ask.shown, b"the key of a copy")
        assert decide(after, copy)[0] in (Outcome.CONFLICT, Outcome.CLONE), "the second of two copies is found"


def test_ids_of_challenges() -> None:
    tickets = Tickets(derived_key(new_key()), 120)
    sid, ticket = tickets.issue("VG-0001", b"d" * 32, 1000)
    assert tickets.read(sid, 1000) == ticket
    assert tickets.read(sid, 1120) == ticket
    assert tickets.read(sid, 1121) is None
    assert tickets.read(sid, 994) is None
    other, _ticket = tickets.issue("VG-0001", b"d" * 32, 1000)
    assert other != sid
    assert Tickets(derived_key(new_key()), 120).read(sid, 1000) is None


@given(st.integers(0, 1000), st.integers(1, 255))
def test_a_changed_id_is_not_ours(position: int, change: int) -> None:
    tickets = Tickets(b"k" * 32, 120)
    raw = bytearray.fromhex(tickets.issue("VG-0001", b"d" * 32, 1000)[0])
    raw[position % len(raw)] ^= change
    assert tickets.read(raw.hex(), 1000) is None


@given(st.text(alphabet="0123456789abcdefg", max_size=600))
def test_any_text_as_an_id(text: str) -> None:
    assert Tickets(b"k" * 32, 120).read(text, 1000) is None


@given(st.from_regex(SERIAL, fullmatch=True))
def test_ids_fit_the_contract(serial: str) -> None:
    sid, _ticket = Tickets(b"k" * 32, 120).issue(serial, b"d" * 32, 2**40)
    assert 32 <= len(sid) <= 512


def test_buckets() -> None:
    buckets = Buckets(rate=2.0, burst=3.0, most=2)
    assert [buckets.wait("a", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert buckets.wait("a", 0.0) == pytest.approx(0.5)
    assert buckets.wait("b", 0.0) == 0.0, "others are not concerned"
    assert buckets.wait("a", 0.5) == 0.0
    assert buckets.wait("a", 0.4) > 0.0, "a clock that goes back gives nothing"
    for name in ("c", "d", "e"):
        buckets.wait(name, 1.0)
    assert len(buckets) == 2


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("x" * 100, "x" * 64),
    ],
)
def test_sources(address: str, source: str) -> None:
    assert source_of(address) == source
