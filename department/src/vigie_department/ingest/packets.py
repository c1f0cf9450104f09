"""MQTT 5 as the ingest's session needs it: packets to bytes, bytes to packets. Pure.

Only the two packets that come by the thousand, PUBLISH and PUBACK, are read and written here by hand; properties and
reasons of the others are left to paho-mqtt, whose whole client costs ten times as much for each message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from vigie_department.errors import DepartmentError

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT = 0x20, 0x30, 0x40, 0x90, 0xD0, 0xE0
PINGREQ: Final = b"\xc0\x00"
LEAVE: Final = b"\xe0\x00"
"""a DISCONNECT for good: the broker keeps the session, as CONNECT asked"""
PACKET_MAX: Final = 80 * 1024
"""the broker's own bound is 64 KiB"""
_DUP: Final = 0x08
_CLEAN_START: Final = 0x02
_PACKETS: Final = {CONNACK: PacketTypes.CONNACK, SUBACK: PacketTypes.SUBACK, PUBACK: PacketTypes.PUBACK}
_PACKETS[DISCONNECT] = PacketTypes.DISCONNECT


class PacketError(DepartmentError):
    """What the broker sent is not MQTT, or not what was agreed: the session ends and begins again."""


@dataclass(slots=True, frozen=True)
class Message:
    """A PUBLISH. `mid` is 0 at QoS 0."""

    topic: str
    payload: bytes
    qos: int
    mid: int


@dataclass(slots=True, frozen=True)
class Answer:
    """`packet`, one of CONNACK, SUBACK, PUBACK, DISCONNECT: what the broker says to something of ours. `mid`: 0 where
    there is none."""

    packet: int
    mid: int
    reason: str
    failed: bool
    session: bool = False
    """CONNACK: it has kept our session"""
    receive_maximum: int = 65535
    keepalive_s: int | None = None


class Splitter:
    """Cuts a stream into packets."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """First byte and body of each packet that is complete. PacketError when one is too large."""
        data = self._left + data if self._left else data
        at, end = 0, len(data)
        while end - at >= 2:
            length, place = data[at + 1], at + 2
            if length & 0x80:
                length &= 0x7F
                for shift in (7, 14, 21, 28):
                    if shift == 28:
                        raise PacketError("the broker sent a length of more than 4 bytes: not MQTT")
                    if place >= end:
                        break
                    byte = data[place]
                    place += 1
                    length |= (byte & 0x7F) << shift
                    if not byte & 0x80:
                        break
                if data[place - 1] & 0x80:
                    break
            if length > PACKET_MAX:
                raise PacketError(f"the broker announced a packet of {length} bytes, at most {PACKET_MAX}")
            if end - place < length:
                break
            yield data[at], data[place : place + length]
            at = place + length
        self._left = data[at:]


def message(first: int, body: bytes) -> Message:
    """A PUBLISH as received."""
    qos = first >> 1 & 3
    try:
        at = 2 + (body[0] << 8 | body[1])
        topic = body[2:at]
        mid = 0
        if qos:
            mid = body[at] << 8 | body[at + 1]
            at += 2
        size = body[at]
        at += 1
        if size & 0x80:
            size, at = _length(body, at - 1)
        at += size
    except IndexError:
        raise PacketError("the broker sent a message that ends before its end") from None
    if qos > 1 or at > len(body):
        raise PacketError("the broker sent a message of QoS 2, or one that ends before its end")
    return Message(topic.decode("utf-8", "replace"), body[at:], qos, mid)


def answer(first: int, body: bytes) -> Answer:
    """CONNACK, SUBACK, PUBACK or DISCONNECT. PacketError when it is none."""
    top = first & 0xF0
    try:
        match top:
            case 0x20:
                found = _properties(top, body[2:])
                said = _reason(top, body[1])
                return Answer(
                    top,
                    0,
                    *said,
                    session=bool(body[0] & 1),
                    receive_maximum=int(getattr(found, "ReceiveMaximum", 65535)),
                    keepalive_s=getattr(found, "ServerKeepAlive", None),
                )
            case 0x40:
                return Answer(top, body[0] << 8 | body[1], *_reason(top, body[2] if len(body) > 2 else 0))
            case 0x90:
                size, at = _length(body, 2)
                reasons = [_reason(top, code) for code in body[at + size :]]
                failed = [name for name, bad in reasons if bad]
                if not reasons:
                    raise PacketError("the broker answered a subscription with nothing")
                return Answer(top, body[0] << 8 | body[1], ", ".join(failed or [reasons[0][0]]), bool(failed))
            case 0xE0:
                return Answer(top, 0, _reason(top, body[0])[0] if body else "Normal disconnection", True)
    except PacketError:
        raise
    except Exception as error:
        # paho's readers raise whatever comes
        raise PacketError(f"the broker sent a packet {top:#x} that cannot be read ({error})") from error
    raise PacketError(f"the broker sent a packet {top:#x}, which is not its to send")


def connect(client: str, keepalive_s: int, session_s: int, window: int) -> bytes:
    """CONNECT without a clean start: messages that came while we were away are waiting."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session_s
    properties.ReceiveMaximum = window
    body = _text("MQTT") + bytes([5, 0]) + struct.pack("!H", keepalive_s) + properties.pack() + _text(client)  # type: ignore[no-untyped-call]
    return _packet(0x10, body)


def subscribe(mid: int, topic: str) -> bytes:
    """SUBSCRIBE to one filter at QoS 1."""
    return _packet(0x82, struct.pack("!HB", mid, 0) + _text(topic) + b"\x01")


def publish(
    topic: str, payload: bytes, mid: int, *, retain: bool = False, properties: Properties | None = None
) -> bytes:
    """PUBLISH: at QoS 1, or at QoS 0 when `mid` is 0."""
    first = PUBLISH | (0x02 if mid else 0) | (0x01 if retain else 0)
    number = struct.pack("!H", mid) if mid else b""
    packed = properties.pack() if properties is not None else b"\0"  # type: ignore[no-untyped-call]
    return _packet(first, _text(topic) + number + packed + payload)


def again(packet: bytes) -> bytes:
    """The same PUBLISH, sent a second time in one session."""
    return bytes([packet[0] | _DUP]) + packet[1:]


def acknowledged(mids: list[int]) -> bytes:
    """A PUBACK for each."""
    count = len(mids)
    # 4 bytes each: type, length 2, identifier; no reason means success
    return struct.pack("!" + "HH" * count, *(word for mid in mids for word in (0x4002, mid)))


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def _packet(first: int, body: bytes) -> bytes:
    head, left = bytearray([first]), len(body)
    while True:
        head.append(left & 0x7F | (0x80 if left > 0x7F else 0))
        left >>= 7
        if not left:
            return bytes(head) + body


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A variable length and the place after it. IndexError when the data ends."""
    value = 0
    for shift in (0, 7, 14, 21):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise PacketError("the broker sent a length of more than 4 bytes: not MQTT")


def _reason(top: int, code: int) -> tuple[str, bool]:
    found = ReasonCode(_PACKETS[top], identifier=code)
    return str(found), bool(found.is_failure)


def _properties(top: int, data: bytes) -> Properties:
    found = Properties(_PACKETS[top])  # type: ignore[no-untyped-call]
    found.unpack(data)  # type: ignore[no-untyped-call]
    return found
