"""One conversation with rtnetlink through pyroute2, from plain code or from inside an event loop."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from vigie.errors import LinkError

T = TypeVar("T")

HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
REPLY_BYTES: Final = 65536
_NLM_F_REQUEST_ACK: Final = 0x5
_TIMEOUT_S: Final = 5.0


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def converse(what: str, action: Callable[[Any], T]) -> T:
    """`action(IPRoute)` in the calling thread's network namespace; LinkError says `what` was refused and why.

    pyroute2 drives an event loop of its own, which cannot run inside another: called from a coroutine, the action
    runs in a short thread (which inherits the namespace), and the loop waits for it, a few milliseconds.
    """

    def talk() -> T:
        with IPRoute() as ip:
            return action(ip)

    try:
        return _in_thread(talk) if _in_event_loop() else talk()
    except NetlinkError as e:
        code = int(e.code or 0)
        hint = ": root (CAP_NET_ADMIN) is needed" if code == 1 else ""
        raise LinkError(f"{what}: {os.strerror(code)}{hint}", code) from e
    except OSError as e:
        raise LinkError(f"{what}: {e.strerror or e}", e.errno or 0) from e


def _in_thread(function: Callable[[], T]) -> T:
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(function())
        except BaseException as e:  # noqa: BLE001 - raised again by the caller's thread
            failure.append(e)

    thread = threading.Thread(target=run, name="netlink")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def dialogue() -> socket.socket:
    """A plain rtnetlink socket, for the few messages that pyroute2 does not speak."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    sock.settimeout(_TIMEOUT_S)
    return sock


def error_of(body: bytes) -> int:
    """errno in the body of an NLMSG_ERROR message; 0 is an acknowledgement."""
    return -int.from_bytes(body[:4], sys.byteorder, signed=True)


def command(what: str, kind: int, body: bytes) -> None:
    """Send one message of type `kind` and wait for its acknowledgement; LinkError says `what` was refused and why."""
    message = HEADER.pack(HEADER.size + len(body), kind, _NLM_F_REQUEST_ACK, 1, 0) + body
    try:
        with dialogue() as sock:
            sock.send(message)
            reply = sock.recv(REPLY_BYTES)
    except OSError as e:
        raise LinkError(f"{what}: {e.strerror or e}", e.errno or 0) from e
    if len(reply) < HEADER.size + 4 or HEADER.unpack_from(reply)[1] != NLMSG_ERROR:
        raise LinkError(f"{what}: the kernel's answer is not an acknowledgement")
    code = error_of(reply[HEADER.size :])
    if code:
        raise LinkError(f"{what}: {os.strerror(code)}", code)
