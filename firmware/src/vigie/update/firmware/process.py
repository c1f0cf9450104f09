"""`vigie update run` as a process: turns, requests of the mairie at a socket, systemd's watchdog."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from vigie.errors import HostError
from vigie.host.systemd import Watchdog, notify
from vigie.update.boot.opening import Said
from vigie.update.firmware.service import Firmware
from vigie.update.service import listen

log = logging.getLogger("vigie.firmware")

SOCKET: Final = "firmware.sock"
TURN_S: Final = 10.0
_LINES_MAX: Final = 16


class Stopping(Exception):
    """The service is to end in the middle of an installation. RAUC goes on; the next start waits for it."""


class Service:
    """The process: turns, requests at the socket, systemd's watchdog."""

    def __init__(self, path: Path, slots: Callable[[], Said | None]) -> None:
        self._path = path
        self._slots = slots
        self._ending = threading.Event()
        self._watchdog = Watchdog()
        self._wake, self._awake = socket.socketpair()

    def alive(self) -> None:
        """To be called in work that takes long. Stopping when the service is to end."""
        self._watchdog.turn()
        if self._ending.is_set():
            raise Stopping

    def stop(self) -> None:
        """Ends the loop; from a signal handler or another thread."""
        self._ending.set()
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def run(self, firmware: Firmware) -> int:
        """Until `stop`; the exit code."""
        sock = listen(self._path / SOCKET)
        try:
            while not self._ending.is_set() and self._slots() is None:
                self._wait(sock, None)  # root has not said yet which slot runs
            started = False
            while not self._ending.is_set():
                try:
                    if not started:
                        firmware.start()
                        started = True
                    firmware.turn()
                except HostError as e:
                    log.error("%s", e)  # a disk that takes nothing: nothing is begun, it is tried again
                self._wait(sock, firmware)
        except Stopping:
            log.warning("stopped during an installation; RAUC goes on with it")
        finally:
            for one in (sock, self._wake, self._awake):
                one.close()
            (self._path / SOCKET).unlink(missing_ok=True)
        return 0

    def _wait(self, sock: socket.socket, firmware: Firmware | None) -> None:
        self._watchdog.turn()
        ready, _, _ = select.select([sock, self._awake], [], [], TURN_S)
        if sock in ready:
            for _ in range(_LINES_MAX):
                try:
                    data, who = sock.recvfrom(64)
                except BlockingIOError:
                    return
                self._answer(sock, data, who, firmware)

    def _answer(self, sock: socket.socket, data: bytes, who: Any, firmware: Firmware | None) -> None:
        """`postpone SECONDS` and `resume`; the answer is `yes` or `no`."""
        word, _, number = data.decode("ascii", "replace").partition(" ")
        good = False
        if firmware is not None and (word == "resume" or (word == "postpone" and number.isdigit())):
            try:
                good = firmware.postpone(float(number) if word == "postpone" else 0.0)
            except HostError as e:
                log.error("%s", e)
        if who:
            with contextlib.suppress(OSError):
                sock.sendto(b"yes" if good else b"no", who)


def ask(path: Path, text: str, seconds: float = 10.0) -> bool | None:
    """The service's answer to a request; None when it does not answer (an installation may be under way)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(seconds)
        try:
            sock.bind(f"\0vigie-update-{os.getpid()}")
            sock.sendto(text.encode("ascii"), str(path / SOCKET))
            return sock.recv(16) == b"yes"
        except OSError:
            return None


def main(make: Callable[[Service], Firmware], path: Path, slots: Callable[[], Said | None]) -> int:
    """The service as a process: SIGTERM and SIGINT end it."""
    service = Service(path, slots)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    notify("READY=1")
    return service.run(make(service))
