"""The daemon's side of the hold worker: starts it, reads its reports, starts it again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from vigie.filter.hold_protocol import READY, REPORT_MAX

log = logging.getLogger("vigie.filter")

REPORTS_AT_ONCE = 256
RESTART_S = (0.5, 1.0, 5.0, 30.0)
STEADY_S = 60.0


class HoldProcess:
    """Keeps one worker running. `on_reports` gets event records; `on_alive(bool)`: it works, or has ended."""

    def __init__(
        self, maps_dir: Path, on_reports: Callable[[Iterable[bytes]], None], on_alive: Callable[[bool], None]
    ) -> None:
        self._argv = [sys.executable, "-m", "vigie.filter.hold", str(maps_dir)]
        self._on_reports = on_reports
        self._on_alive = on_alive
        self._process: subprocess.Popen[bytes] | None = None
        self.alive = False

    async def keep_running(self) -> None:
        """Runs until cancelled."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            await self._run_once()
            failures = 0 if loop.time() - started > STEADY_S else failures + 1
            pause = RESTART_S[min(failures, len(RESTART_S)) - 1] if failures else 0.0
            log.warning("hold worker ended, started again in %.1f s", pause)
            await asyncio.sleep(pause)

    async def _run_once(self) -> None:
        loop = asyncio.get_running_loop()
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with mine, its:
            mine.setblocking(False)
            argv = [*self._argv, str(its.fileno()), str(os.getpid())]
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=(its.fileno(),))  # noqa: ASYNC220
            self._process = process
            its.close()
            ended = asyncio.Event()

            def readable() -> None:
                reports = []
                for _ in range(REPORTS_AT_ONCE):
                    try:
                        report = mine.recv(REPORT_MAX)
                    except BlockingIOError:
                        break
                    except OSError:
                        report = b""
                    if not report:
                        loop.remove_reader(mine.fileno())
                        ended.set()
                        break
                    if report == READY:
                        self._set_alive(True)
                    else:
                        reports.append(report)
                if reports:
                    self._on_reports(reports)

            loop.add_reader(mine.fileno(), readable)
            try:
                await ended.wait()
            finally:
                self._set_alive(False)
                with contextlib.suppress(ValueError):
                    loop.remove_reader(mine.fileno())
                self._reap(process)

    def _set_alive(self, alive: bool) -> None:
        if alive != self.alive:
            self.alive = alive
            self._on_alive(alive)

    @staticmethod
    def _reap(process: subprocess.Popen[bytes]) -> None:
        """Ends and collects the worker: it has nothing to lose."""
        process.kill()
        process.wait()
