"""An MQTT 5 client that writes down what happens to it."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.certificates import Client


class Session:
    """Context manager: connected when entered (unless `expect` is False). Its client id is its certificate's name."""

    def __init__(
        self, client: Client, roots: str, host: str, port: int, *, address: str = "127.0.0.1",
        topics: tuple[str, ...] = (), expect: bool = True, kept_s: int = 3600,
    ) -> None:  # fmt: skip
        self.name = client.name
        self.heard: list[tuple[str, bytes]] = []
        self.acknowledged: dict[int, int] = {}
        self.connections: list[float] = []
        self.ends: list[float] = []
        self.errors: list[str] = []
        self._expect = expect
        self._changed = threading.Condition()
        self._topics = topics
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="", protocol=paho.MQTTv5)
        self._client.tls_set_context(_Named.make(roots, client, host))
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._message
        self._client.on_publish = self._published
        self._client.reconnect_delay_set(1, 1)
        self._address, self._port = address, port
        self._properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        self._properties.SessionExpiryInterval = kept_s

    def __enter__(self) -> Session:
        try:
            self._client.connect(self._address, self._port, 30, clean_start=False, properties=self._properties)
        except OSError as error:
            self.errors.append(str(error))
            if self._expect:
                raise
            return self
        self._client.loop_start()
        if self._expect:
            self.wait(lambda: bool(self.connections), "connected")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Publish and wait for the broker's answer; returns its reason code (0 or 16 fine, 135 not authorised)."""
        number = self._client.publish(topic, payload, 1, retain).mid
        self.wait(lambda: number in self.acknowledged, f"answer to {topic}")
        return self.acknowledged[number]

    def wait(self, until: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        with self._changed:
            if not self._changed.wait_for(until, seconds):
                raise AssertionError(f"{self.name}: not {what} in {seconds} s; heard {self.heard}, ends {self.ends}, "
                                     f"connections {self.connections}, {self.errors}")  # fmt: skip

    def _note(self, action: Callable[[], object]) -> None:
        with self._changed:
            action()
            self._changed.notify_all()

    def _connected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.value != 0:
            self._note(lambda: self.errors.append(str(reason)))
            return
        if self._topics:
            client.subscribe([(topic, 1) for topic in self._topics])
            client.on_subscribe = lambda *_: self._note(lambda: self.connections.append(time.monotonic()))
        else:
            self._note(lambda: self.connections.append(time.monotonic()))

    def _disconnected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._note(lambda: self.ends.append(time.monotonic()))

    def _message(self, client: Any, userdata: Any, message: Any) -> None:
        self._note(lambda: self.heard.append((message.topic, message.payload)))

    def _published(self, client: Any, userdata: Any, number: int, reason: Any, properties: Any) -> None:
        self._note(lambda: self.acknowledged.__setitem__(number, reason.value))


class _Socket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()  # the client forgets it as it is
            raise


class _Named(ssl.SSLContext):
    """Checks the server's certificate against `server_name` wherever the connection goes."""

    sslsocket_class = _Socket
    server_name: str

    @classmethod
    def make(cls, roots: str, client: Client, server_name: str) -> _Named:
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(roots)
        context.load_cert_chain(client.chain, client.key)
        context.server_name = server_name
        return context

    def wrap_socket(self, *args: Any, **named: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*args, **(named | {"server_hostname": self.server_name}))
