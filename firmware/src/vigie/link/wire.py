"""One MQTT 5 session over a connected TLS socket, on the running asyncio loop.

paho parses and writes packets; connecting, reconnecting and deciding what to send are ours: its automatic reconnection
is never started, its queue never holds more than what was handed over for this session, which ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt import MQTTException
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from vigie.link.codes import LinkCode
from vigie.link.dial import tls_error
from vigie.link.errors import BrokerError, PacketError
from vigie.link.packets import PACKET_MAX, PacketMeter

log = logging.getLogger("vigie.link")

INFLIGHT_MAX: Final = 100
UNANSWERED_MAX: Final = 1000
"""Messages handed over and not acknowledged: a broker that answers none would have the library keep them all."""
RECEIVE_MAX: Final = 20
"""Messages that the broker may send before it has read an answer to the first."""
OWED_MAX: Final = 10 * RECEIVE_MAX
"""Answers that may wait to be read: a broker that sends on and reads none would have the library keep them all."""
MISC_S: Final = 1.0
_READS_PER_TURN: Final = 64
# What hostile packets make the library's parser raise.
_PARSER_ERRORS: Final = (struct.error, IndexError, ValueError, KeyError, TypeError, AttributeError, MQTTException)
_TAKEN_OVER: Final = 0x8E
_PUBACK: Final = 4


@dataclass(frozen=True, slots=True)
class Message:
    """A message that arrived. `payload` is bounded by PACKET_MAX."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when the session ends without a word."""

    topic: str
    payload: bytes


class _MeteredSocket:
    """The TLS socket as paho uses it, with each byte read measured first. paho's SocketLike."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._meter = PacketMeter()
        self._answered = 0
        self.failed: Exception | None = None

    def recv(self, size: int) -> bytes:
        try:
            data = self._sock.recv(min(size, PACKET_MAX))
            self._meter.feed(data)
            if self._meter.published - self._answered > OWED_MAX:
                raise PacketError("the broker sends without reading the answers")
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            raise
        except OSError as e:
            self.failed = e
            raise
        except PacketError as e:
            self.failed = e
            raise ConnectionError(str(e)) from e
        return data

    def send(self, data: bytes) -> int:
        try:
            sent = self._sock.send(data)
            self._answered += sent == len(data) and data[0] >> 4 == _PUBACK  # one packet at a time
            return sent
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            raise
        except OSError as e:
            self.failed = e
            raise

    def pending(self) -> int:
        return self._sock.pending()

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()


class _Client(mqtt.Client):
    """paho's client, with a socket that is connected already."""

    given: _MeteredSocket

    def _create_socket(self) -> Any:
        # The one private name of paho relied upon: everything about connecting (proxy, addresses, TLS, dates) is
        # decided in `dial`. The integration tests fail at once if a new version renames it.
        return self.given


