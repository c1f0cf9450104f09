"""From held frames to the server's name: which frames wait, which are decided, which are given up.

The data path hands the first client frames of a connection whose name it could not read (a ClientHello over several
segments, or QUIC). This assembler puts them together and says, per flow, what to do with them. It does no I/O and has
no clock: times are passed in (nanoseconds, any origin). Whatever goes wrong, the frames are let through: a name is a
second look, and the address was judged before.

    outcomes = assembler.feed(now, frames.parse(data), token)
    for outcome in (*outcomes, *assembler.expire(now)): ...

`token` is whatever the caller needs to send the frame on; tokens come back in the order in which they were fed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, TypeVar

from vigie.filter.decode.frames import SYN, TCP, UDP, Frame
from vigie.filter.decode.quic import InitialStream, Kind
from vigie.filter.decode.stream import STREAM_BYTES, STREAM_SEGMENTS, Stream
from vigie.filter.decode.tls import BAD, NEED_MORE, NOT_TLS, Hello, parse_client_hello
from vigie.filter.decode.tls import Outcome as Parsed

T = TypeVar("T")

HOLD_NS: Final = 300_000_000
"""Longest time that a client's frame is held."""
MEMORY_NS: Final = 2_000_000_000
"""A decision holds this long for frames of the flow that were already on their way up."""


class Flow(NamedTuple):
    """The client's direction of a connection. Addresses: 4 or 16 bytes in wire order; vlan: outermost tag.

    hold: a number that tells this connection from others between the same ends (a port may be used again at once).
    """

    proto: int
    client: bytes
    server: bytes
    client_port: int
    server_port: int
    vlan: int | None
    hold: int = 0


class Why(Enum):
    """Why a flow was given up."""

    TIMEOUT = "undecided after the hold time"
    BOUNDS = "more bytes or segments than are kept for one connection"
    CROWDED = "oldest of too many connections held"
    MALFORMED = "ClientHello or QUIC frames malformed"
    NOT_TLS = "not TLS"
    NOT_QUIC = "not a QUIC Initial"
    UNDECODABLE = "QUIC version that is not decoded"
    NO_TRANSPORT = "neither TCP nor UDP, or a fragment"


@dataclass(frozen=True, slots=True)
class Decided(Generic[T]):
    """The ClientHello was read. `name` None: it names no server that can be compared (`problem` tells why).

    `conflict`: overlapping segments carried different bytes, which no honest client sends.
    """

    flow: Flow
    name: str | None
    frames: tuple[T, ...]
    problem: str = ""
    ech: bool = False
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """The frame is kept until more comes, or until `deadline_ns`."""

    flow: Flow
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class GiveUp(Generic[T]):
    """Let these frames through unread."""

    flow: Flow
    frames: tuple[T, ...]
    why: Why


Ended = TypeVar("Ended", bound="Decided[Any] | GiveUp[Any]")


@dataclass(slots=True)
class _Tcp:
    """Segments of the client. `base` is the lowest sequence number seen; `sure` when a SYN told it."""

    stream: Stream
    base: int | None = None
    sure: bool = False

    def take(self, frame: Frame) -> Hello | Parsed | Why:
        payload = frame.payload
        sequence = frame.seq
        if frame.tcp_flags & SYN:
            sequence = (sequence + 1) & 0xFFFFFFFF
            # A SYN amid data is a repetition, or made to mislead: servers ignore it too.
            if self.base is None:
                self.base, self.sure = sequence, True
        if payload:
            if self.base is None:
                self.base = sequence
            distance = (sequence - self.base + 0x80000000) % 0x100000000 - 0x80000000
            if distance < 0:
                if self.sure or not self.stream.shift(-distance):
                    return Why.BOUNDS
                self.base, distance = sequence, 0
            if not self.stream.add(distance, payload):
                return Why.BOUNDS
        result = parse_client_hello(self.stream.prefix())
        if self.sure or result not in (NOT_TLS, BAD):
            return result
        # This may be the second segment, come before the first: only the hold time tells.
        return NEED_MORE

    @property
    def conflict(self) -> bool:
        return self.stream.conflict


@dataclass(slots=True)
class _Udp:
    stream: InitialStream

    def take(self, frame: Frame) -> Hello | Parsed | Why:
        result = self.stream.feed(frame.payload)
        if isinstance(result, Kind):
            return Why.UNDECODABLE if result is Kind.UNDECODABLE else Why.NOT_QUIC
        # A hello inside QUIC has no record layer to mistake: anything but a ClientHello is malformed.
        return BAD if result is NOT_TLS else result

    @property
    def conflict(self) -> bool:
        return self.stream.conflict


@dataclass(slots=True)
class _Held(Generic[T]):
    since_ns: int
    reader: _Tcp | _Udp
    tokens: list[T] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, slots=True)
class _Known(Generic[T]):
    until_ns: int
    outcome: Decided[T] | GiveUp[T]


