"""`vigie update base run`: looks when told, when it has not looked for long, and again after a failure."""

from __future__ import annotations

import contextlib
import logging
import random
import select
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Final

from vigie.errors import HostError
from vigie.host.boxconfig import BoxConfig, UpdateIntervals
from vigie.host.systemd import Watchdog, notify

from .base import BaseUpdate
from .codes import FINE, Code

log = logging.getLogger("vigie.update")

SOCKET: Final = "update.sock"
LOOK: Final = b"look"
#: How often a box that is not enrolled looks whether it is.
ENROLLED_S: Final = 0.5
#: A wait is cut into pieces of this length, for systemd's watchdog.
TURN_S: Final = 30.0
_DOUBLINGS_MAX: Final = 20
_POLL_SPREAD: Final = 0.1


def after_failure(times: UpdateIntervals, rnd: random.Random, tries: int) -> float:
    """Full jitter: U(0, min(most, first * 2^tries)) seconds."""
    return rnd.uniform(0.0, min(times.most_s, times.first_s * 2.0 ** min(tries, _DOUBLINGS_MAX)))


def until_poll(times: UpdateIntervals, rnd: random.Random) -> float:
    """The next look without an announcement, spread so that a fleet does not come as one."""
    return times.poll_s * rnd.uniform(1 - _POLL_SPREAD, 1 + _POLL_SPREAD)


class Service:
    """The loop. `stop` ends it from another thread or a signal handler."""

    def __init__(self, config: BoxConfig, update: BaseUpdate, rnd: random.Random | None = None) -> None:
        self._times = config.intervals.update
        self._path = config.paths.run_update / SOCKET
        self._update = update
        self._rnd = rnd or random.Random()
        self._ending = threading.Event()
        self._watchdog = Watchdog()
        self._wake, self._awake = socket.socketpair()

    def run(self) -> int:
        """Until `stop`; the exit code."""
        sock = listen(self._path)
        tries = 0
        try:
            while not self._ending.is_set():
                code = self._look()
                if code is Code.NOT_ENROLLED:
                    self._wait_for_enrolment(sock)
                    continue
                tries = 0 if code in FINE else tries + 1
                wait = until_poll(self._times, self._rnd) if not tries else after_failure(self._times, self._rnd, tries)
                if self._told(sock, wait) and self._times.spread_s:
                    self._ending.wait(self._rnd.uniform(0.0, self._times.spread_s))
                    drain(sock)
        finally:
            for one in (sock, self._wake, self._awake):
                one.close()
            self._path.unlink(missing_ok=True)
        return 0

    def stop(self) -> None:
        """Ends the loop after the look under way."""
        self._ending.set()
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def _wait_for_enrolment(self, sock: socket.socket) -> None:
        """A box that has just been enrolled should not wait an hour for its base."""
        while not self._ending.is_set() and not self._update.enrolled():
            self._told(sock, ENROLLED_S)

    def _look(self) -> Code:
        try:
            return Code(self._update.look().code)
        except HostError as e:
            log.error("%s", e)
            return Code.DISK

    def _told(self, sock: socket.socket, seconds: float) -> bool:
        """Waits for an announcement; True when one came."""
        end = time.monotonic() + seconds
        while not self._ending.is_set():
            self._watchdog.turn()
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([sock, self._awake], [], [], min(left, TURN_S))
            if ready or left <= TURN_S:
                return bool(sock in ready and drain(sock))
        return False


def listen(path: Path) -> socket.socket:
    """The datagram socket at which the link says "look"; its group may write. Raises HostError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        path.chmod(0o660)
    except OSError as e:
        sock.close()
        raise HostError(f"{path}: cannot listen there ({e.strerror})") from e
    return sock


def drain(sock: socket.socket) -> bool:
    """Reads what came; True when a "look" was among it. Announcements that came together are one."""
    told = False
    with contextlib.suppress(BlockingIOError):
        for _ in range(1000):
            told |= sock.recv(64) == LOOK
    return told


def main(config: BoxConfig, update: BaseUpdate) -> int:
    """The service as a process: SIGTERM and SIGINT end it."""
    service = Service(config, update)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    notify("READY=1")
    return service.run()
