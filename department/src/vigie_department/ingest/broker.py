"""The department's session with the broker: MQTT 5 over TLS 1.3 with its own certificate.

Acknowledged by hand: a message is acknowledged to the broker once it is committed. The session outlives a restart of
this process, so that the broker keeps what comes in the meantime (within its limits; boxes send the rest again).

paho-mqtt speaks the protocol and keeps what is not answered; connecting and the loop are ours. Its own loop asks the
system twice for each message and hands each over by itself, which costs half as much as storing it.
"""

from __future__ import annotations

import contextlib
import logging
import random
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from vigie.contract import topics
from vigie_department.config import Config
from vigie_department.errors import UnavailableError
from vigie_department.ingest import tls

log = logging.getLogger("vigie.ingest.broker")

CLIENT: Final = "department"
"""common name of the certificate, which the broker takes for client id and user name"""
CERTIFICATE: Final = "ingest"
WINDOW: Final = 2000
"""messages that the broker may send before the first of them is acknowledged: two batches of a busy second"""
SESSION_S: Final = 7 * 86400
UNCOMMITTED_MAX: Final = 50_000
"""beyond this, what was sent without acknowledgement (QoS 0) is dropped; boxes use QoS 1"""
_AT_ONCE: Final = 100
"""messages read before they are handed over"""


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
    made = tls.Context(ssl.PROTOCOL_TLS_CLIENT)
    made.name = config.mqtt_host
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    pki = config.paths.pki
    try:
        made.load_verify_locations(cafile=str(pki / "roots.pem"))
        made.load_cert_chain(str(pki / f"{CERTIFICATE}.pem"), str(pki / f"{CERTIFICATE}.key"))
    except (OSError, ssl.SSLError) as error:
        raise UnavailableError(f"{pki}: certificate of the ingest cannot be loaded ({error}); see `doctor`") from error
    return made


class Broker:
    """One session. `arrived` (messages, in order) and `published` are called on the network thread, which is the only
    one that touches the connection, and must not block."""

    def __init__(
        self,
        config: Config,
        arrived: Callable[[list[Arrival]], None],
        published: Callable[[int, bool], None],
    ) -> None:
        self._config = config
        self._arrived = arrived
        self._published = published
        self._lock = threading.Lock()
        self._generation = 0
        self._read: list[Arrival] = []
        self._was_up = False
        self._up = threading.Event()
        self._stopping = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self.problem = "not connected yet"
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=CLIENT, protocol=mqtt.MQTTv5, manual_ack=True)
        client.max_inflight_messages_set(500)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        # with this one set the client leaves all writing to our loop, whichever thread hands something over
        client.on_socket_register_write = self._nudge
        client.tls_set_context(context(config))
        self._client = client

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
        self._client.disconnect()
        self._nudge()
        if self._thread.is_alive():
            self._thread.join(20.0)

    def acknowledge(self, arrivals: list[Arrival]) -> None:
        """These are committed. Those of an earlier connection are left: the broker sends them again."""
        with self._lock:
            generation = self._generation
        for arrival in arrivals:
            if arrival.qos and arrival.generation == generation:
                self._client.ack(arrival.mid, arrival.qos)

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, properties: Properties | None = None
    ) -> int | None:
        """At QoS 1. The identifier, which `published` is called with later; None when it could not be handed over."""
        info = self._client.publish(topic, payload, 1, retain, properties)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def tell(self, messages: list[tuple[str, bytes]]) -> bool:
        """Publish at QoS 0, topic and payload each; False when there is no connection."""
        if not self._up.is_set():
            return False
        for topic, payload in messages:
            self._client.publish(topic, payload, 0)
        return True

    def _nudge(self, *_: Any) -> None:
        # a full pair has woken the thread already
        with contextlib.suppress(BlockingIOError):
            self._wake.send(b"\0")

    # -- network thread

    def _run(self) -> None:
        pause = first = min(1.0, self._config.intervals.retry_max)
        while not self._stopping.is_set():
            try:
                self._connect()
                self._serve()
            except OSError as error:
                self._failed(f"the broker does not answer ({error})")
            except Exception:
                # a bug must not leave the process alive and deaf
                log.exception("the session with the broker")
            self._end()
            pause = first if self._was_up else min(2 * pause, self._config.intervals.retry_max)
            self._stopping.wait(random.uniform(pause / 2, pause))

    def _connect(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_S
        properties.ReceiveMaximum = WINDOW
        broker = self._config.broker
        self._was_up = False
        self._client.connect(
            broker.address, self._config.ports.mqtt, broker.keepalive_s, clean_start=False, properties=properties
        )

    def _serve(self) -> None:
        """Until the client has closed the connection. OSError when it is gone."""
        client = self._client
        sock = cast("tls.Socket | None", client.socket())
        if sock is None:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while self._holds(sock):
                if client.want_write():
                    client.loop_write()
                if not self._holds(sock):
                    return
                events = selectors.EVENT_READ if sock.flush() else selectors.EVENT_READ | selectors.EVENT_WRITE
                selector.modify(sock, events)
                # something may have been queued while the client left off writing: nobody was woken for it
                for key, _events in selector.select(0.0 if client.want_write() else 1.0):
                    if key.fileobj is self._woken:
                        self._woken.recv(4096)
                self._drain(sock)
                client.loop_misc()

    def _holds(self, sock: tls.Socket) -> bool:
        """Whether the client has not closed it."""
        return self._client.socket() is sock

    def _drain(self, sock: tls.Socket) -> None:
        """Read all there is."""
        sock.dry = False
        while not sock.dry and self._client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            if len(self._read) >= _AT_ONCE:
                self._hand_over()
        self._hand_over()

    def _hand_over(self) -> None:
        if self._read:
            arrivals, self._read = self._read, []
            self._arrived(arrivals)

    def _end(self) -> None:
        self._up.clear()
        self._read = []
        with self._lock:
            self._generation += 1

    def _failed(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._failed(f"refused by the broker: {reason}")
            return
        with self._lock:
            self._generation += 1
        client.subscribe(topics.ALL_UP, qos=1)

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self._failed(f"the broker refuses the subscription to {topics.ALL_UP}: {', '.join(refused)}")
            return
        self.problem = ""
        self._was_up = True
        self._up.set()
        log.info("connected to the broker")

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        if self._up.is_set():
            self._up.clear()
            self._failed(f"disconnected from the broker: {reason}")

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._read.append(Arrival(message.topic, bytes(message.payload), message.qos, message.mid, self._generation))

    def _on_publish(self, _client: mqtt.Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._published(mid, not reason.is_failure)
