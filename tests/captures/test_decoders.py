"""Every capture at hand goes through the readers and the Python decoders without an exception.

At most PACKETS packets of a file, which leaves out only the tails of long floods and transfers.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import dpkt
import pytest

from vigie.errors import DecodeError
from vigie.filter.capture import Capture, link_problem
from vigie.filter.decode import dhcp, discovery, dns, frames, quic, tls
from vigie.filter.decode.frames import TCP, UDP, Frame
from vigie.filter.hello import HOLD_NS, Decided, HelloAssembler, Waiting
from vigie.filter.orientation import orient

PACKETS = 3_000
UDP_DECODERS = {
    53: dns.decode,
    5353: dns.decode,
    5355: dns.decode,
    67: dhcp.decode,
    68: dhcp.decode,
    546: dhcp.decode6,
    547: dhcp.decode6,
    1900: discovery.decode_ssdp,
    3702: discovery.decode_wsd,
}


def decode_all(frame: Frame, found: Counter[str]) -> None:
    payload = frame.payload
    if frame.proto == TCP and payload:
        found[type(tls.parse_client_hello(payload)).__name__] += 1
        if 53 in (frame.sport, frame.dport):
            with contextlib.suppress(DecodeError):
                dns.decode_tcp(payload)
    elif frame.proto == UDP and payload:
        found[f"QUIC {quic.parse_header(payload).kind.name}"] += 1
        for port in {frame.sport, frame.dport} & UDP_DECODERS.keys():
            try:
                UDP_DECODERS[port](payload)
                found[f"port {port}"] += 1
            except DecodeError as error:
                found[type(error).__name__] += 1
        if 53 in (frame.sport, frame.dport):
            name = dns.question_name(payload)
            with contextlib.suppress(DecodeError):
                message = dns.decode(payload)
                if message.question_count == 1 and name is not None:
                    assert name == message.name


@pytest.mark.slow
def test_no_capture_upsets_the_decoders(captures: list[Path]) -> None:
    assert captures
    found: Counter[str] = Counter()
    names: Counter[str | None] = Counter()
    for path in captures:
        with Capture(path) as capture:
            packets = [packet for _, packet in zip(range(PACKETS), capture, strict=False)]
        sides = orient(packet for packet in packets if not link_problem(packet.linktype))
        assembler: HelloAssembler[int] = HelloAssembler()
        outstanding = 0
        for packet in packets:
            data = sides.ethernet(packet)
            frame = frames.parse(packet.data if data is None else data)
            assert sides.port(frame.data) in (0, 1)
            found[frame.anomaly.name] += 1
            try:
                decode_all(frame, found)
            except Exception as error:
                error.add_note(f"{path.name}: {frame.data.hex()}")
                raise
            if frame.dport == 443:
                outstanding += 1
                for outcome in assembler.feed(packet.ns, frame, 0):
                    if isinstance(outcome, Waiting):
                        continue
                    outstanding -= len(outcome.frames)
                    if isinstance(outcome, Decided):
                        names[outcome.name] += 1
        outstanding -= sum(len(given_up.frames) for given_up in assembler.expire(1 << 63))
        assert outstanding == 0, f"{path.name}: frames lost by the assembler"
    assert found["Hello"], found
    assert names.total(), "no server name in any capture"
    assert HOLD_NS == 300_000_000


@pytest.mark.slow
def test_the_reader_agrees_with_dpkt(captures: list[Path]) -> None:
    compared = 0
    for path in captures:
        if path.stat().st_size > 500_000:
            continue
        with path.open("rb") as stream:
            theirs = []
            problem = ""
            try:
                theirs.extend(data for _, data in dpkt.pcap.UniversalReader(stream))
            except (dpkt.dpkt.Error, ValueError, OSError) as error:
                problem = repr(error)
        with Capture(path) as capture:
            mine = [packet.data for packet in capture]
            if not problem:
                assert mine == theirs, path.name
                compared += 1
    assert compared
