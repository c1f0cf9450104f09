"""ClientHello: any bytes give one of the four answers, and longer input never contradicts a name already given."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.decode import make
from vigie.filter.decode.tls import NEED_MORE, Hello, Outcome, parse_client_hello, parse_hello_message

ODD = make.extension(0x0A0A, b"") + make.extension(16, b"\0\x03\x02h2") + make.extension(0xFE0D, bytes(40))
VALID = make.records(
    make.hello_message(b"valid.example", before=ODD, after=make.extension(43, b"\x02\x03\x04")), [3, 90]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(VALID)
    for _ in range(draw(st.integers(0, 8))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


@settings(max_examples=1500, deadline=None)
@given(
    st.one_of(st.binary(max_size=400), damaged(), st.binary(max_size=300).map(lambda raw: make.records(b"\x01" + raw)))
)
def test_any_bytes(data: bytes) -> None:
    for result in (parse_client_hello(data), parse_hello_message(data)):
        assert isinstance(result, Hello | Outcome)
        if isinstance(result, Hello) and result.name is not None:
            assert result.name == result.name.lower()
            assert len(result.name) <= 253
            assert result.name.isascii()


@settings(max_examples=500, deadline=None)
@given(damaged(), st.data())
def test_a_prefix_never_names_another_server(data: bytes, more: st.DataObject) -> None:
    early = parse_client_hello(data[: more.draw(st.integers(0, len(data)))])
    late = parse_client_hello(data)
    if isinstance(early, Hello) and isinstance(late, Hello):
        assert early.name == late.name
    if isinstance(early, Hello):
        assert late is not NEED_MORE
