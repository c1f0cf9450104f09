"""A storm of group frames drives its own detection: the data path sends probes by itself."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from scapy.layers.inet import UDP
from scapy.packet import Raw

from tests.support import packets as p
from tests.support.policies import mac
from tests.support.progrun import TC_ACT_OK, TC_ACT_SHOT
from tests.support.town import HOME, LAN, WAN, Town
from vigie.contract.codes import Reason, Verdict
from vigie.filter import abi
from vigie.filter.libbpf import skb_context
from vigie.filter.loop import probe_token

pytestmark = pytest.mark.bpf
Make = Callable[..., Town]

STORM = p.arp(p.PC, p.NEIGHBOUR) + bytes(200)
FEW, AGAIN = 50, 10  # FLOOD_FRAMES, FLOOD_AGAIN
PROTOCOLS = 3  # ETH_P_ALL


class Wire:
    """The far ends of both ports."""

    def __init__(self, stack: ExitStack) -> None:
        self._ends = []
        for name in ("p0x", "p1x"):
            end = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(PROTOCOLS)))
            end.bind((name, PROTOCOLS))
            end.setblocking(False)
            self._ends.append(end)

    def probes(self, port: int) -> list[bytes]:
        """Frames of the probes' EtherType that left by a port since the last call."""
        found: list[bytes] = []
        while True:
            try:
                frame, (_, _, kind, _, _) = self._ends[port].recvfrom(2048)
            except BlockingIOError:
                return found
            if kind != socket.PACKET_OUTGOING and frame[12:14] == b"\x88\xb5":
                found.append(frame)


@pytest.fixture
def wires() -> Iterator[Wire]:
    with ExitStack() as stack:
        yield Wire(stack)


def storming(town: Make, **fields: object) -> Town:
    """With limits as in the field, and no window of frames counted by another test."""
    t = town(modelled=False, **fields)
    t.kernel.data.control["features"] &= 0xFFFFFFFF ^ abi.F_NO_LIMITS
    own = next(m for name, m in t.kernel.data.object.maps.items() if name.endswith(".bss"))
    own.update(0, bytes(own.value_size))
    return t


def storm(t: Town, port: int, frames: int = 200, frame: bytes = STORM) -> None:
    """Faster than a test can send them one by one on a busy machine."""
    ingress, context = t.kernel.data.programs["vigie_ingress"], skb_context(t.kernel.ifindex[port])
    got = ingress.test_run(frame, ctx=context, repeat=frames)
    assert got.retval == TC_ACT_OK
    assert got.data_out == frame, "the frame itself goes on as it came"


def test_a_storm_sends_a_probe_by_the_other_port(town: Make, wires: Wire) -> None:
    for port in (LAN, WAN):
        t = storming(town)
        storm(t, port)
        assert wires.probes(port) == []
        sent = wires.probes(1 - port)
        assert 1 <= len(sent) <= 20, "one each 20 ms, not one for each frame"
        head = b"\xff" * 6 + mac(p.BOX_MAC) + b"\x88\xb5VGLP"
        token = struct.pack("!Q", probe_token(HOME.probe_nonce, 1 - port))
        assert {frame[:26] for frame in sent} == {head + token}


def test_such_a_probe_closes_the_loop_when_it_comes_round(town: Make, wires: Wire) -> None:
    t = storming(town)
    storm(t, 0)
    assert t.kernel.run(0, wires.probes(1)[0]).decided == (Verdict.DROP, Reason.LOOP)
    for port in (0, 1):
        assert t.kernel.run(port, STORM).decided == (Verdict.DROP, Reason.LOOP)


def test_a_storm_stays_outside_while_there_is_a_loop(town: Make, wires: Wire) -> None:
    """The bridge's port is closed; were it opened behind our back, the frames would turn again: not a storm of them."""
    t = storming(town, loop_port=2)
    t.kernel.run(0, p.probe(HOME.probe_nonce, left_by=1))
    assert t.kernel.run(0, STORM).decided == (Verdict.PASS, Reason.NOT_IP)
    storm(t, 0, FEW - 1)
    ingress, context = t.kernel.data.programs["vigie_ingress"], skb_context(t.kernel.ifindex[0])
    assert ingress.test_run(STORM, ctx=context, repeat=2 * FEW).retval == TC_ACT_SHOT


@pytest.mark.parametrize(
    "frame",
    [p.ether(p.udp(p.PC, p.PLAIN, 1, 2, bytes(100))), STORM[:59]],
    ids=["unicast", "too-short"],
)
def test_other_frames_send_none(town: Make, wires: Wire, frame: bytes) -> None:
    storm(storming(town), LAN, frame=frame)
    assert wires.probes(WAN) == []


def test_a_stream_sends_none(town: Make, wires: Wire) -> None:
    """Television: a thousand group frames a second for hours, each another one."""
    t = storming(town)
    for number in range(200):
        stream = p.ip(p.PC, "232.0.4.38", id=number) / UDP(sport=8200, dport=8200) / Raw(bytes(1316))
        t.kernel.run(WAN, p.ether(stream, p.GATEWAY_MAC, "01:00:5e:00:04:26"))
    assert wires.probes(LAN) == []


def test_the_same_frame_a_few_times_sends_none(town: Make, wires: Wire) -> None:
    storm(storming(town), LAN, AGAIN)
    assert wires.probes(WAN) == []


def test_without_a_nonce_a_storm_sends_none(town: Make, wires: Wire) -> None:
    storm(storming(town, probe_nonce=0), LAN)
    assert wires.probes(WAN) == []
