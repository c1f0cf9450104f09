"""A simulated box: a real TLS session with its own certificate, real MQTT 5 packets, real envelopes, the product's
rules for reconnecting and for its outbox (`simoutbox`). Plain sockets on one asyncio loop, so that a thousand fit into
one process (asyncio's own TLS transport costs three times as much per message).

Left out, because a thousand boxes do it on a thousand machines: reading and checking what arrives beyond its frame,
and the schema check of each row before it leaves (templates were checked once).
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.simoutbox import Outbox, Sending
from vigie.contract import topics
from vigie.contract.codes import Category, DeviceClass, Direction
from vigie.contract.envelope import Upward, new_boot
from vigie.contract.upward import Alert, BaseInForce, DesiredInForce, Offline, State
from vigie.contract.words import Clock, DesiredStatus, FilterHealth, Inbound, Kind, Look, Order, Rule
from vigie.host.boxconfig import LinkIntervals
from vigie.link.backoff import Backoff

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 0x20, 0x30, 0x40, 0x90, 0xD0
TIMES = LinkIntervals()
"""the product's own"""
INDICATOR = "198.51.100.7"


@dataclass
class Fleet:
    """What all simulated boxes share, and what they note."""

    port: int
    host: str
    address: str = "127.0.0.1"
    connected: int = 0
    looked: Callable[[SimBox], None] = lambda box: None
    born: dict[tuple[str, int], float] = field(default_factory=dict)
    """(box, alert id) -> when it was raised (time.time())"""
    puback: dict[tuple[str, int], float] = field(default_factory=dict)
    """same -> when the broker first acknowledged it"""
    rows: int = 0
    confirmed: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    stopping: bool = False

    def failed(self, error: BaseException | None) -> None:
        name = type(error).__name__ if error is not None else "closed"
        self.failures[name] = self.failures.get(name, 0) + 1


