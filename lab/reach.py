"""Probes in words of intent: must reach, must not reach, must be refused at once. Each failure carries its evidence."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.EACCES, errno.EPIPE}


@dataclass(frozen=True, slots=True)
class Probe:
    """One attempt. `outcome` is "reached", "refused" or "silence"; `ms` how long it took."""

    where: str
    what: str
    outcome: str
    detail: str
    ms: float

    @property
    def evidence(self) -> str:
        return f"[{self.where}] {self.what} -> {self.outcome} ({self.detail}) after {self.ms:.1f} ms"


class Reach:
    """Mixed into a namespace."""

    label: str
    entered: Callable[[], AbstractContextManager[None]]
    run: Callable[..., Any]

    def probe(self, address: str, port: int | None = None, proto: str = "tcp", timeout: float = 1.0) -> Probe:
        """One attempt: ping without a port, a TCP connection, or a UDP datagram that wants an answer."""
        if port is None:
            return self._ping(address, timeout)
        return self._connect(address, port, proto, timeout)

    def must_reach(
        self, address: str, port: int | None = None, proto: str = "tcp", within: float = 5.0, timeout: float = 1.0
    ) -> Probe:
        """Succeeds at least once before `within` seconds are over."""
        deadline = time.monotonic() + within
        while True:
            probe = self.probe(address, port, proto, timeout)
            if probe.outcome == "reached":
                return probe
            if time.monotonic() > deadline:
                raise AssertionError(f"must reach {address}, does not for {within} s:\n{probe.evidence}")
            time.sleep(0.05)

    def must_not_reach(
        self, address: str, port: int | None = None, proto: str = "tcp", attempts: int = 2, timeout: float = 1.0
    ) -> Probe:
        for _ in range(attempts):
            probe = self.probe(address, port, proto, timeout)
            if probe.outcome == "reached":
                raise AssertionError(f"must not reach {address}, but does:\n{probe.evidence}")
        return probe

    def must_refuse_fast(self, address: str, port: int, proto: str = "tcp", within: float = 1.0) -> Probe:
        """Told at once (RST or ICMP), instead of waiting for a time-out."""
        probe = self.probe(address, port, proto, within)
        if probe.outcome != "refused":
            raise AssertionError(f"must be refused within {within} s, is not:\n{probe.evidence}")
        return probe

    def _ping(self, address: str, timeout: float) -> Probe:
        result = self.run("ping", "-n", "-c", "1", "-W", f"{timeout:g}", address, timeout=timeout + 3)
        outcome = "reached" if result.code == 0 else "silence"
        if result.code != 0 and ("prohibited" in result.out or "filtered" in result.out):
            outcome = "refused"
        said = " ".join(result.out.split())
        return Probe(self.label, f"ping {address}", outcome, said[-160:], result.seconds * 1000)

    def _connect(self, address: str, port: int, proto: str, timeout: float) -> Probe:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
        what = f"{proto} {address} port {port}"
        with self.entered():
            sock = socket.socket(family, kind)
        start = time.monotonic()
        with sock:
            sock.settimeout(timeout)
            try:
                sock.connect((address, port))
                detail = "connected"
                if proto == "udp":
                    sock.send(b"vigie-lab?")
                    detail = f"answered {len(sock.recv(2048))} bytes"
                outcome = "reached"
            except TimeoutError:
                outcome, detail = "silence", "no answer"
            except OSError as error:
                outcome = "refused" if error.errno in REFUSED else "silence"
                detail = f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}"
        return Probe(self.label, what, outcome, detail, (time.monotonic() - start) * 1000)
