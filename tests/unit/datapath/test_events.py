"""Events decode to what was encoded, one by one and in batches; damaged records are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.codes import Category, EventKind, Reason, Verdict
from vigie.errors import DecodeError
from vigie.filter import abi, events

U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
MAC, ADDR = st.binary(min_size=6, max_size=6), st.binary(min_size=16, max_size=16)

EVENTS = st.builds(
    events.Event,
    ns=U64,
    kind=st.sampled_from(EventKind),
    verdict=st.sampled_from(Verdict),
    reason=st.sampled_from(Reason),
    port=st.integers(0, 1),
    category=st.sampled_from(Category),
    class_id=U8,
    smac=MAC,
    dmac=MAC,
    vlan=st.none() | st.integers(0, 4095),
    proto=U8,
    family=st.sampled_from([0, 4, 6]),
    src_raw=ADDR,
    dst_raw=ADDR,
    sport=U16,
    dport=U16,
    frame_len=U32,
    gen=U32,
    tcp_flags=U8,
    direction=st.integers(0, 2),
    gso_size=U16,
    name_hash=U64,
    remote_rank=U32,
    payload=st.binary(max_size=abi.EVENT_PAYLOAD),
)


@given(EVENTS, st.binary(max_size=16))
def test_round_trip_whatever_follows(event: events.Event, tail: bytes) -> None:
    assert events.decode(events.encode(event) + tail) == event


@pytest.mark.slow
@given(st.lists(EVENTS, max_size=8))
def test_batch_says_the_same(many: list[events.Event]) -> None:
    columns = events.decode_batch([events.encode(e) for e in many])
    assert columns["kind"].tolist() == [int(e.kind) for e in many]
    assert columns["payload_len"].tolist() == [len(e.payload) for e in many]
    assert columns["name_hash"].tolist() == [e.name_hash for e in many]
    assert [row.tobytes() for row in columns["dst"]] == [e.dst_raw for e in many]


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(record: bytes) -> None:
    try:
        event = events.decode(record)
    except DecodeError:
        return
    assert len(event.payload) <= len(record) - abi.EVENT.itemsize


def example(**changes: object) -> events.Event:
    event = events.Event(
        1, EventKind.BLOCKED, Verdict.REFUSE, Reason.TOXIC_ADDRESS, 0, Category.C2, 3, b"\x02\0\0\0\0\x01",
        b"\x02\0\0\0\0\x02", None, 6, 4, abi.address_bytes("192.0.2.1"), abi.address_bytes("198.51.100.7"),
        40000, 443, 60, 5, 2, events.TO_INTERNET, 0, 0, 0, b"",
    )  # fmt: skip
    return event._replace(**changes)


def test_device_and_remote_depend_on_the_direction() -> None:
    out, back = example(), example(direction=events.FROM_INTERNET)
    assert (out.device_mac, out.remote) == (out.smac, "198.51.100.7")
    assert (back.device_mac, back.remote) == (back.dmac, "192.0.2.1")
    assert out.smac_text == "02:00:00:00:00:01"
    assert example(family=0).src == ""


def test_payload_longer_than_the_record_is_refused() -> None:
    with pytest.raises(DecodeError, match="payload"):
        events.decode(events.encode(example(payload=b"abcd"))[:-1])


def test_unknown_number_names_the_version() -> None:
    raw = bytearray(events.encode(example()))
    raw[abi.EVENT.fields["reason"][1]] = 250  # type: ignore[index]
    with pytest.raises(DecodeError, match=r"reason 250.*version"):
        events.decode(bytes(raw))


def test_short_record_is_refused() -> None:
    for function in (events.decode, lambda r: events.decode_batch([r])):
        with pytest.raises(DecodeError):
            function(bytes(abi.EVENT.itemsize - 1))  # type: ignore[operator]
