"""Telling a running mosquitto: read your files again; end that session.

Mosquitto offers no way to end a session of somebody else. But a client that connects with the same client id takes
the session over (MQTT 5, 3.1.4-3): the broker closes the other connection at once, and since the newcomer asks for a
clean start and leaves, the session's subscriptions and queue go too. On the network the client id is the certificate's
name, so nobody can do that; on the control socket, in a folder that only the broker's user may enter, `broker watch`
can.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from vigie_department.broker.errors import BrokerError
from vigie_department.broker.plan import CONTROL_USER

TIMEOUT_S: Final = 5.0
_CONNECT, _CONNACK, _DISCONNECT = 0x10, 0x20, 0xE0
_CLEAN_WITH_USER_AND_PASSWORD: Final = 0b1100_0010
_MAX_ANSWER: Final = 256


class NotRunningError(BrokerError):
    """Nobody listens on the control socket. A mosquitto that starts later reads the files as they are then."""


class Control:
    """`socket_path` and `password` as `broker configure` made them."""

    def __init__(self, socket_path: Path, password: bytes) -> None:
        self._path = socket_path
        self._password = password

    def reload(self) -> int:
        """SIGHUP to the process that listens on the control socket; returns its pid. Raises NotRunningError."""
        with self._connected() as sock:
            pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if pid <= 1:
            raise BrokerError(f"{self._path}: the kernel does not say who listens there (another pid namespace?)")
        try:
            os.kill(pid, signal.SIGHUP)
        except ProcessLookupError as error:
            raise NotRunningError(f"{self._path}: the broker ended meanwhile") from error
        except PermissionError as error:
            raise BrokerError(f"process {pid} (user {uid}): run this as the broker's user") from error
        return int(pid)

    def cut(self, box: str) -> None:
        """No session with this client id is left afterwards. Raises NotRunningError, BrokerError."""
        with self._connected() as sock:
            try:
                sock.sendall(_connect(box, self._password))
                reason = _reason(sock)
                if reason != 0:
                    raise BrokerError(f"{self._path}: mosquitto refused to take over {box}, reason {reason:#04x}")
                sock.sendall(bytes([_DISCONNECT, 0]))
                # Its end of the connection: the session is gone by then.
                while sock.recv(_MAX_ANSWER):
                    pass
            except OSError as error:
                raise BrokerError(f"{self._path}: {error.strerror or error} while taking over {box}") from error

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT_S)
            try:
                sock.connect(str(self._path))
            except (FileNotFoundError, ConnectionRefusedError) as error:
                raise NotRunningError(f"{self._path}: mosquitto is not running") from error
            except OSError as error:
                raise BrokerError(f"{self._path}: {error.strerror or error}") from error
            yield sock


def _field(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def _connect(client: str, password: bytes) -> bytes:
    """CONNECT of MQTT 5: clean start, no properties (so no session after it), user name and password."""
    body = _field(b"MQTT") + bytes([5, _CLEAN_WITH_USER_AND_PASSWORD]) + struct.pack("!H", 30) + b"\0"
    body += _field(client.encode()) + _field(CONTROL_USER.encode()) + _field(password)
    if len(body) > 0x7F:
        raise BrokerError(f"{client[:40]!r} is too long for a client id")
    return bytes([_CONNECT, len(body)]) + body


def _reason(sock: socket.socket) -> int:
    """Reason code of the CONNACK."""
    data = b""
    while len(data) < 4:
        chunk = sock.recv(_MAX_ANSWER)
        if not chunk:
            raise BrokerError("mosquitto closed the control connection without an answer")
        data += chunk
    if data[0] != _CONNACK:
        raise BrokerError(f"mosquitto answered packet type {data[0]:#04x} to CONNECT")
    return data[3]
