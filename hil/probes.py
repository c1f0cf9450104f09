"""Traffic through the board, from the machine that runs `make hil`, when it sits behind one of the board's ports."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final, Self

_TRY_S: Final = 3.0
_EAGER_S: Final = 0.25


class ProbeError(Exception):
    """An address on the command line is no address."""


def parse(text: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port`. ProbeError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536 or not host:
        raise ProbeError(f"{text}: ADDRESS:PORT is expected")
    return host.strip("[]"), int(port)


def connects(target: tuple[str, int], seconds: float = _TRY_S) -> bool:
    """Whether a TCP connection comes about."""
    with contextlib.suppress(OSError), socket.create_connection(target, timeout=seconds):
        return True
    return False


class Leaks:
    """Tries a toxic address again and again while the board starts. `count`: how often it was reached."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.count = 0
        self._target = target
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.is_set():
            if connects(self._target, _EAGER_S):
                self.count += 1
            self._stop.wait(0.02)