class Session:
    """A session from CONNECT to its end. Everything happens on the loop that called `open`."""

    def __init__(self, box: str, on_message: Callable[[Message], None], on_acknowledged: Callable[[int], None]) -> None:
        self._box = box
        self._on_message = on_message
        self._on_acknowledged = on_acknowledged
        self._client: _Client
        self._sock: _MeteredSocket
        self._loop: asyncio.AbstractEventLoop
        self._opened: asyncio.Future[bool]
        self._ended: asyncio.Future[BrokerError]
        self._misc: asyncio.Task[None] | None = None
        self._fd = -1
        self._leaving = False
        self._unanswered = 0
        self._last = 0
        self._last_out = asyncio.Event()
        self._where = ""

    async def open(
        self, sock: ssl.SSLSocket, will: Will, where: str, *, keepalive_s: int, expiry_s: int, timeout_s: float
    ) -> bool:
        """Says CONNECT and waits for the answer; True when the broker had kept the session. BrokerError.

        clean_start is False: orders that came while the box was away are delivered. The broker forgets the session
        `expiry_s` after the connection ends.
        """
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._ended = self._loop.create_future()
        self._where = where
        self._sock = _MeteredSocket(sock)
        client = self._client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._box,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.given = self._sock
        client.max_inflight_messages_set(INFLIGHT_MAX)
        client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_message = self._arrived
        client.on_publish = self._published
        client.on_socket_register_write = self._wants_write
        client.on_socket_unregister_write = self._wrote
        self._fd = sock.fileno()
        self._loop.add_reader(self._fd, self._readable)
        self._misc = self._loop.create_task(self._every_second())
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = expiry_s
        properties.ReceiveMaximum = RECEIVE_MAX
        properties.MaximumPacketSize = PACKET_MAX
        try:
            client.connect("broker", 1, keepalive=keepalive_s, clean_start=False, properties=properties)
            async with asyncio.timeout(timeout_s):
                both: set[asyncio.Future[Any]] = {self._opened, self._ended}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except (TimeoutError, OSError, *_PARSER_ERRORS) as e:
            self._end(BrokerError(LinkCode.TIMEOUT if isinstance(e, TimeoutError) else LinkCode.LOST, f"{where}: {e}"))
        if self._opened.done() and not self._ended.done():
            return self._opened.result()
        self.close()
        raise await self._ended

    async def ended(self) -> BrokerError:
        """Waits for the end of the session; why it ended."""
        return await asyncio.shield(self._ended)

    @property
    def over(self) -> bool:
        """Whether the session has ended."""
        return self._ended.done()

    def subscribe(self, filters: tuple[str, ...]) -> None:
        """Subscribes, QoS 1; what is retained is delivered again."""
        self._client.subscribe([(f, SubscribeOptions(qos=1)) for f in filters])

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, correlation: bytes | None = None) -> int:
        """Hands a message to the broker, QoS 1; the packet id, for `on_acknowledged`. BrokerError when over."""
        if self.over:
            raise BrokerError(LinkCode.LOST, f"{self._where}: the session has ended")
        if self._unanswered >= UNANSWERED_MAX:
            self._end(BrokerError(LinkCode.PROTOCOL, f"{self._where}: {self._unanswered} messages without an answer"))
            raise BrokerError(LinkCode.PROTOCOL, f"{self._where}: the broker acknowledges nothing")
        self._unanswered += 1
        properties = None
        if correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation
        return self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid

    async def leave(self, topic: str, payload: bytes, timeout_s: float) -> None:
        """Publishes a last retained message in place of the will, waits until the broker has it, says goodbye."""
        self._leaving = True
        with contextlib.suppress(BrokerError, TimeoutError):
            self._last = self.publish(topic, payload, retain=True)
            async with asyncio.timeout(timeout_s):
                await self._last_out.wait()
            self._client.disconnect()
        self.close()

    def close(self) -> None:
        """Ends the session at once; the broker publishes the will unless `leave` said goodbye."""
        self._end(
            BrokerError(LinkCode.STOPPED if self._leaving else LinkCode.LOST, f"{self._where}: closed by the box")
        )

    def _end(self, why: BrokerError) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._fd = -1
        if self._misc is not None:
            self._misc.cancel()
            self._misc = None
        with contextlib.suppress(OSError):
            self._sock.close()
        if not self._ended.done():
            self._ended.set_result(why)

    # ---- turned by the loop -----------------------------------------------------------------------------------

    def _readable(self) -> None:
        for _turn in range(_READS_PER_TURN):
            if not self._step(self._client.loop_read) or self._fd < 0:
                return
            if not self._sock.pending():
                return
        self._loop.call_soon(self._again)

    def _again(self) -> None:
        """Decrypted bytes wait in the TLS layer, where the loop cannot see them."""
        if self._fd >= 0:
            self._readable()

    def _writable(self) -> None:
        self._step(self._client.loop_write)

    async def _every_second(self) -> None:
        while True:
            await asyncio.sleep(MISC_S)
            self._step(self._client.loop_misc)

    def _step(self, function: Callable[[], MQTTErrorCode]) -> bool:
        try:
            code = function()
        except _PARSER_ERRORS as e:
            self._end(
                BrokerError(LinkCode.PROTOCOL, f"{self._where}: the broker sent something that is not MQTT ({e})")
            )
            return False
        if code is MQTTErrorCode.MQTT_ERR_SUCCESS:
            return True
        failed = self._sock.failed
        if isinstance(failed, PacketError):
            self._end(BrokerError(LinkCode.PROTOCOL, f"{self._where}: {failed}"))
        elif failed is not None:
            self._end(tls_error(failed, self._where))
        else:
            self._end(BrokerError(LinkCode.LOST, f"{self._where}: {mqtt.error_string(code)}"))
        return False

    # ---- called by paho ---------------------------------------------------------------------------------------

    def _wants_write(self, _c: Any, _u: Any, _s: Any) -> None:
        if self._fd >= 0:
            self._loop.add_writer(self._fd, self._writable)

    def _wrote(self, _c: Any, _u: Any, _s: Any) -> None:
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)

    def _connected(self, _c: Any, _u: Any, flags: Any, reason: ReasonCode, _p: Any) -> None:
        if reason.is_failure:
            self._end(BrokerError(LinkCode.DENIED, f"{self._where}: the broker answers `{reason}`"))
        elif not self._opened.done():
            self._opened.set_result(bool(flags.session_present))

    def _disconnected(self, _c: Any, _u: Any, flags: Any, reason: ReasonCode, _p: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            taken = reason.value == _TAKEN_OVER
            code = LinkCode.TAKEN_OVER if taken else LinkCode.DENIED if reason.is_failure else LinkCode.LOST
            self._end(BrokerError(code, f"{self._where}: the broker ends the session: `{reason}`"))

    def _arrived(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        self._on_message(Message(message.topic, bytes(message.payload), bool(message.retain)))

    def _published(self, _c: Any, _u: Any, mid: int, _reason: ReasonCode, _p: Any) -> None:
        self._unanswered -= 1
        if self._leaving and mid == self._last:
            self._last_out.set()
        self._on_acknowledged(mid)
