"""The hold worker: reads frames held for their server's name, decides, sends them on or refuses them.

A process of its own, not a thread of the daemon: the client's payload waits for it, so it must not wait for the
daemon's interpreter lock, journal or policy work. It is small, holds no state that matters and dies with the daemon
(PR_SET_PDEATHSIG). The heartbeat is written by the loop that does the work, so it stops when the work stops, and the
data path then lets everything through within 300 ms. Its reports go up a socket as event records.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from vigie.contract.codes import Action, EventKind, Reason, Verdict
from vigie.errors import BpfError, DecodeError, VigieError
from vigie.filter import abi, events
from vigie.filter.base.lookup import Lookup
from vigie.filter.control import Control
from vigie.filter.events import Event
from vigie.filter.flowcache import FlowCache, Holds, key_of_event
from vigie.filter.hello import Decided, GiveUp, HelloAssembler, Waiting
from vigie.filter.hold_frames import SYN, TCP, Segment, prohibited, reset_to_client, reset_to_server, segments
from vigie.filter.hold_names import NameVerdict, judge, suffixes_of
from vigie.filter.hold_protocol import READY
from vigie.filter.imagepins import ImagePins
from vigie.filter.libbpf import Map
from vigie.filter.ring import RingReader

HEARTBEAT_S = 0.05
BATCH = 64
SWAPS_MAX = 3  # looks at the base in force while it changes
STALE_NS = 2_000_000_000  # left in the ring by a worker that was killed: the client has long sent it again
MAPS = ("control", "flows", "flow_tags", "holds", "images", "local_names", "held")
_PR_SET_PDEATHSIG = 1

Token = tuple[Event, Segment]


class Wire(Protocol):
    """What the worker does to the world."""

    def send(self, port: int, frame: bytes) -> None:
        """Sends a frame out of a port."""

    def report(self, event: Event) -> None:
        """Tells the daemon."""

    def answer(self, key: bytes, hold: int, verdict: Verdict, reason: Reason) -> None:
        """Tells the data path what becomes of this hold of the flow: PASS (its verdict stays) or a refusal."""


class Holder:
    """The work, without I/O of its own: events in, calls of `wire` out. `name_verdict(name, device MAC)`."""

    def __init__(self, wire: Wire, name_verdict: Callable[[str, bytes], NameVerdict], hold_ns: int) -> None:
        self._wire = wire
        self._name_verdict = name_verdict
        self._assembler: HelloAssembler[Token] = HelloAssembler(hold_ns=hold_ns)

    @property
    def next_deadline_ns(self) -> int | None:
        """When `expire` has something to do."""
        return self._assembler.next_deadline_ns

    def take(self, event: Event, now_ns: int) -> None:
        """One record of the held ring."""
        if event.kind is not EventKind.HELD or now_ns - event.ns > STALE_NS:
            return
        for segment in segments(event.payload, event.gso_size, event.vlan):
            # The kernel's time of the frame, so that both sides count the same 300 ms.
            for outcome in self._assembler.feed(event.ns, segment.frame, (event, segment), hold=event.name_hash):
                if not isinstance(outcome, Waiting):
                    self._end(outcome)

    def expire(self, now_ns: int) -> None:
        """Lets through what waited for the whole hold time."""
        for outcome in self._assembler.expire(now_ns):
            self._end(outcome)

    def _end(self, outcome: Decided[Token] | GiveUp[Token]) -> None:
        if not outcome.frames:
            return
        event = outcome.frames[0][0]
        if isinstance(outcome, GiveUp) or outcome.name is None:
            self._pass(outcome.frames)
            return
        found = self._name_verdict(outcome.name, event.device_mac)
        refusal = found.refusal
        report = _named(event, outcome.name, found)
        if refusal is None or refusal[0] is Verdict.OBSERVE:
            self._pass(outcome.frames)
        else:
            self._refuse(outcome.frames, *refusal)
        self._wire.report(report._replace(kind=EventKind.NAME))
        if refusal is not None:
            kind = EventKind.OBSERVED if refusal[0] is Verdict.OBSERVE else EventKind.BLOCKED
            self._wire.report(report._replace(kind=kind, verdict=refusal[0], reason=refusal[1]))

    def _pass(self, tokens: tuple[Token, ...]) -> None:
        """Sent before the flow is released: what comes after must not overtake."""
        for event, segment in tokens:
            self._wire.send(1 - event.port, segment.data)
        self._answer(tokens[0][0], Verdict.PASS, Reason.DEFAULT)

    def _answer(self, event: Event, verdict: Verdict, reason: Reason) -> None:
        self._wire.answer(key_of_event(event), event.name_hash, verdict, reason)

    def _refuse(self, tokens: tuple[Token, ...], verdict: Verdict, reason: Reason) -> None:
        """TCP: a reset to both ends, in sequence for each. QUIC: the client is told by ICMP.

        Answered before: a client that has been told may begin again at once.
        """
        self._answer(tokens[0][0], verdict, reason)
        port = tokens[0][0].port
        frames = [segment.frame for _event, segment in tokens]
        if frames[0].proto != TCP:
            self._wire.send(port, prohibited(frames[0]))
            return
        base = frames[0].seq
        ahead = sorted(frames, key=lambda f: (f.seq - base + 0x80000000) & 0xFFFFFFFF)
        self._wire.send(port, reset_to_client(ahead[-1]))
        if not ahead[0].tcp_flags & SYN:  # else the server has not heard of the connection
            self._wire.send(1 - port, reset_to_server(ahead[0]))


def _named(event: Event, name: str, found: NameVerdict) -> Event:
    """A report about the flow of a held frame: the name is its payload."""
    suffix = found.suffix
    return event._replace(
        verdict=Verdict.PASS,
        reason=Reason.DEFAULT,
        category=found.category,
        class_id=suffix.class_id if suffix else 0,
        name_hash=suffix.hash if suffix else 0,
        gso_size=0,
        payload=name.encode("ascii"),
    )


# ---- shell -----------------------------------------------------------------------------------------------------


class Names:
    """Name verdicts by the base in force and the local rules, read in the shared memory: no copy of the base."""

    def __init__(self, control: Control, images: Map, local_names: Map, pins: ImagePins) -> None:
        self._control = control
        self._images = images
        self._pins = pins
        self._local = local_names
        self._slot = -1
        self._image_id = -1
        self._lookup: Lookup | None = None

    def verdict(self, name: str, device: bytes) -> NameVerdict:
        """What to do with a server name."""
        lookup = self._current()
        if lookup is None:
            return judge([])
        local = self._action if self._control.features & abi.F_LOCAL_NAMES else None
        return judge(suffixes_of(name, lookup, local, device))

    def _current(self) -> Lookup | None:
        for turn in range(SWAPS_MAX):
            slot = abi.gen_parts(self._control.gen)[2]
            raw = self._images.lookup(slot)
            number = int.from_bytes(raw[:4], sys.byteorder) if raw else 0
            if (slot, number) == (self._slot, self._image_id):
                break
            try:
                self._lookup = Lookup(self._pins.by_number(number, slot).mmap()) if number else None
                self._slot, self._image_id = slot, number
                break
            except BpfError:  # swapped between the look and the opening: look again
                if turn == SWAPS_MAX - 1:
                    raise
        return self._lookup

    def _action(self, number: int, mac: bytes) -> Action:
        raw = self._local.lookup(abi.pack(abi.LOCAL_NAME_KEY, hash=number, mac=mac))
        if raw is None:
            return Action.NONE
        value = abi.unpack(abi.LOCAL_NAME_VALUE, raw)
        until = int(value["until_s"])
        in_force = until == abi.FOREVER or until > time.monotonic_ns() // 1_000_000_000
        return Action(int(value["action"])) if in_force else Action.NONE


class KernelWire:
    """Frames by packet sockets, answers beside the flow cache, reports up a SOCK_SEQPACKET socket."""

    def __init__(self, control: Control, holds: Holds, reports: socket.socket) -> None:
        self._holds = holds
        self._reports = reports
        self._ports = []
        self.unsent = 0
        self.unreported = 0
        for ifindex in control.record["ifindex"].tolist():
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            sock.setblocking(False)
            sock.bind((socket.if_indextoname(int(ifindex)), 0))
            self._ports.append(sock)

    def send(self, port: int, frame: bytes) -> None:
        try:
            self._ports[port].send(frame)
        except OSError:
            self.unsent += 1  # queue full or link down: lost as on any wire, the client sends again

    def report(self, event: Event) -> None:
        try:
            self._reports.send(events.encode(event))
        except BlockingIOError:
            self.unreported += 1

    def answer(self, key: bytes, hold: int, verdict: Verdict, reason: Reason) -> None:
        self._holds.answer(key, hold, verdict, reason)


def serve(maps_dir: Path, reports: socket.socket) -> None:
    """Works until the daemon goes away."""
    maps = {name: Map.pinned(maps_dir / name) for name in MAPS}
    control = Control(maps["control"])
    names = Names(control, maps["images"], maps["local_names"], ImagePins(maps_dir))
    cache = FlowCache(maps["flows"], maps["flow_tags"], control)
    wire = KernelWire(control, Holds(maps["holds"], cache), reports)
    holder = Holder(wire, names.verdict, int(control.record["hold_ms"]) * 1_000_000)
    ring = RingReader(maps["held"])
    poll = select.poll()
    poll.register(ring.fd, select.POLLIN)
    poll.register(reports.fileno(), select.POLLIN | select.POLLHUP)
    control.heartbeat()
    reports.send(READY)
    while True:
        control.heartbeat()
        for fd, _mask in poll.poll(_wait_ms(holder.next_deadline_ns)):
            if fd == reports.fileno():
                return  # the daemon closed its end
        for record in ring.read(BATCH):
            with contextlib.suppress(DecodeError):
                holder.take(events.decode(record), time.monotonic_ns())
        holder.expire(time.monotonic_ns())


def _wait_ms(deadline_ns: int | None) -> int:
    wait = HEARTBEAT_S
    if deadline_ns is not None:
        wait = min(wait, max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9))
    return int(wait * 1000) + (wait > 0)


def main(argv: list[str]) -> int:
    """`python -m vigie.filter.hold MAPS_DIR REPORT_FD PARENT_PID`, started by the daemon."""
    maps_dir, fd, parent = Path(argv[1]), int(argv[2]), int(argv[3])
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 0  # it died before the line above
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group: the daemon decides
    with contextlib.suppress(OSError):
        os.nice(-10)
    reports = socket.socket(fileno=fd)
    reports.setblocking(False)
    try:
        serve(maps_dir, reports)
    except VigieError as e:
        print(f"vigie hold: {e}", file=sys.stderr)
        return e.exit_code
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
