"""Bounds what a broker may make the box read: MQTT frames are measured before their bytes are kept.

The broker is not trusted, and the MQTT library keeps whatever length a header announces (up to 256 MiB).
"""

from __future__ import annotations

from typing import Final

from vigie.link.errors import PacketError

PACKET_MAX: Final = 80 * 1024
"""The contract's largest message (64 KiB) with topic and properties."""
_LENGTH_BYTES_MAX: Final = 4
_PUBLISH: Final = 3
_QOS_1: Final = 0b0010
_QOS_2: Final = 0b0100
"""The library keeps each message of QoS 2 until the broker releases it: 65,535 of them, 4 GB."""


class PacketMeter:
    """Follows the fixed headers in a stream of MQTT packets (MQTT 5, 2.1)."""

    def __init__(self, most: int = PACKET_MAX) -> None:
        self._most = most
        self.published = 0  # messages that began, of QoS 1: each wants an answer
        self._left = 0  # bytes of the current packet's body still to come
        self._header = 0  # bytes of the fixed header seen so far
        self._length = 0

    def feed(self, data: bytes) -> None:
        """Bytes as they arrive. PacketError as soon as a header announces more than the most."""
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            byte = data[at]
            at += 1
            self._header += 1
            if self._header == 1:
                if byte >> 4 == _PUBLISH and byte & _QOS_2:
                    raise PacketError("the broker sent a message of QoS 2: nothing is subscribed to at QoS 2")
                self.published += byte >> 4 == _PUBLISH and bool(byte & _QOS_1)
                continue
            if self._header > 1 + _LENGTH_BYTES_MAX:
                raise PacketError("the broker sent a length of more than 4 bytes: not MQTT")
            self._length |= (byte & 0x7F) << (7 * (self._header - 2))
            if self._length > self._most:
                raise PacketError(f"the broker announced a packet of {self._length} bytes, at most {self._most}")
            if not byte & 0x80:
                self._left, self._length, self._header = self._length, 0, 0