class SimBox:
    """`run` keeps it connected until the fleet stops."""

    def __init__(self, fleet: Fleet, name: str, context: ssl.SSLContext, rng: random.Random) -> None:
        self.fleet, self.name = fleet, name
        self._context, self._rng = context, rng
        self.boot = new_boot()
        self.outbox = Outbox(TIMES.drain_per_s, TIMES.confirm_s, rng.random())
        self._session = self._states = self._mid = 0
        self._flying: dict[int, int] = {}
        self._buffer = bytearray()
        self._out = bytearray()
        self._sock: ssl.SSLSocket | None = None
        self._lost: asyncio.Future[None] | None = None
        self._template = _template(self.boot)
        self._topic = topics.up(name, Kind.ALERT).encode()
        self._received = topics.down(name, Order.RECEIVED).encode()
        self._base = topics.announcement(Look.BASE).encode()
        self.online = False

    # -- session ------------------------------------------------------------------------------------

    async def run(self, first_delay: float = 0.0) -> None:
        """Connect, stay, connect again: the product's back-off."""
        backoff = Backoff(TIMES.first_s, TIMES.most_s)
        await asyncio.sleep(first_delay)
        loop = asyncio.get_running_loop()
        while not self.fleet.stopping:
            began = loop.time()
            self._lost = loop.create_future()
            try:
                async with asyncio.timeout(25):
                    await self._open(loop)
                await self._lost
            except (OSError, TimeoutError) as error:
                self.fleet.failed(error)
            self._off()
            backoff = backoff.failed(loop.time() - began)
            await asyncio.sleep(backoff.wait_s(self._rng.uniform))

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        plain = socket.socket()
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.sock_connect(plain, (self.fleet.address, self.fleet.port))
            sock = self._context.wrap_socket(plain, server_hostname=self.fleet.host, do_handshake_on_connect=False)
        except BaseException:
            plain.close()
            raise
        self._sock = sock
        while True:
            try:
                sock.do_handshake()
                break
            except ssl.SSLWantReadError:
                ready = loop.create_future()
                loop.add_reader(sock, ready.set_result, None)
                try:
                    await ready
                finally:
                    loop.remove_reader(sock)
        loop.add_reader(sock, self._readable)
        self._greet()

    def close(self) -> None:
        """Without a word."""
        self._end(None)

    def _greet(self) -> None:
        self._session += 1
        will = Upward(self.boot, self._states + 1, int(time.time()), Clock.NTP, Offline(self._session)).to_bytes()
        flags = 0b00101100  # will, retained, QoS 1; the session is kept
        properties = b"\x11" + struct.pack("!I", 3600) + b"\x21" + struct.pack("!H", 20)
        body = _text(b"MQTT") + bytes([5, flags]) + struct.pack("!H", TIMES.keepalive_s) + _sized(properties)
        body += _text(b"") + b"\0" + _text(topics.up(self.name, Kind.STATE).encode()) + _text(will)
        self._write(_packet(0x10, body))

    def _end(self, error: BaseException | None) -> None:
        if self._sock is None:
            return
        if not self.fleet.stopping:
            self.fleet.failed(error)
        self._off()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def _off(self) -> None:
        if self.online:
            self.online = False
            self.fleet.connected -= 1
        if self._sock is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._sock)
            loop.remove_writer(self._sock)
            self._sock.close()
            self._sock = None
        self._buffer.clear()
        self._out.clear()
        self._flying.clear()

    def _readable(self) -> None:
        while self._sock is not None:
            try:
                data = self._sock.recv(65536)
            except ssl.SSLWantReadError:
                if self._out:
                    self._flush()
                return
            except OSError as error:
                self._end(error)
                return
            if not data:
                self._end(None)
                return
            self._buffer += data
            while (found := _next(self._buffer)) is not None:
                kind, body, size = found
                del self._buffer[:size]
                self._packet(kind, body)

    def _packet(self, kind: int, body: bytes) -> None:
        top = kind & 0xF0
        if top == PUBLISH:
            self._arrived(kind, body)
        elif top == PUBACK:
            alert = self._flying.pop(int.from_bytes(body[:2], "big"), 0)
            if alert:
                self.fleet.puback.setdefault((self.name, alert), time.time())
        elif top == CONNACK:
            if body[1] != 0:
                self.fleet.failed(ConnectionRefusedError())
                self.close()
                return
            filters = b"".join(_text(one.encode()) + b"\x01" for one in topics.box_subscriptions(self.name))
            self._write(_packet(0x82, struct.pack("!H", self._next_mid()) + b"\0" + filters))
        elif top == SUBACK:
            self.online = True
            self.fleet.connected += 1
            self.outbox.opened(time.monotonic(), self._rng.uniform(0.0, TIMES.spread_s))
            self._say_state()

    def _arrived(self, kind: int, body: bytes) -> None:
        length = int.from_bytes(body[:2], "big")
        topic, at = body[2 : 2 + length], 2 + length
        qos = kind >> 1 & 3
        if qos:
            self._write(b"\x40\x02" + body[at : at + 2])
            at += 2
        at += 1 + body[at]  # properties: fewer than 128 bytes
        if topic == self._received:
            self._confirm(json.loads(body[at:]))
        elif topic == self._base:
            self.fleet.looked(self)

    # -- outbox -------------------------------------------------------------------------------------

    def alert(self, number: int) -> None:
        """A new row, live: it goes at once when the window allows."""
        self.fleet.rows += 1
        self.fleet.born[self.name, number] = time.time()
        sending = self.outbox.add(number, time.monotonic(), online=self.online)
        if sending is not None:
            self._send(sending)

    def turn(self, now: float) -> None:
        """Once a second: what nobody confirms goes again, paced, and what did not fit goes for the first time."""
        if self.online:
            for sending in self.outbox.due(now):
                self._send(sending)

    def ping(self) -> None:
        self._write(b"\xc0\x00")

    def _send(self, sending: Sending) -> None:
        mid = self._next_mid()
        self._flying[mid] = sending.alert
        payload = self._template % (sending.seq, int(time.time()), sending.prev, sending.alert)
        self._write(_packet(0x32, _text(self._topic) + struct.pack("!H", mid) + b"\0" + payload))

    def _confirm(self, said: dict[str, object]) -> None:
        upto = said.get("upto")
        if said.get("boot") == self.boot and isinstance(upto, int):
            self.fleet.confirmed += self.outbox.received(upto, time.monotonic())

    def _say_state(self) -> None:
        self._states += 1
        state = State(
            session=self._session, version="0.1.0", base=BaseInForce(1, 1_000_000), candidate=None,
            desired=DesiredInForce(0, DesiredStatus.NONE, None), isolation=0, quarantined=0, exceptions=0,
            inbound=Inbound.REFUSE, filter=FilterHealth.OK, uptime_s=1000, disk_free_mb=9000, mem_free_mb=500,
            load=0.1, roles_known=True, losses=0,
        )  # fmt: skip
        payload = Upward(self.boot, self._states, int(time.time()), Clock.NTP, state).to_bytes()
        topic = topics.up(self.name, Kind.STATE).encode()
        self._write(_packet(0x33, _text(topic) + struct.pack("!H", self._next_mid()) + b"\0" + payload))

    def _next_mid(self) -> int:
        self._mid = self._mid % 65535 + 1
        return self._mid

    def _write(self, data: bytes) -> None:
        if self._sock is None:
            return
        waiting = bool(self._out)
        self._out += data
        if not waiting:
            self._flush()

    def _flush(self) -> None:
        sock = self._sock
        if sock is None:
            return
        loop = asyncio.get_running_loop()
        try:
            while self._out:
                del self._out[: sock.send(self._out)]
            loop.remove_writer(sock)
        except ssl.SSLWantWriteError:
            loop.add_writer(sock, self._flush)
        except ssl.SSLWantReadError:
            loop.remove_writer(sock)  # goes on in `_readable`
        except OSError as error:
            self._end(error)


def _template(boot: str) -> bytes:
    """An alert with places for seq, ts, prev and id; checked as the product checks each row."""
    hour = int(time.time()) // 3600 * 3600
    alert = Alert(
        id=999_999_999, rule=next(iter(Rule)), reason=1, severity=1, category=Category.C2, direction=Direction.OUT,
        indicator=INDICATOR, device="d-0123456789abcdef", device_class=next(iter(DeviceClass)), count=3, first=hour,
        last=hour, incident=False,
    )  # fmt: skip
    data = Upward(boot, 999_999_998, 999_999_997, Clock.NTP, alert, 999_999_996).to_bytes()
    for number in (999_999_998, 999_999_997, 999_999_996, 999_999_999):
        data = data.replace(str(number).encode(), b"%d")
    places = data.count(b"%d")
    if places != 4:
        raise ValueError(f"{places} places in {data!r}")
    return data


def _text(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def _sized(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def _packet(kind: int, body: bytes) -> bytes:
    size, length = bytearray(), len(body)
    while True:
        size.append(length & 0x7F | (0x80 if length > 0x7F else 0))
        length >>= 7
        if not length:
            return bytes([kind]) + bytes(size) + body


def _next(buffer: bytearray) -> tuple[int, bytes, int] | None:
    """First byte, body and whole size of the first complete packet."""
    length = 0
    for place in range(1, min(5, len(buffer))):
        length |= (buffer[place] & 0x7F) << 7 * (place - 1)
        if not buffer[place] & 0x80:
            end = place + 1 + length
            return (buffer[0], bytes(buffer[place + 1 : end]), end) if len(buffer) >= end else None
    return None
