"""Frames: any bytes are read without an exception, and what is told about them holds together."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.decode import make
from vigie.contract.codes import Reason
from vigie.filter.decode import frames
from vigie.filter.hello import HOLD_NS, HelloAssembler, Waiting

VALID = [
    make.tcp_frame(b"payload", 7, tags=(1, 2)),
    make.udp_frame(make.initial(make.crypto(0, make.hello_message()).ljust(300, b"\0"))),
    make.tcp_frame(make.records(make.hello_message()), 1),
    make.ethernet(make.ipv6(0, b"\x2b\0" + bytes(6) + b"\x2c\0" + bytes(6) + b"\x11\0\0\0\0\0\0\0" + bytes(16))),
    make.ethernet(make.ipv4(1, bytes(16), options=bytes(8))),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid frame with bytes changed, cut or added."""
    data = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(0, 6))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=8))


@settings(max_examples=1000, deadline=None)
@given(st.one_of(st.binary(max_size=200), damaged()))
def test_any_bytes(data: bytes) -> None:
    for frame in (frames.parse(data), frames.parse_ip(data)):
        assert frame.anomaly is Reason.NONE or frame.anomaly.is_anomaly
        assert frame.end <= len(data)
        assert len(frame.src) == len(frame.dst) == {0: 0, 4: 4, 6: 16}[frame.family]
        assert len(frame.vlans) <= frames.VLAN_MAX
        if frame.l4:
            assert frame.l3 < frame.l4 < frame.payload_start <= frame.end
            assert not frame.fragment_offset
        else:
            assert frame.payload == b""
        assert bool(frame.source) == bool(frame.family)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(damaged(), st.sampled_from(VALID)), max_size=20))
def test_the_assembler_lets_every_frame_go_once(given_frames: list[bytes]) -> None:
    assembler: HelloAssembler[int] = HelloAssembler(max_flows=3, max_segments=4)
    released: list[int] = []
    for token, data in enumerate(given_frames):
        for outcome in assembler.feed(token, frames.parse(data), token):
            if not isinstance(outcome, Waiting):
                released += outcome.frames
    for given_up in assembler.expire(HOLD_NS + len(given_frames)):
        released += given_up.frames
    assert sorted(released) == list(range(len(given_frames)))
    assert len(assembler) == 0
