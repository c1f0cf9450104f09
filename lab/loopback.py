"""A place without a network of its own: servers of a test on the loopback, with the same words as a namespace."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from lab.leftovers import TEMP_PREFIX, remove_temp
from lab.netns import Process, Result


class Place(Protocol):
    """Where servers run: a `Namespace` of the lab, or a `Loopback`."""

    def start(self, label: str, *argv: str) -> Process:
        """A process that lives until stopped."""

    def run(self, *argv: str, timeout: float = 20.0, stdin: str = "") -> Result:
        """A command, to its end."""


class Loopback:
    """Context manager: a temporary folder and processes, all gone at its end."""

    def __init__(self) -> None:
        self.temp = Path()
        self.processes: list[Process] = []

    def __enter__(self) -> Loopback:
        self.temp = Path(tempfile.mkdtemp(prefix=f"{TEMP_PREFIX}{os.getpid()}-"))
        self.temp.chmod(0o755)  # servers that give up root enter it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self.processes):
            process.stop(5.0)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        remove_temp(self.temp, keep=False)

    def run(self, *argv: str, timeout: float = 20.0, stdin: str = "") -> Result:
        """Run to the end; never raises for an exit code."""
        start = time.monotonic()
        try:
            done = subprocess.run(
                argv, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
            )
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            code, out, err = 124, "", f"no end after {timeout} s"
        return Result("loopback", argv, code, out, err, time.monotonic() - start)

    def start(self, label: str, *argv: str) -> Process:
        """Its output goes to a file; it dies with this process."""
        log = self.temp / f"{label}.log"
        guarded = ["setpriv", "--pdeathsig", "KILL", "--", *argv]
        with log.open("ab") as sink:
            popen = subprocess.Popen(
                guarded, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )
        process = Process(label, argv, popen, log)
        self.processes.append(process)
        return process


def as_user(uid: int | None, argv: Sequence[str]) -> list[str]:
    """argv under another user id, with no privilege left. Only root can; None changes nothing."""
    if uid is None:
        return list(argv)
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all", "--", *argv]


def free_ports(count: int) -> list[int]:
    """Free TCP ports of the loopback. Another process may take one before it is used: try again then."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [sock.getsockname()[1] for sock in held]
    finally:
        for sock in held:
            sock.close()


def tool(name: str) -> str:
    """A command of the same virtual environment as this program."""
    return str(Path(sys.executable).parent / name)
