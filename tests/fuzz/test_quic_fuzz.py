"""QUIC: any datagrams, and any payload of a well-formed Initial, are read without an exception and within bounds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.decode import make
from vigie.filter.decode import quic
from vigie.filter.decode.tls import Hello, Outcome

VALID = make.initial(
    make.crypto(0, make.hello_message(b"valid.example")).ljust(400, b"\0"), token=b"token", scid=b"abc"
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(VALID)
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, min(len(data) - 1, 60)))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


@settings(max_examples=600, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=300), damaged()), max_size=6))
def test_any_datagrams(datagrams: list[bytes]) -> None:
    stream = quic.InitialStream()
    for datagram in datagrams:
        assert isinstance(stream.feed(datagram), Hello | Outcome | quic.Kind)
        header = quic.parse_header(datagram)
        assert header.end <= len(datagram)


FRAMES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.just(b"\x01"),
        st.integers(1, 30).map(bytes),
        st.tuples(st.integers(0, 20_000), st.binary(max_size=60)).map(lambda pair: make.crypto(*pair)),
    ),
    max_size=20,
).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(st.lists(FRAMES, max_size=4), st.sampled_from((quic.VERSION_1, quic.VERSION_2)))
def test_any_frames(payloads: list[bytes], version: int) -> None:
    stream = quic.InitialStream()
    for number, payload in enumerate(payloads):
        result = stream.feed(make.initial(payload.ljust(20, b"\0"), version=version, number=number))
        assert isinstance(result, Hello | Outcome)
    assert stream.decrypted <= len(payloads)