class HelloAssembler(Generic[T]):
    """State of all the connections held at one time.

    Bounds: `max_flows` connections and `max_total` bytes of frames in all (the oldest connection is given up),
    `max_bytes` and `max_segments` per connection.
    """

    def __init__(
        self,
        *,
        hold_ns: int = HOLD_NS,
        max_flows: int = 1024,
        max_total: int = 8 << 20,
        max_bytes: int = STREAM_BYTES,
        max_segments: int = STREAM_SEGMENTS,
    ) -> None:
        self._hold_ns = hold_ns
        self._max_flows = max_flows
        self._max_total = max_total
        self._max_bytes = max_bytes
        self._max_segments = max_segments
        self._total = 0
        self._held: OrderedDict[Flow, _Held[T]] = OrderedDict()  # oldest first
        self._known: OrderedDict[Flow, _Known[T]] = OrderedDict()

    def __len__(self) -> int:
        """Connections held."""
        return len(self._held)

    @property
    def next_deadline_ns(self) -> int | None:
        """When `expire` has something to do; None when nothing is held."""
        oldest = next(iter(self._held.values()), None)
        return None if oldest is None else oldest.since_ns + self._hold_ns

    def feed(self, now_ns: int, frame: Frame, token: T, hold: int = 0) -> list[Decided[T] | GiveUp[T] | Waiting]:
        """Take a client's frame. The last outcome is about its own flow; those before are flows given up for room.

        hold: see `Flow`.
        """
        flow = Flow(frame.proto, frame.src, frame.dst, frame.sport, frame.dport, frame.vlan, hold)
        if frame.l4 == 0 or frame.is_fragment or frame.proto not in (TCP, UDP):
            return [GiveUp(flow, (token,), Why.NO_TRANSPORT)]
        known = self._recall(now_ns, flow)
        if known is not None:
            return [replace(known, frames=(token,))]
        outcomes: list[Decided[T] | GiveUp[T] | Waiting] = []
        held = self._held.get(flow)
        if held is None:
            while len(self._held) >= self._max_flows:
                outcomes.append(self._crowded(now_ns))
            held = self._held[flow] = _Held(now_ns, self._reader(frame.proto))
        held.tokens.append(token)
        held.size += len(frame.data)
        self._total += len(frame.data)
        outcome = self._judge(now_ns, flow, held, frame)
        while self._total > self._max_total and self._held:
            given_up = self._crowded(now_ns)
            if given_up.flow == flow:
                outcome = given_up
            else:
                outcomes.append(given_up)
        return [*outcomes, outcome]

    def expire(self, now_ns: int) -> list[GiveUp[T]]:
        """Give up what has been held for the whole hold time."""
        given_up: list[GiveUp[T]] = []
        while self._held:
            flow, held = next(iter(self._held.items()))
            if now_ns - held.since_ns < self._hold_ns:
                break
            given_up.append(self._close(now_ns, flow, GiveUp(flow, tuple(held.tokens), Why.TIMEOUT)))
        return given_up

    def _reader(self, proto: int) -> _Tcp | _Udp:
        return _Tcp(Stream(self._max_bytes, self._max_segments)) if proto == TCP else _Udp(InitialStream())

    def _judge(self, now_ns: int, flow: Flow, held: _Held[T], frame: Frame) -> Decided[T] | GiveUp[T] | Waiting:
        result = held.reader.take(frame)
        tokens = tuple(held.tokens)
        if isinstance(result, Hello):
            decided = Decided(flow, result.name, tokens, result.problem, result.ech, held.reader.conflict)
            return self._close(now_ns, flow, decided)
        if isinstance(result, Why):
            return self._close(now_ns, flow, GiveUp(flow, tokens, result))
        if result is not NEED_MORE:
            why = Why.MALFORMED if result is BAD else Why.NOT_TLS
            return self._close(now_ns, flow, GiveUp(flow, tokens, why))
        if len(held.tokens) > 2 * self._max_segments:
            return self._close(now_ns, flow, GiveUp(flow, tokens, Why.BOUNDS))
        if now_ns - held.since_ns >= self._hold_ns:
            return self._close(now_ns, flow, GiveUp(flow, tokens, Why.TIMEOUT))
        return Waiting(flow, held.since_ns + self._hold_ns)

    def _crowded(self, now_ns: int) -> GiveUp[T]:
        flow, held = next(iter(self._held.items()))
        return self._close(now_ns, flow, GiveUp(flow, tuple(held.tokens), Why.CROWDED))

    def _close(self, now_ns: int, flow: Flow, outcome: Ended) -> Ended:
        held = self._held.pop(flow)
        self._total -= held.size
        self._known[flow] = _Known(now_ns + MEMORY_NS, replace(outcome, frames=()))
        self._known.move_to_end(flow)
        while len(self._known) > self._max_flows:
            self._known.popitem(last=False)
        return outcome

    def _recall(self, now_ns: int, flow: Flow) -> Decided[T] | GiveUp[T] | None:
        """What was decided a moment ago."""
        found = self._known.get(flow)
        if found is None:
            return None
        if now_ns >= found.until_ns:
            del self._known[flow]
            return None
        return found.outcome
