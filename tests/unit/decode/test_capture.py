"""Capture files: both formats, both byte orders, every resolution and link type that is read; damage is told."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.captures import samples
from vigie.filter.capture import Capture, CaptureError, link_problem, payload

FRAMES = [bytes([n]) * (14 + n) for n in range(5)]
TIMES = [samples.START_NS + n * samples.STEP_NS for n in range(5)]


def read(path: Path, data: bytes) -> tuple[list[tuple[int, bytes]], str]:
    path.write_bytes(data)
    with Capture(path) as capture:
        return [(packet.ns, packet.data) for packet in capture], capture.problem


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_pcap(tmp_path: Path, order: str, nanoseconds: bool) -> None:
    data = samples.pcap(FRAMES, order=order, nanoseconds=nanoseconds)
    assert read(tmp_path / "f", data) == (list(zip(TIMES, FRAMES, strict=True)), "")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("power", [6, 9, 3])
def test_pcapng(tmp_path: Path, order: str, power: int) -> None:
    data = samples.pcapng(FRAMES, order=order, power=power)
    assert read(tmp_path / "f", data) == (list(zip(TIMES, FRAMES, strict=True)), "")
    # A second section in the other byte order begins its own list of interfaces.
    both = data + samples.pcapng(FRAMES, order="><"[order == ">"])
    assert len(read(tmp_path / "f", both)[0]) == 10


def test_pcapng_other_blocks(tmp_path: Path) -> None:
    head = samples.pcapng([])
    option = struct.pack("<HHB3xHHqI", 9, 1, 0x80 | 10, 14, 8, 100, 0)
    interface = samples.block("<", 1, struct.pack("<HHI", 101, 0, 60) + option)
    when = 5 * 1024
    obsolete = samples.block("<", 2, struct.pack("<HH4I", 1, 0, 0, when, 4, 90) + b"abcd")
    simple = samples.block("<", 3, struct.pack("<I", 6) + b"simple")
    name = samples.block("<", 4, b"\0\0\0\0")
    (tmp_path / "f").write_bytes(head + interface + name + obsolete + simple)
    with Capture(tmp_path / "f") as capture:
        one, two = capture
    assert (one.ns, one.linktype, one.wire_len, one.data) == (105_000_000_000, 101, 90, b"abcd")
    assert (two.ns, two.linktype, two.data) == (0, 1, b"simple")


@pytest.mark.parametrize(
    ("data", "count", "why"),
    [
        (samples.pcap(FRAMES)[:-3], 4, "middle of a record at"),
        (samples.pcap(FRAMES) + b"abc", 5, "record header"),
        (samples.pcap(FRAMES) + struct.pack("<4I", 0, 0, 1 << 30, 60), 5, "record of"),
        (samples.pcapng(FRAMES)[:-3], 4, "middle of a block at"),
        (samples.pcapng(FRAMES) + b"abc", 5, "block header"),
        (samples.pcapng(FRAMES) + struct.pack("<III", 6, 9, 0), 5, "block of 9"),
        (samples.pcapng(FRAMES) + samples.block("<", 6, struct.pack("<5I", 7, 0, 0, 0, 0)), 5, "contradicts"),
        (samples.pcapng(FRAMES) + samples.block("<", 3, b""), 5, "contradicts"),
        (samples.pcapng(FRAMES) + samples.block("<", 0x0A0D0D0A, bytes(16)), 5, "magic"),
        (b"\x0a\x0d\x0d\x0a", 0, "block header"),
    ],
)
def test_damage_is_told(tmp_path: Path, data: bytes, count: int, why: str) -> None:
    packets, problem = read(tmp_path / "f", data)
    assert len(packets) == count
    assert why in problem


def test_not_a_capture(tmp_path: Path) -> None:
    for data in (b"", b"\xd4\xc3\xb2\xa1", b"hello, world, this is no capture"):
        (tmp_path / "f").write_bytes(data)
        with pytest.raises(CaptureError):
            Capture(tmp_path / "f")
    with pytest.raises(CaptureError, match="absent"):
        Capture(tmp_path / "absent")
    with pytest.raises(CaptureError):
        Capture(tmp_path)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_damage(tmp_path: Path, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from([samples.pcap(FRAMES), samples.pcapng(FRAMES), samples.pcapng(FRAMES, order=">")]))
    raw = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "f"
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    try:
        capture = Capture(path)
    except CaptureError:
        return
    with capture:
        for packet in capture:
            assert packet.wire_len >= len(packet.data)
            payload(packet.linktype, packet.data)


@pytest.mark.parametrize(
    ("linktype", "data", "ethertype"),
    [
        (101, b"\x45...", "0800"),
        (12, b"\x60...", "86dd"),
        (228, b"\x45", "0800"),
        (0, b"\x02\0\0\0\x45", "0800"),
        (0, b"\0\0\0\x1e\x60", "86dd"),
        (108, b"\0\0\0\x02\x45", "0800"),
        (113, b"\0\0\0\x01\0\x06abcdef\0\0\x08\0\x45", "0800"),
        (276, b"\x86\xdd\0\0\0\0\0\x01\0\x01\0\x06abcdef\0\0\x60", "86dd"),
        (9, b"\xff\x03\0\x21\x45", "0800"),
        (9, b"\x21\x45", "0800"),
        (50, b"\0\x57\x60", "86dd"),
        (51, b"\x11\0\0\x01\0\x03\0\x21\x45", "0800"),
        (104, b"\x0f\0\x08\0\x45", "0800"),
    ],
)
def test_link_types(linktype: int, data: bytes, ethertype: str) -> None:
    assert not link_problem(linktype)
    found = payload(linktype, data)
    assert found is not None
    assert found.ethertype.hex() == ethertype
    assert data.endswith(found.data)
    assert found.mac in (b"", b"abcdef")
    for size in range(len(data)):
        payload(linktype, data[:size])


def test_link_types_that_are_not_read() -> None:
    assert "802.11" in link_problem(127)
    assert "not read" in link_problem(147)
    assert payload(147, b"x" * 40) is None
    assert payload(101, b"\x12") is None
    assert payload(0, b"\x63\0\0\0\x45") is None
    assert payload(9, b"\xc0\x21") is None


def test_samples_are_what_their_code_makes() -> None:
    for name, data in samples.samples().items():
        assert (samples.DATA / name).read_bytes() == data, f"{name}: run python -m tests.captures.samples"
