"""The department's session with the broker: MQTT 5 over TLS 1.3 with its own certificate.

Acknowledged by hand: a message is acknowledged to the broker once it is committed. The session outlives a restart of
this process, so that the broker keeps what comes in the meantime (within its limits; boxes send the rest again).
"""

from __future__ import annotations

import contextlib
import logging
import random
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from paho.mqtt.properties import Properties

from vigie.contract import topics
from vigie_department.config import Config
from vigie_department.errors import UnavailableError
from vigie_department.ingest import packets
from vigie_department.ingest.packets import Answer, PacketError
from vigie_department.ingest.stream import Stream

log = logging.getLogger("vigie.ingest.broker")

CLIENT: Final = "department"
"""common name of the certificate, which the broker takes for client id and user name"""
CERTIFICATE: Final = "ingest"
WINDOW: Final = 2000
"""messages that the broker may send before the first of them is acknowledged: two batches of a busy second"""
SESSION_S: Final = 7 * 86400
OPEN_S: Final = 15.0
"""until the broker has accepted the connection, the session and the subscription"""
UNSENT_MAX: Final = 8 << 20
"""bytes waiting for a broker that does not read: beyond, publications are not taken"""
UNCOMMITTED_MAX: Final = 50_000
"""beyond this, what was sent without acknowledgement (QoS 0) is dropped; boxes use QoS 1"""

_SUBSCRIPTION: Final = 1
"""identifier of the SUBSCRIBE; publications have the others"""


@dataclass(slots=True, frozen=True)
class Arrival:
    """A message as received. `generation`: of the connection; an identifier means nothing in the next one."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    generation: int


def context(config: Config) -> ssl.SSLContext:
    """TLS of the session. Raises UnavailableError when a file is missing: the next attempt reads it again."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    pki = config.paths.pki
    try:
        made.load_verify_locations(cafile=str(pki / "roots.pem"))
        made.load_cert_chain(str(pki / f"{CERTIFICATE}.pem"), str(pki / f"{CERTIFICATE}.key"))
    except (OSError, ssl.SSLError) as error:
        raise UnavailableError(f"{pki}: certificate of the ingest cannot be loaded ({error}); see `doctor`") from error
    return made


class Broker:
    """One session. `arrived` (what one read brought, in order) and `published` are called on the network thread, which
    is the only one that touches the connection, and must not block."""

    def __init__(
        self,
        config: Config,
        arrived: Callable[[list[Arrival]], None],
        published: Callable[[int, bool], None],
    ) -> None:
        self._config = config
        self._arrived = arrived
        self._published = published
        self._context = context(config)
        self._lock = threading.Lock()  # of everything below that other threads touch
        self._generation = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._mid = 0
        self._unanswered: dict[int, bytes] = {}
        """identifier -> publication at QoS 1, in the order in which they were handed over"""
        self._held: deque[int] = deque()
        """those of them that the broker has no room for yet"""
        self._room = 65535
        self._up = threading.Event()
        self._stopping = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self.problem = "not connected yet"

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and our subscription."""
        return self._up.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait for a connection."""
        return self._up.wait(timeout)

    def start(self) -> None:
        """Connect in the background, for ever."""
        self._thread.start()

    def stop(self) -> None:
        """Leave, once what was handed over is sent; the broker keeps the session."""
        self._stopping.set()
        self._nudge()
        if self._thread.is_alive():
            self._thread.join(OPEN_S + 5)

    def acknowledge(self, arrivals: list[Arrival]) -> None:
        """These are committed. Those of an earlier connection are left: the broker sends them again."""
        with self._lock:
            generation = self._generation
            mids = [arrival.mid for arrival in arrivals if arrival.qos and arrival.generation == generation]
            self._hand_over(packets.acknowledged(mids))
        self._nudge()

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, properties: Properties | None = None
    ) -> int | None:
        """At QoS 1. The identifier, which `published` is called with later; None when it could not be handed over."""
        with self._lock:
            if not self._up.is_set() or self._out_bytes > UNSENT_MAX:
                return None
            mid = self._next_mid()
            packet = packets.publish(topic, payload, mid, retain=retain, properties=properties)
            self._unanswered[mid] = packet
            if len(self._unanswered) > self._room:
                self._held.append(mid)
            else:
                self._hand_over(packet)
        self._nudge()
        return mid

    def tell(self, messages: list[tuple[str, bytes]]) -> bool:
        """Publish at QoS 0, topic and payload each; False when they could not be handed over."""
        packed = b"".join(packets.publish(topic, payload, 0) for topic, payload in messages)
        with self._lock:
            if not self._up.is_set() or self._out_bytes > UNSENT_MAX:
                return False
            self._hand_over(packed)
        self._nudge()
        return True

    def _next_mid(self) -> int:
        for _ in range(65535):
            self._mid = self._mid % 65535 + 1
            if self._mid not in self._unanswered and self._mid != _SUBSCRIPTION:
                return self._mid
        raise UnavailableError("65,535 publications are unanswered: the broker does not work")

    def _hand_over(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)

    def _nudge(self) -> None:
        # a full pair has woken the thread already
        with contextlib.suppress(BlockingIOError):
            self._wake.send(b"\0")

    # -- network thread

    def _run(self) -> None:
        pause = first = min(1.0, self._config.intervals.retry_max)
        while not self._stopping.is_set():
            try:
                with contextlib.closing(self._open()) as session:
                    pause = first
                    session.serve()
            except (OSError, PacketError) as error:
                self._failed(error)
            except Exception as error:
                # a bug must not leave the process alive and deaf
                log.exception("the session with the broker")
                self._failed(error)
            finally:
                with self._lock:
                    self._generation += 1
                    self._up.clear()
            self._stopping.wait(random.uniform(pause / 2, pause))
            pause = min(2 * pause, self._config.intervals.retry_max)

    def _failed(self, error: Exception) -> None:
        if self._up.is_set():
            log.warning("disconnected from the broker: %s", error)
            self.problem = f"disconnected: {error}"
            return
        problem = str(error) if isinstance(error, PacketError) else f"the broker does not answer ({error})"
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem

    def _open(self) -> _Session:
        broker = self._config.broker
        stream = Stream(broker.address, self._config.ports.mqtt, self._context, self._config.mqtt_host, OPEN_S)
        return _Session(self, stream, broker.keepalive_s)

    def _accepted(self, answer: Answer) -> None:
        """CONNACK: what was published and not answered goes again, first."""
        if answer.failed:
            raise PacketError(f"refused by the broker: {answer.reason}")
        with self._lock:
            self._generation += 1
            self._out, self._out_bytes = [], 0
            self._room = answer.receive_maximum
            self._held.clear()
            for number, (mid, packet) in enumerate(self._unanswered.items()):
                if number >= self._room:
                    self._held.append(mid)
                else:
                    self._hand_over(packets.again(packet) if answer.session else packet)

    def _subscribed(self, answer: Answer) -> None:
        if answer.failed:
            raise PacketError(f"the broker refuses the subscription to {topics.ALL_UP}: {answer.reason}")
        self.problem = ""
        self._up.set()
        log.info("connected to the broker")

    def _answered(self, answer: Answer) -> None:
        with self._lock:
            known = self._unanswered.pop(answer.mid, None)
            if self._held:
                self._hand_over(self._unanswered[self._held.popleft()])
        if known is not None:
            self._published(answer.mid, not answer.failed)

    def _take_out(self) -> bytes:
        with self._lock:
            out, self._out, self._out_bytes = self._out, [], 0
        return b"".join(out)


