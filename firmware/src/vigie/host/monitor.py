"""Notice of changes to devices, addresses, routes and neighbours, as an async iterator.

A message only says what kind of thing changed on which device: the reader looks again with `Net`. So a message lost
when the socket's buffer overflows costs nothing: the loss itself is told, as OVERFLOW.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

from vigie.errors import LinkError


class What(StrEnum):
    """Kinds of things that change."""

    LINK = "link"
    ADDRESS = "address"
    ROUTE = "route"
    NEIGHBOUR = "neighbour"
    FDB = "fdb"
    OVERFLOW = "overflow"


@dataclass(frozen=True, slots=True)
class Change:
    """ifindex: the device, 0 where a message names none (routes). gone: removed rather than new or changed."""

    what: What
    ifindex: int
    gone: bool = False


# include/uapi/linux/rtnetlink.h: message types, and groups as bits of sockaddr_nl.
_HEADER: Final = struct.Struct("=IHHII")
_TYPES: Final = {
    16: (What.LINK, False), 17: (What.LINK, True), 20: (What.ADDRESS, False), 21: (What.ADDRESS, True),
    24: (What.ROUTE, False), 25: (What.ROUTE, True), 28: (What.NEIGHBOUR, False), 29: (What.NEIGHBOUR, True),
}  # fmt: skip
_INDEX_AT: Final = {What.LINK: 4, What.ADDRESS: 4, What.NEIGHBOUR: 4}
_GROUPS: Final = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400  # link, neighbour, addresses and routes of IPv4 and IPv6
_AF_BRIDGE: Final = 7
_BUFFER: Final = 1 << 20


def parse(data: bytes) -> Iterator[Change]:
    """The changes told by one datagram of the kernel; stops at a malformed message."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind = _HEADER.unpack_from(data, at)[:2]
        if length < _HEADER.size or at + length > len(data):
            return
        body = data[at + _HEADER.size : at + length]
        if kind in _TYPES and body:
            what, gone = _TYPES[kind]
            offset = _INDEX_AT.get(what)
            index = struct.unpack_from("=i", body, offset)[0] if offset is not None and len(body) >= offset + 4 else 0
            if body[0] == _AF_BRIDGE:
                what = {What.NEIGHBOUR: What.FDB}.get(what, what)
            yield Change(what, index, gone)
        at += (length + 3) & ~3


class Monitor:
    """`async with Monitor() as changes: async for change in changes: ...`; subscribes when made, so that nothing
    between a first look and the first message is missed."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.bind((0, _GROUPS))
        except OSError as e:
            raise LinkError(f"watching network changes: {e.strerror}", e.errno or 0) from e

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """For select: readable when something changed."""
        return self._socket.fileno()

    def pending(self) -> list[Change]:
        """What has changed since the last look; never waits."""
        found: list[Change] = []
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return found
            except OSError as e:
                if e.errno != errno.ENOBUFS:
                    raise LinkError(f"watching network changes: {e.strerror}", e.errno or 0) from e
                found.append(Change(What.OVERFLOW, 0))
                continue
            found.extend(parse(data))

    def close(self) -> None:
        """Stop watching."""
        self._socket.close()

    async def __aiter__(self) -> AsyncIterator[Change]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(self._socket, 65536)
            except OSError as e:
                if e.errno != errno.ENOBUFS:
                    raise LinkError(f"watching network changes: {e.strerror}", e.errno or 0) from e
                yield Change(What.OVERFLOW, 0)
                continue
            for change in parse(data):
                yield change
