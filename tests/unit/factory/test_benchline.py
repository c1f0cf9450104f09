"""Frames on a console: found in any noise, believed only when whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.bench import Hello, Label, Outcome, State
from vigie.contract.benchline import FRAME_MAX, Decoder, Frame, Side, encode
from vigie.contract.errors import ContractError, MessageError, TooLargeError

BODIES = st.dictionaries(
    st.text(max_size=20), st.one_of(st.integers(0, 2**50), st.text(max_size=60), st.booleans(), st.none()), max_size=6
)


@given(BODIES, st.integers(0, 2**31 - 1), st.lists(st.integers(1, 40), max_size=60))
def test_a_frame_in_pieces_of_any_size(body: dict[str, object], number: int, sizes: list[int]) -> None:
    data = encode(Side.STATION, number, body)
    assert data.isascii()
    decoder = Decoder(Side.BOARD)
    found = []
    for size in [*sizes, len(data)]:
        found += decoder.feed(data[:size])
        data = data[size:]
    assert found == [Frame(Side.STATION, number, body)]


@given(st.binary(max_size=300), BODIES, st.binary(max_size=300))
def test_noise_before_and_after(before: bytes, body: dict[str, object], after: bytes) -> None:
    decoder = Decoder(Side.STATION)
    found = decoder.feed(before + encode(Side.BOARD, 7, body) + after + b"\n")
    assert Frame(Side.BOARD, 7, body) in found


@given(BODIES, st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_no_other_frame(body: dict[str, object], at: int, change: int) -> None:
    """CRC-32 catches every burst up to 32 bits: a changed frame is dropped or, outside its text, the same."""
    data = bytearray(encode(Side.BOARD, 3, body))
    at %= len(data)
    data[at] ^= change
    assert Decoder(Side.STATION).feed(bytes(data) + b"\n") in ([], [Frame(Side.BOARD, 3, body)])


@given(st.binary(max_size=5000))
def test_any_bytes_are_no_frame(data: bytes) -> None:
    decoder = Decoder(Side.STATION)
    assert decoder.feed(data + b"\n") == []


def test_the_own_echo_is_left() -> None:
    decoder = Decoder(Side.STATION)
    assert decoder.feed(encode(Side.STATION, 1, {"q": "hello"})) == []


def test_a_frame_torn_by_the_kernels_log_is_dropped_and_the_log_is_kept() -> None:
    data = encode(Side.BOARD, 1, {"ok": {"a": "b" * 40}})
    torn = data[:30] + b"[    3.1] usb 1-1: new device\r\n" + data[30:]
    decoder = Decoder(Side.STATION)
    assert decoder.feed(torn) == []
    assert decoder.dropped == 1
    assert any("usb 1-1" in line for line in decoder.noise())
    assert decoder.noise() == []


def test_two_frames_on_one_line_and_half_a_frame_before_them() -> None:
    one, two = (encode(Side.BOARD, n, {"n": n}).strip(b"\n") for n in (1, 2))
    decoder = Decoder(Side.STATION)
    found = decoder.feed(one[:20] + one + b"noise" + two + b"\n")
    assert [frame.number for frame in found] == [1, 2]


def test_memory_is_bounded() -> None:
    decoder = Decoder(Side.STATION)
    for _ in range(300):
        assert decoder.feed(b"@VG1< 1 9 " + b"x" * 4096) == []
    assert len(decoder.noise()) <= 500
    assert [f.number for f in decoder.feed(encode(Side.BOARD, 5, {}))] == [5]
    with pytest.raises(TooLargeError):
        encode(Side.BOARD, 1, {"a": "x" * FRAME_MAX})


def test_hello_label_and_outcome_travel() -> None:
    hello = Hello("ab" * 16, "0badcafe", "vigie-cm4", "1.0", "cm4", State.BLANK)
    assert Hello.from_dict(hello.to_dict() | {"later": 1}) == hello
    for wrong in ({"v": 2}, {"chip": "xyz"}, {"state": "other"}, {"boot": ""}, {"box": "vg-1"}):
        with pytest.raises(MessageError):
            Hello.from_dict(hello.to_dict() | wrong)
    label = Label("VG-1", "vigie-cm4", "0000-0000-0000", "L1", "ab" * 32)
    assert Label.from_dict(label.to_dict()) == label
    for wrong_label in ({"claim_id": "0000-0000-0001"}, {"serial": "a b"}, {"image": "x"}, {"lot": "é"}):
        with pytest.raises(ContractError):
            Label.from_dict(label.to_dict() | wrong_label)
    outcome = Outcome(False, "hot", "91 °C", {"celsius": 91.0})
    assert Outcome.from_dict(outcome.to_dict()) == outcome
