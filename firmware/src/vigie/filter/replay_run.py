"""One file through the machine: frames in, verdicts counted, reports read with the capture's times.

Reports wait in the ring while frames pass; the ring is emptied as soon as a verdict is anything else, so that each
block is told with the time of its own frame, and every _DRAIN frames.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from vigie.contract.codes import EventKind, Reason, Verdict
from vigie.errors import BpfError, DecodeError
from vigie.filter import abi, events
from vigie.filter.base.model import Base
from vigie.filter.capture import ETHERNET, Packet, link_problem
from vigie.filter.decode import dhcp
from vigie.filter.decode.dns import question_name
from vigie.filter.events import FROM_INTERNET, Event
from vigie.filter.flowcache import Holds, key_of_event
from vigie.filter.hello import HOLD_NS
from vigie.filter.hold import Holder, Names
from vigie.filter.journal import Attempt, Journal
from vigie.filter.orientation import WAN_PORT, Orientation
from vigie.filter.replay_frames import fit
from vigie.filter.replay_machine import FOREVER_NS, Machine
from vigie.filter.replay_summary import Hit, Summary, address_sources, name_sources

_SHORTEST: Final = 14
_WHOLE: Final = 3000  # larger frames may have to be cut for a test run
_DRAIN: Final = 200
_JOURNAL_EVERY: Final = 5_000
_REFUSED_MAX: Final = 10_000
_DEVICES_MAX: Final = 1_000
_PAYLOAD_AT: Final = abi.EVENT.itemsize
_KIND_AT: Final = int(abi.EVENT.fields["kind"][1]) if abi.EVENT.fields else 0
_NAME_REASONS: Final = frozenset((Reason.TOXIC_DNS, Reason.TOXIC_SNI))


@dataclass(slots=True)
class _Wire:
    """What the hold worker does to the frames of a file: it calls this in place of sockets."""

    holds: Holds
    reports: list[Event]
    passed: int = 0
    held: int = 0

    def send(self, port: int, frame: bytes) -> None:
        # Refusals go to both ports; frames let through only to the internet.
        self.passed += port == WAN_PORT

    def report(self, event: Event) -> None:
        self.reports.append(event)

    def answer(self, key: bytes, hold: int, verdict: Verdict, reason: Reason) -> None:
        self.holds.answer(key, hold, verdict, reason)


class Run:
    """`feed` packets, then `end`; the result is in `summary`."""

    def __init__(
        self,
        machine: Machine,
        base: Base,
        names: Names,
        sides: Orientation,
        summary: Summary,
        journal: Journal | None = None,
    ) -> None:
        self._machine = machine
        self._base = base
        self._sides = sides
        self._summary = summary
        self._journal = journal
        self._wire = _Wire(machine.path.holds(), [])
        self._holder = Holder(self._wire, names.verdict, HOLD_NS)
        self._refused: dict[bytes, str] = {}
        self._when_ns = 0
        self._drain_at = _DRAIN
        self._attempts = 0

    def feed(self, packets: Iterable[Packet]) -> None:
        """Replay packets in their order."""
        summary, side, inject = self._summary, self._sides.port, self._inject
        for packet in packets:
            ns, linktype, wire_len, data = packet
            summary.packets += 1
            if linktype != ETHERNET:
                problem = link_problem(linktype)
                whole = None if problem else self._sides.ethernet(packet)
                if whole is None:
                    summary.unread[problem or "link layer without IP"] += 1
                    continue
                wire_len += len(whole) - len(data)
                data = whole
            if len(data) < _SHORTEST:
                summary.unread["shorter than an Ethernet header"] += 1
                continue
            self._when_ns = ns
            summary.saw_time(ns)
            if wire_len == len(data) < _WHOLE:
                inject(data, side(data))
                continue
            port = side(data)
            frames, done = fit(data, wire_len)
            if done:
                summary.adapted[done] += 1
            for frame in frames:
                inject(frame, port)

    def end(self) -> None:
        """Let go what is still held, read the last reports, count held frames by what became of them."""
        wire, summary = self._wire, self._summary
        self._read()
        self._holder.expire(FOREVER_NS)
        self._reports()
        refused = max(0, wire.held - wire.passed)
        summary.held = wire.held
        summary.by_verdict[Verdict.HOLD] -= wire.held
        summary.by_verdict[Verdict.PASS] += wire.held - refused
        summary.by_verdict[Verdict.REFUSE] += refused

    def _inject(self, data: bytes, port: int) -> None:
        summary = self._summary
        try:
            verdict, reason, anomaly, _ = self._machine.decide(data, port)
        except BpfError as error:
            # Some kernels refuse a frame whose EtherType and length disagree before any program sees it.
            summary.unread[f"refused by the kernel (errno {error.errno})"] += 1
            return
        summary.frames += 1
        summary.by_verdict[verdict] += 1
        summary.by_reason[reason] += 1
        if anomaly:
            summary.by_anomaly[anomaly] += 1
        if verdict or summary.frames >= self._drain_at:
            if verdict == Verdict.HOLD:
                self._hold()
            self._read()
        if self._wire.held:
            self._holder.expire(self._when_ns)
            self._reports()

    def _hold(self) -> None:
        """Hands the frames just held to the worker, which may decide them at once."""
        self._wire.held += 1
        for record in self._machine.held.read():
            before = self._wire.passed
            self._holder.take(events.decode(record)._replace(ns=self._when_ns), self._when_ns)
            refused = any(report.verdict is Verdict.REFUSE for report in self._wire.reports)
            if refused:
                # What was sent to the server was the reset, no frame of the client.
                self._wire.passed = before

    def _read(self) -> None:
        self._drain_at = self._summary.frames + _DRAIN
        for record in self._machine.events.read():
            if record[_KIND_AT] == EventKind.DNS:
                self._dns(record)
            else:
                self._event(events.decode(record))

    def _reports(self) -> None:
        for event in self._wire.reports:
            self._event(event)
        self._wire.reports.clear()

    def _dns(self, record: bytes) -> None:
        """The commonest report, and only its question counts: read without making an Event of it."""
        self._summary.events["dns"] += 1
        flags = _PAYLOAD_AT + 2
        if len(record) > flags and not record[flags] & 0x80:
            name = question_name(record[_PAYLOAD_AT:])
            if name is not None:
                self._summary.saw_name(name)

    def _event(self, event: Event) -> None:
        kind, summary = event.kind, self._summary
        summary.events[kind.name.lower()] += 1
        if kind is EventKind.NAME:
            if event.payload:
                summary.saw_name(event.name.lower())
        elif kind in (EventKind.BLOCKED, EventKind.OBSERVED):
            self._blocked(event)
        elif kind is EventKind.DHCP:
            with contextlib.suppress(DecodeError):
                message = dhcp.decode(event.payload)
                if message.request and len(summary.devices) < _DEVICES_MAX:
                    summary.devices[message.mac.hex(":")] = message.hostname or message.vendor_class

    def _blocked(self, event: Event) -> None:
        summary, when = self._summary, self._when_ns / 1e9
        name = event.name.lower() if event.payload else ""
        if event.reason is Reason.TOXIC_SNI:
            # What follows on a refused connection is reported without the name that had it refused.
            key = key_of_event(event)
            name = name or self._refused.get(key, "")
            if name and len(self._refused) < _REFUSED_MAX:
                self._refused[key] = name
        elif event.reason is Reason.TOXIC_DNS and name:
            summary.saw_name(name)
        indicator, sources = self._indicator(event, name)
        port = event.sport if event.direction == FROM_INTERNET else event.dport
        device = event.device_mac.hex(":")
        hit = Hit(indicator, event.reason, event.verdict, event.category, sources, when, when)
        summary.hit(hit, device, name or indicator, port)
        if self._journal is not None:
            self._journal.add(_attempt(event, when, device, name or indicator, port))
            self._attempts += 1
            if self._attempts % _JOURNAL_EVERY == 0:
                self._journal.flush()

    def _indicator(self, event: Event, name: str) -> tuple[str, tuple[str, ...]]:
        """What decided, and the feeds that list it: the longest listed suffix of the name, or the listed end."""
        if event.reason in _NAME_REASONS and name:
            suffix, sources = name_sources(self._base, name)
            return suffix or name, sources
        if event.reason is Reason.TOXIC_ADDRESS:
            for address in dict.fromkeys((event.remote, event.dst, event.src)):
                sources = address_sources(self._base, address)
                if sources:
                    return address, sources
        return event.remote, ()


def _attempt(event: Event, when: float, device: str, destination: str, port: int) -> Attempt:
    return Attempt(
        when=when,
        device=device,
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
