"""MQTT packets as the broker sends them, in pieces of any size, whole or spoilt."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from vigie_department.ingest import packets
from vigie_department.ingest.packets import Message, PacketError, Splitter


def split(data: bytes, *sizes: int) -> list[tuple[int, bytes]]:
    splitter, found = Splitter(), []
    for size in sizes:
        found += splitter.feed(data[:size])
        data = data[size:]
    return found + list(splitter.feed(data))


@given(
    st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=20), st.binary(max_size=400), st.integers(0, 9))),
    st.lists(st.integers(0, 300)),
)
def test_messages_come_out_as_they_went_in(sent: list[tuple[str, bytes, int]], sizes: list[int]) -> None:
    """However the stream is cut."""
    data = b"".join(packets.publish(*one) for one in sent)
    found = [packets.message(first, body) for first, body in split(data, *sizes)]
    assert found == [Message(topic, payload, int(mid > 0), mid) for topic, payload, mid in sent]


@pytest.mark.parametrize("size", [0, 119, 120, 127, 128, 16_383, 16_384, 60_000])
def test_lengths(size: int) -> None:
    data = packets.publish("t", b"x" * size, 1)
    for cut in (1, 2, 3, 4, 5):
        assert [len(packets.message(*one).payload) for one in split(data + data, cut)] == [size, size]


def test_properties_are_skipped() -> None:
    properties = Properties(PacketTypes.PUBLISH)
    properties.CorrelationData = b"c" * 200
    data = packets.publish("a/b", b"body", 0, retain=True, properties=properties)
    ((first, body),) = split(data)
    assert (first, packets.message(first, body)) == (0x31, Message("a/b", b"body", 0, 0))


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\xff\xff\xff\xff\x01",
        b"\x30" + b"\xff\xff\x7f",  # 2 MiB
        b"\x34\x05\x00\x01t\x00\x01\x00",  # QoS 2
    ],
)
def test_what_is_not_ours_to_read(data: bytes) -> None:
    with pytest.raises(PacketError):
        for first, body in split(data):
            packets.message(first, body)


@given(st.integers(0, 255), st.binary(max_size=40))
def test_nothing_else_than_a_packet_error(first: int, body: bytes) -> None:
    for read in (packets.message, packets.answer):
        try:
            read(first, body)
        except PacketError:
            continue


def test_answers() -> None:
    properties = Properties(PacketTypes.CONNACK)
    properties.ReceiveMaximum = 20
    properties.ServerKeepAlive = 9
    connack = packets.answer(packets.CONNACK, b"\x01\x00" + properties.pack())
    assert (connack.session, connack.failed, connack.receive_maximum, connack.keepalive_s) == (True, False, 20, 9)
    refused = packets.answer(packets.CONNACK, b"\x00\x87\x00")
    assert (refused.failed, refused.reason) == (True, "Not authorized")
    assert not packets.answer(packets.SUBACK, b"\x00\x01\x00\x01").failed
    assert packets.answer(packets.SUBACK, b"\x00\x01\x00\x87").failed
    assert packets.answer(packets.PUBACK, b"\x01\x02").mid == 258
    assert packets.answer(packets.PUBACK, b"\x00\x02\x87\x00").failed
    assert not packets.answer(packets.PUBACK, b"\x00\x02\x10").failed, "nobody listens: no failure"


def test_a_repeated_publication_says_so() -> None:
    packet = packets.publish("t", b"x", 5)
    assert packets.again(packet)[0] & 0x08
    assert packets.again(packet)[1:] == packet[1:]


def test_acknowledgements_in_one_piece() -> None:
    data = packets.acknowledged([1, 2, 65_535])
    assert data == b"".join(b"\x40\x02" + struct.pack("!H", mid) for mid in (1, 2, 65_535))
    assert packets.acknowledged([]) == b""
