"""Captures through the real data path: each frame by BPF_PROG_RUN, on private maps, in a network namespace of its own.

What the box would have done with a capture, and why: the same program, events, decoders, hold worker and journal as on
a box, with the times of the capture. What cannot be the same: the kernel's own timers (flow ages, opener memory) run on
real time, so a capture of hours is decided as if it took seconds; and a connection that would have been refused at its
first frame goes on in the capture, so `packets` counts more than a box would see. Count `minutes` instead.

    with Replay(object_path, base) as replay:
        summary = replay.run(path)
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vigie.contract.codes import EventKind, InboundMode, Reason, Verdict
from vigie.errors import BpfError, DecodeError
from vigie.filter import abi, events
from vigie.filter.base.additions import Additions
from vigie.filter.base.image import plan_image
from vigie.filter.base.model import Base
from vigie.filter.base.names import name_keys
from vigie.filter.capture import ETHERNET, Capture, Packet, link_problem
from vigie.filter.datapath import DataPath
from vigie.filter.decode import dhcp
from vigie.filter.decode.dns import question_name
from vigie.filter.events import FROM_INTERNET, Event
from vigie.filter.flowcache import FlowCache, key_of_event
from vigie.filter.hello import HOLD_NS
from vigie.filter.hold import Holder, Names
from vigie.filter.journal import Attempt, Journal
from vigie.filter.orientation import WAN_PORT, Network, Orientation, orient
from vigie.filter.replay_frames import fit
from vigie.filter.replay_machine import FAST, FOREVER_NS, Machine
from vigie.filter.replay_summary import Hit, Summary, address_sources, name_sources

_SHORTEST: Final = 14
_PAYLOAD_AT: Final = abi.EVENT.itemsize
_KIND_AT: Final = int(abi.EVENT.fields["kind"][1]) if abi.EVENT.fields else 0
_REFUSED_MAX: Final = 10_000
_HEAD_PACKETS: Final = 10_000
_HEAD_BYTES: Final = 16 << 20
_JOURNAL_EVERY: Final = 10_000
_NAME_REASONS: Final = frozenset((Reason.TOXIC_DNS, Reason.TOXIC_SNI))


@dataclass(slots=True)
class _Held:
    """What the hold worker did to the frames of a file; `Holder` calls it in place of sockets."""

    cache: FlowCache
    reports: list[Event]
    passed: int = 0
    held: int = 0

    def send(self, port: int, frame: bytes) -> None:
        # Refusals go to both ports; frames let through only to the internet.
        self.passed += port == WAN_PORT

    def report(self, event: Event) -> None:
        self.reports.append(event)

    def release(self, key: bytes) -> None:
        index = self.cache.find(key)
        if index is not None:
            row = self.cache.rows[index]
            row["flags"] = int(row["flags"]) & ~(abi.FL_HOLD | abi.FL_HELLO)

    def decide(self, key: bytes, verdict: Verdict, reason: Reason) -> None:
        self.cache.decide(key, verdict, reason)
        # The reset that `Holder` sends to the server is no frame of the client.
        self.passed -= 1


class Replay:
    """The data path set up for replays; a context manager. Use from one thread."""

    def __init__(
        self,
        object_path: Path,
        base: Base | None = None,
        *,
        additions: Additions | None = None,
        inbound: InboundMode = InboundMode.LEARN,
        journal: Journal | None = None,
        cpu: int | None = None,
    ) -> None:
        # Without a base, an empty one: names are then still read and reported.
        self._base = base or Base(0, 0, *name_keys())
        self._machine = Machine(object_path, plan_image(self._base, additions or Additions()), inbound, cpu)
        self._journal = journal
        self._when_ns = 0
        self._refused: dict[bytes, str] = {}

    def __enter__(self) -> Replay:
        self._machine.__enter__()
        path = self._machine.path
        self._names = Names(path.settings, path.maps["images"], path.maps["local_names"])
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.__exit__()

    @property
    def path(self) -> DataPath:
        """The data path: exceptions, device classes and the like can be set before a run."""
        return self._machine.path

    def run(self, file: Path, lan: Iterable[Network | bytes] = ()) -> Summary:
        """Replay one file. `lan`: prefixes or MACs of its LAN side, when known. CaptureError when it is no capture."""
        with Capture(file) as capture:
            packets = iter(capture)
            head = _head(packets)
            sides = orient((packet for packet in head if not link_problem(packet.linktype)), lan)
            summary = Summary(
                file.name, sides.basis, tuple(map(str, sides.onlink)), tuple(mac.hex(":") for mac in sides.gateways)
            )
            self._machine.begin(sides)
            self._refused.clear()
            wire = _Held(self.path.cache, [])
            holder = Holder(wire, self._names.verdict, HOLD_NS)
            for packet in itertools.chain(head, packets):
                self._packet(packet, sides, holder, wire, summary)
            holder.expire(FOREVER_NS)
            self._end(wire, summary)
            summary.problem = capture.problem
        if self._journal is not None:
            self._journal.flush()
        return summary

    def _packet(self, packet: Packet, sides: Orientation, holder: Holder, wire: _Held, summary: Summary) -> None:
        summary.packets += 1
        data = packet.data
        if packet.linktype != ETHERNET:
            problem = link_problem(packet.linktype)
            whole = None if problem else sides.ethernet(packet)
            if whole is None:
                summary.unread[problem or "link layer without IP"] += 1
                return
            wire_len = packet.wire_len + len(whole) - len(data)
            data = whole
        else:
            wire_len = packet.wire_len
        if len(data) < _SHORTEST:
            summary.unread["shorter than an Ethernet header"] += 1
            return
        self._when_ns = packet.ns
        summary.saw_time(packet.ns)
        port = sides.port(data)
        if wire_len == len(data) and wire_len < 3000:
            self._inject(data, port, holder, wire, summary)
        else:
            frames, done = fit(data, wire_len)
            if done:
                summary.adapted[done] += 1
            for frame in frames:
                self._inject(frame, port, holder, wire, summary)

    def _inject(self, data: bytes, port: int, holder: Holder, wire: _Held, summary: Summary) -> None:
        machine = self._machine
        try:
            verdict, reason, anomaly, cached = machine.decide(data, port)
        except BpfError as error:
            # Some kernels refuse a frame whose EtherType and length disagree before any program sees it.
            summary.unread[f"refused by the kernel (errno {error.errno})"] += 1
            return
        summary.frames += 1
        summary.by_verdict[verdict] += 1
        summary.by_reason[reason] += 1
        if cached == FAST:
            return
        if anomaly:
            summary.by_anomaly[anomaly] += 1
        if verdict == Verdict.HOLD:
            wire.held += 1
            for record in machine.held.read():
                held = events.decode(record)._replace(ns=self._when_ns)
                holder.take(held, self._when_ns)
        if wire.held:
            holder.expire(self._when_ns)
            self._reports(wire, summary)
        if machine.events.pending():
            for record in machine.events.read():
                if record[_KIND_AT] == EventKind.DNS:
                    self._dns(record, summary)
                else:
                    self._event(events.decode(record), summary)

    def _reports(self, wire: _Held, summary: Summary) -> None:
        for event in wire.reports:
            self._event(event, summary)
        wire.reports.clear()

    @staticmethod
    def _dns(record: bytes, summary: Summary) -> None:
        """The commonest report, and only its question counts: read without making an Event of it."""
        summary.events["dns"] += 1
        flags = _PAYLOAD_AT + 2
        if len(record) > flags and not record[flags] & 0x80:
            name = question_name(record[_PAYLOAD_AT:])
            if name is not None:
                summary.saw_name(name)

    def _end(self, wire: _Held, summary: Summary) -> None:
        """Frames held are counted by what became of them."""
        self._reports(wire, summary)
        refused = max(0, wire.held - max(0, wire.passed))
        summary.held = wire.held
        summary.by_verdict[Verdict.HOLD] -= wire.held
        summary.by_verdict[Verdict.PASS] += wire.held - refused
        summary.by_verdict[Verdict.REFUSE] += refused

    def _event(self, event: Event, summary: Summary) -> None:
        kind = event.kind
        summary.events[kind.name.lower()] += 1
        if kind is EventKind.NAME:
            if event.payload:
                summary.saw_name(event.name.lower())
        elif kind in (EventKind.BLOCKED, EventKind.OBSERVED):
            self._blocked(event, summary)
        elif kind is EventKind.DHCP:
            with contextlib.suppress(DecodeError):
                message = dhcp.decode(event.payload)
                if message.request and len(summary.devices) < 1000:
                    summary.devices[message.mac.hex(":")] = message.hostname or message.vendor_class

    def _blocked(self, event: Event, summary: Summary) -> None:
        when = self._when_ns / 1e9
        device = event.device_mac.hex(":")
        name = event.name.lower() if event.payload else ""
        if event.reason is Reason.TOXIC_SNI:
            # What follows on a refused connection is reported without the name that had it refused.
            key = key_of_event(event)
            name = name or self._refused.get(key, "")
            if name and len(self._refused) < _REFUSED_MAX:
                self._refused[key] = name
        remote_port = event.sport if event.direction == FROM_INTERNET else event.dport
        if event.reason is Reason.TOXIC_DNS and name:
            summary.saw_name(name)
        indicator = event.remote
        sources: tuple[str, ...] = ()
        if event.reason in _NAME_REASONS and name:
            indicator, sources = name_sources(self._base, name)
            indicator = indicator or name
        elif event.reason is Reason.TOXIC_ADDRESS:
            indicator, sources = self._toxic_address(event)
        hit = Hit(indicator, event.reason, event.verdict, event.category, sources, when, when)
        summary.hit(hit, device, name or indicator, remote_port)
        if self._journal is not None:
            self._journal.add(_attempt(event, when, name or indicator, remote_port))
            if summary.frames % _JOURNAL_EVERY == 0:
                self._journal.flush()

    def _toxic_address(self, event: Event) -> tuple[str, tuple[str, ...]]:
        """The end that is listed: the remote one, or with no side known the other."""
        for address in dict.fromkeys((event.remote, event.dst, event.src)):
            sources = address_sources(self._base, address)
            if sources:
                return address, sources
        return event.remote, ()


def _head(packets: Iterator[Packet]) -> list[Packet]:
    """The beginning of a capture, enough to tell its sides; kept, so that it is read once."""
    head: list[Packet] = []
    size = 0
    for packet in packets:
        head.append(packet)
        size += len(packet.data)
        if len(head) == _HEAD_PACKETS or size > _HEAD_BYTES:
            break
    return head


def _attempt(event: Event, when: float, destination: str, port: int) -> Attempt:
    return Attempt(
        when=when,
        device=event.device_mac.hex(":"),
        destination=destination,
        reason=int(event.reason),
        verdict=int(event.verdict),
        category=int(event.category),
        direction=event.direction,
        address=event.remote,
        proto=event.proto,
        port=port,
        bytes=event.frame_len,
        last=when,
    )


def lan_option(text: str) -> Network | bytes:
    """`192.168.1.0/24`, `2001:db8::/64` or `aa:bb:cc:dd:ee:ff`. ValueError otherwise."""
    if text.count(":") == 5 and "/" not in text and "::" not in text:
        return abi.mac_bytes(text)
    return ipaddress.ip_network(text, strict=False)