class _Session:
    """One connection, from CONNECT to its end."""

    def __init__(self, broker: Broker, stream: Stream, keepalive_s: int) -> None:
        self._broker = broker
        self._stream = stream
        self._keepalive_s = float(keepalive_s)
        self._splitter = packets.Splitter()
        self._began = self._sent = self._heard = self._pinged = time.monotonic()
        self._accepted = False
        stream.write(packets.connect(CLIENT, keepalive_s, SESSION_S, WINDOW))

    def close(self) -> None:
        self._stream.close()

    def serve(self) -> None:
        """Until told to stop. OSError or PacketError when the session is over."""
        broker, stream = self._broker, self._stream
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            selector.register(broker._woken, selectors.EVENT_READ)
            leaving = False
            while True:
                if broker.connected and (out := broker._take_out()):
                    stream.write(out)
                    self._sent = time.monotonic()
                if broker._stopping.is_set() and not leaving:
                    leaving = True
                    stream.write(packets.LEAVE)
                full = stream.flush()
                if leaving and (not full or time.monotonic() - self._sent > 5.0):
                    return
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if full else 0)
                selector.modify(stream, events)
                for key, _events in selector.select(1.0):
                    if key.fileobj is broker._woken:
                        broker._woken.recv(4096)
                self._read()
                self._keep_alive()

    def _read(self) -> None:
        data = self._stream.read()
        if not data:
            return
        self._heard = time.monotonic()
        arrivals = []
        for first, body in self._splitter.feed(data):
            if first & 0xF0 == packets.PUBLISH:
                found = packets.message(first, body)
                generation = self._broker._generation
                arrivals.append(Arrival(found.topic, found.payload, found.qos, found.mid, generation))
            elif first != packets.PINGRESP:
                self._answer(packets.answer(first, body))
        if arrivals:
            self._broker._arrived(arrivals)

    def _answer(self, answer: Answer) -> None:
        match answer.packet:
            case packets.PUBACK:
                self._broker._answered(answer)
            case packets.CONNACK if not self._accepted:
                self._broker._accepted(answer)
                self._accepted = True
                if answer.keepalive_s is not None:
                    self._keepalive_s = float(answer.keepalive_s)
                self._stream.write(packets.subscribe(_SUBSCRIPTION, topics.ALL_UP))
            case packets.SUBACK:
                self._broker._subscribed(answer)
            case _:
                raise PacketError(f"the broker ends the session: {answer.reason}")

    def _keep_alive(self) -> None:
        now = time.monotonic()
        if not self._broker.connected and now - self._began > OPEN_S:
            raise PacketError(f"the broker has not accepted the session within {OPEN_S:.0f} s")
        if self._keepalive_s and now - self._heard > 1.5 * self._keepalive_s:
            raise PacketError(f"the broker says nothing for {now - self._heard:.0f} s")
        if self._keepalive_s and now - max(self._sent, self._pinged) >= self._keepalive_s / 2:
            self._pinged = now
            self._stream.write(packets.PINGREQ)
