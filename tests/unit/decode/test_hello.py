"""Held frames: any cut, order, repetition or overlap of a hello gives its name; all is bounded and let go in time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.decode import make
from vigie.filter.decode import frames
from vigie.filter.hello import HOLD_NS, MEMORY_NS, Decided, GiveUp, HelloAssembler, Waiting, Why

HELLO = make.records(make.hello_message(b"toxic.example", before=make.LARGE))
MS = 1_000_000


def feed(assembler: HelloAssembler[int], data: bytes, token: int = 0, now: int = 0) -> object:
    return assembler.feed(now, frames.parse(data), token)[-1]


def test_two_segments() -> None:
    assembler: HelloAssembler[int] = HelloAssembler()
    waiting = feed(assembler, make.tcp_frame(HELLO[:1200], 1000), 1)
    assert isinstance(waiting, Waiting)
    assert waiting.deadline_ns == HOLD_NS == assembler.next_deadline_ns
    decided = feed(assembler, make.tcp_frame(HELLO[1200:], 2200), 2, 5 * MS)
    assert isinstance(decided, Decided)
    assert (decided.name, decided.frames, decided.conflict) == ("toxic.example", (1, 2), False)
    assert (decided.flow.client_port, decided.flow.server_port) == (40000, 443)
    assert len(assembler) == 0


def test_frames_already_on_their_way_get_the_same_answer() -> None:
    assembler: HelloAssembler[int] = HelloAssembler()
    feed(assembler, make.tcp_frame(HELLO, 1000), 1)
    late = feed(assembler, make.tcp_frame(b"more", 1000 + len(HELLO)), 2, 10 * MS)
    assert isinstance(late, Decided)
    assert (late.name, late.frames) == ("toxic.example", (2,))
    # The port is used again, with the same numbers: another hold begins from nothing, and the first is remembered
    again = frames.parse(make.tcp_frame(HELLO[:9], 1000))
    assert isinstance(assembler.feed(11 * MS, again, 3, hold=8)[-1], Waiting)
    assert isinstance(feed(assembler, make.tcp_frame(b"more", 1000 + len(HELLO)), 4, 12 * MS), Decided)
    # until 2 s have passed.
    assert isinstance(feed(assembler, make.tcp_frame(HELLO[:9], 1000), 5, MEMORY_NS), Waiting)


def test_time_over() -> None:
    assembler: HelloAssembler[int] = HelloAssembler()
    feed(assembler, make.tcp_frame(HELLO[:100], 1000), 1, 7)
    assert assembler.expire(HOLD_NS + 6) == []
    (given_up,) = assembler.expire(HOLD_NS + 7)
    assert (given_up.frames, given_up.why) == ((1,), Why.TIMEOUT)
    assert isinstance(feed(assembler, make.tcp_frame(HELLO[100:], 1100), 2, HOLD_NS + 8), GiveUp)
    assert assembler.next_deadline_ns is None
    feed(assembler, make.tcp_frame(HELLO[:100], 1, sport=2), 1, 0)
    late = feed(assembler, make.tcp_frame(HELLO[100:200], 101, sport=2), 2, HOLD_NS)
    assert isinstance(late, GiveUp)
    assert (late.frames, late.why) == ((1, 2), Why.TIMEOUT)


def test_out_of_order_over_the_end_of_sequence_numbers() -> None:
    base = 0xFFFFFFFF - 500
    pieces = [(at, HELLO[at : at + 300]) for at in range(0, len(HELLO), 300)]
    for order in itertools.islice(itertools.permutations(pieces), 0, 720, 97):
        assembler: HelloAssembler[int] = HelloAssembler()
        last = [feed(assembler, make.tcp_frame(data, base + at), at) for at, data in order][-1]
        assert isinstance(last, Decided), order
        assert last.name == "toxic.example"


def test_a_segment_that_looks_like_another_hello_does_not_decide() -> None:
    decoy = b"\x16\x03\x01\x40\x00\x02"  # would be "not a ClientHello" if it were the beginning
    message = make.hello_message(b"toxic.example", before=make.extension(21, decoy * 3))
    data = make.records(message)
    cut = data.index(decoy)
    assembler: HelloAssembler[int] = HelloAssembler()
    assert isinstance(feed(assembler, make.tcp_frame(data[cut:], 1000 + cut)), Waiting)
    decided = feed(assembler, make.tcp_frame(data[:cut], 1000))
    assert isinstance(decided, Decided)
    assert decided.name == "toxic.example"


def test_conflicting_overlap_is_flagged_and_the_first_bytes_stay() -> None:
    assembler: HelloAssembler[int] = HelloAssembler()
    feed(assembler, make.tcp_frame(HELLO[:1000], 1000))
    feed(assembler, make.tcp_frame(b"\xff" * 200, 1900))
    decided = feed(assembler, make.tcp_frame(HELLO[1000:], 2000))
    assert decided == Decided(decided.flow, decided.name, (0, 0, 0), conflict=True)  # type: ignore[attr-defined]


def test_with_the_syn_seen_other_protocols_are_let_go_at_once() -> None:
    for payload, why in ((b"SSH-2.0-x\r\n", Why.NOT_TLS), (b"\x16\x03\x01\0\0", Why.MALFORMED)):
        assembler: HelloAssembler[int] = HelloAssembler()
        assert isinstance(feed(assembler, make.tcp_frame(b"", 999, flags=2), 1), Waiting)
        result = feed(assembler, make.tcp_frame(payload, 1000), 2)
        assert isinstance(result, GiveUp)
        assert (result.frames, result.why) == ((1, 2), why)
    assembler = HelloAssembler()
    feed(assembler, make.tcp_frame(HELLO[:50], 999, flags=2))
    assert isinstance(feed(assembler, make.tcp_frame(HELLO[50:], 1050)), Decided), "TCP Fast Open"


def test_bounds() -> None:
    assembler: HelloAssembler[int] = HelloAssembler(max_segments=4)
    for number in range(4):
        assert isinstance(feed(assembler, make.tcp_frame(b"\x16", 1000 + 2 * number)), Waiting)
    result = feed(assembler, make.tcp_frame(b"\x16", 2000))
    assert isinstance(result, GiveUp)
    assert result.why is Why.BOUNDS
    assembler = HelloAssembler()
    feed(assembler, make.tcp_frame(b"\x16\x03", 1000))
    assert feed(assembler, make.tcp_frame(b"x", 1000 + 20_000)).why is Why.BOUNDS  # type: ignore[attr-defined]
    assembler = HelloAssembler(max_segments=3)
    results = [feed(assembler, make.tcp_frame(b"\x16", 1000), number) for number in range(8)]
    assert isinstance(results[-1], GiveUp), "the same byte for ever"


def test_oldest_flows_are_given_up() -> None:
    assembler: HelloAssembler[int] = HelloAssembler(max_flows=2)
    part = HELLO[:100]
    for port in (1, 2):
        assembler.feed(port, frames.parse(make.tcp_frame(part, 1, sport=port)), port)
    crowded, waiting = assembler.feed(3, frames.parse(make.tcp_frame(part, 1, sport=3)), 3)
    assert isinstance(crowded, GiveUp)
    assert (crowded.flow.client_port, crowded.frames, crowded.why) == (1, (1,), Why.CROWDED)
    assert isinstance(waiting, Waiting)
    small: HelloAssembler[int] = HelloAssembler(max_total=400)
    small.feed(1, frames.parse(make.tcp_frame(part, 1, sport=1)), 1)
    small.feed(2, frames.parse(make.tcp_frame(part, 1, sport=2)), 2)
    outcomes = small.feed(3, frames.parse(make.tcp_frame(part, 1, sport=3)), 3)
    assert [type(outcome) for outcome in outcomes] == [GiveUp, Waiting]
    alone = HelloAssembler[int](max_total=50).feed(1, frames.parse(make.tcp_frame(part, 1)), 1)
    assert [type(outcome) for outcome in alone] == [GiveUp]


def test_quic() -> None:
    message = make.hello_message(b"quic.example", before=make.LARGE)
    assembler: HelloAssembler[int] = HelloAssembler()
    one = make.udp_frame(make.initial(make.crypto(700, message[700:]), number=0))
    two = make.udp_frame(make.initial(make.crypto(0, message[:700]), number=1))
    assert isinstance(feed(assembler, one, 1), Waiting)
    decided = feed(assembler, two, 2)
    assert isinstance(decided, Decided)
    assert (decided.name, decided.frames) == ("quic.example", (1, 2))


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"hello", Why.NOT_QUIC),
        (b"\xc0\xff\0\0\x1d\x08" + bytes(1300), Why.UNDECODABLE),
        (make.initial(b"\x08".ljust(60, b"\0")), Why.MALFORMED),
        (make.initial(make.crypto(0, b"\x02\0\0\0").ljust(60, b"\0")), Why.MALFORMED),
    ],
)
def test_quic_given_up(payload: bytes, why: Why) -> None:
    result = feed(HelloAssembler(), make.udp_frame(payload))
    assert isinstance(result, GiveUp)
    assert result.why is why


def test_fragments_and_other_protocols() -> None:
    for packet in (
        make.ipv4(17, bytes(40), fragment=0x2000),
        make.ipv4(6, bytes(40), fragment=5),
        make.ipv4(47, bytes(8)),
    ):
        result = feed(HelloAssembler(), make.ethernet(packet))
        assert isinstance(result, GiveUp)
        assert result.why is Why.NO_TRANSPORT


@st.composite
def segmentations(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Ranges that cover the hello in any order, some overlapping or repeated; at most 32 of them."""
    cuts = draw(st.lists(st.integers(1, len(HELLO) - 1), max_size=12, unique=True))
    edges = [0, *sorted(cuts), len(HELLO)]
    pieces = [(a, min(len(HELLO), b + draw(st.integers(0, 40)))) for a, b in itertools.pairwise(edges)]
    pieces += draw(st.lists(st.sampled_from(pieces), max_size=6))
    return draw(st.permutations(pieces))


@settings(deadline=None)
@given(segmentations(), st.integers(0, 0xFFFFFFFF), st.booleans())
def test_any_segmentation_gives_the_name(pieces: list[tuple[int, int]], base: int, syn: bool) -> None:
    assembler: HelloAssembler[int] = HelloAssembler()
    given: list[bytes] = [make.tcp_frame(b"", base - 1, flags=2)] if syn else []
    given += [make.tcp_frame(HELLO[a:b], base + a) for a, b in pieces]
    released: list[int] = []
    names: list[str | None] = []
    for token, data in enumerate(given):
        for outcome in assembler.feed(token, frames.parse(data), token):
            assert not isinstance(outcome, GiveUp), outcome
            if isinstance(outcome, Decided):
                assert not outcome.conflict
                names.append(outcome.name)
                released += outcome.frames
    assert set(names) == {"toxic.example"}
    assert released == list(range(len(given))), "every frame goes on, in its order"
