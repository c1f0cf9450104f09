"""One conversation with rtnetlink through pyroute2, from plain code or from inside an event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from vigie.errors import LinkError

T = TypeVar("T")


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
