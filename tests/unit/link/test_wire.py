"""A broker that means harm, at the other end of a plain socket: what it makes the box keep is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.unit.link.test_pure import packet
from vigie.contract.topics import announcement
from vigie.contract.words import Look
from vigie.link.codes import LinkCode
from vigie.link.errors import BrokerError
from vigie.link.wire import OWED_MAX, Message, Session, Will

BOX = "vg-" + "a" * 16
CONNACK = bytes([0x20, 3, 0, 0, 0])
TOPIC = announcement(Look.BASE).encode()


def publish(qos: int, ident: int, payload: bytes = b"{}") -> bytes:
    body = struct.pack(">H", len(TOPIC)) + TOPIC + struct.pack(">H", ident) + b"\0" + payload
    return packet(body, 0x30 | qos << 1)


class PlainSocket:
    """A TCP socket with the one method that a TLS socket has besides."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def pending(self) -> int:
        return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@contextmanager
def broker(said: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """Listens, answers CONNECT, and goes on as `said`; it never reads again."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    done = threading.Event()

    def serve() -> None:
        peer, _address = listener.accept()
        peer.settimeout(10)
        with peer, contextlib.suppress(OSError):
            peer.recv(65536)
            peer.sendall(CONNACK)
            said(peer)
            done.wait(10)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        done.set()
        thread.join(20)
        listener.close()


def ended(address: tuple[str, int]) -> tuple[BrokerError, list[Message]]:
    """Opens a session and waits for its end."""
    got: list[Message] = []

    async def story() -> BrokerError:
        sock = socket.create_connection(address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        session = Session(BOX, got.append, lambda _mid: None)
        plain: Any = PlainSocket(sock)
        will = Will(f"vigie/v1/{BOX}/up/state", b"{}")
        try:
            await session.open(plain, will, "broker", keepalive_s=60, expiry_s=1, timeout_s=10)
        except BrokerError as e:
            return e
        async with asyncio.timeout(30):
            return await session.ended()

    return asyncio.run(story()), got


def test_answers_that_nobody_reads() -> None:
    """It sends on and never reads: its buffers are full of acknowledgements, then the box keeps OWED_MAX of them."""

    def flood(peer: socket.socket) -> None:
        for _ in range(100):
            peer.sendall(b"".join(publish(1, ident) for ident in range(1, 1001)))

    with broker(flood) as address:
        why, got = ended(address)
    assert why.code is LinkCode.PROTOCOL and "without reading" in str(why)
    assert OWED_MAX <= len(got) < 100_000


@pytest.mark.parametrize("count", [1, 50])
def test_messages_that_the_library_would_keep(count: int) -> None:
    with broker(lambda peer: peer.sendall(b"".join(publish(2, i + 1, b"x" * 50_000) for i in range(count)))) as address:
        why, got = ended(address)
    assert why.code is LinkCode.PROTOCOL and "QoS 2" in str(why) and not got
