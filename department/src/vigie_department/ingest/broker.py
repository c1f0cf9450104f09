"""The department's session with the broker: MQTT 5 over TLS 1.3 with its own certificate.

Acknowledged by hand: a message is acknowledged to the broker once it is committed. The session outlives a restart of
this process, so that the broker keeps what comes in the meantime (within its limits; boxes send the rest again).
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from vigie.contract import topics
from vigie_department.config import Config
from vigie_department.errors import UnavailableError

log = logging.getLogger("vigie.ingest.broker")

CLIENT: Final = "department"
"""common name of the certificate, which the broker takes for client id and user name"""
CERTIFICATE: Final = "ingest"
WINDOW: Final = 2000
"""messages that the broker may send before the first of them is acknowledged: two batches of a busy second"""
SESSION_S: Final = 7 * 86400
UNCOMMITTED_MAX: Final = 50_000
"""beyond this, what was sent without acknowledgement (QoS 0) is dropped; boxes use QoS 1"""


@dataclass(slots=True, frozen=True)
class Arrival:
    """A message as received. `generation`: of the connection; an identifier means nothing in the next one."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    generation: int


class _NamedContext(ssl.SSLContext):
    """Checks the broker's certificate against its public name, whatever address it is reached at."""

    name: str

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        kwargs["server_hostname"] = self.name
        return super().wrap_socket(*args, **kwargs)


def context(config: Config) -> ssl.SSLContext:
    """TLS of the session. Raises UnavailableError when a file is missing: the next attempt reads it again."""
    made = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
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
    """One session. `arrived` and `published` are called on the network thread and must not block."""

    def __init__(
        self,
        config: Config,
        arrived: Callable[[Arrival], None],
        published: Callable[[int, bool], None],
    ) -> None:
        self._config = config
        self._arrived = arrived
        self._published = published
        self._lock = threading.Lock()
        self._generation = 0
        self._up = threading.Event()
        self.problem = "not connected yet"
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=CLIENT, protocol=mqtt.MQTTv5, manual_ack=True)
        client.max_inflight_messages_set(500)
        client.reconnect_delay_set(1, max(1, round(config.intervals.retry_max)))
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
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
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_S
        properties.ReceiveMaximum = WINDOW
        broker = self._config.broker
        self._client.connect_async(
            broker.address,
            self._config.ports.mqtt,
            keepalive=broker.keepalive_s,
            clean_start=False,
            properties=properties,
        )
        self._client.loop_start()

    def stop(self) -> None:
        """Leave; the broker keeps the session."""
        self._client.disconnect()
        self._client.loop_stop()

    def acknowledge(self, arrivals: list[Arrival]) -> None:
        """These are committed. Those of an earlier connection are left: the broker sends them again."""
        with self._lock:
            generation = self._generation
        for arrival in arrivals:
            if arrival.qos and arrival.generation == generation:
                self._client.ack(arrival.mid, arrival.qos)

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, properties: Properties | None = None
    ) -> int | None:
        """The message's identifier, which `published` is called with later; None when it could not be handed over."""
        info = self._client.publish(topic, payload, qos, retain, properties)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    # -- network thread

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self.problem = f"refused by the broker: {reason}"
            log.error("%s", self.problem)
            return
        with self._lock:
            self._generation += 1
        sock = client.socket()
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.subscribe(topics.ALL_UP, qos=1)

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self.problem = f"the broker refuses the subscription to {topics.ALL_UP}: {', '.join(refused)}"
            log.error("%s", self.problem)
            return
        self.problem = ""
        self._up.set()
        log.info("connected to the broker")

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        self._up.clear()
        if not self.problem:
            self.problem = "the broker does not answer"
            log.warning("%s", self.problem)

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        with self._lock:
            self._generation += 1
        if self._up.is_set():
            log.warning("disconnected from the broker: %s", reason)
        self._up.clear()
        self.problem = f"disconnected: {reason}"

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._arrived(Arrival(message.topic, bytes(message.payload), message.qos, message.mid, self._generation))

    def _on_publish(self, _client: mqtt.Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._published(mid, not reason.is_failure)
