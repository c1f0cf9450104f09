"""Traffic that never stops, to see whether it is cut: an established connection that talks, an upload, datagrams."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from abc import ABC, abstractmethod
from types import TracebackType

from lab.netns import Namespace


class _Background(ABC):
    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def _run(self) -> None:
        """Until `_stop` is set."""

    def _end(self) -> None:
        self._stop.set()
        self._thread.join(10)


class Conversation(_Background):
    """An established TCP connection to an echo port: a word every `period` s, each must come back.

    `longest_gap_ms`: the longest time between two answers, which is how long traffic stood still.
    """

    def __init__(self, namespace: Namespace, address: str, port: int, period: float = 0.005) -> None:
        super().__init__("conversation")
        self.what = f"[{namespace.label}] conversation with {address} port {port}"
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._sock = namespace.socket(family, socket.SOCK_STREAM)
        self._sock.settimeout(10)
        self._sock.connect((address, port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._period = period
        self.answers = 0
        self.longest_gap_ms = 0.0
        self.error = ""
        self.ended_at = 0.0
        self._last = time.monotonic()

    def __enter__(self) -> Conversation:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._sock.close()

    def _run(self) -> None:
        self._last = time.monotonic()
        while not self._stop.wait(self._period):
            try:
                self._sock.sendall(b"vigie")
                if not self._sock.recv(4096):
                    raise ConnectionResetError(errno.ECONNRESET, "closed by the other end")
            except OSError as failure:
                self.ended_at = time.monotonic()
                self.error = f"{type(failure).__name__}: {failure}"
                return
            now = time.monotonic()
            self.longest_gap_ms = max(self.longest_gap_ms, (now - self._last) * 1000)
            self._last = now
            self.answers += 1

    def forget_gap(self) -> None:
        self.longest_gap_ms = 0.0

    def wait_cut(self, seconds: float) -> float:
        """When it was cut (monotonic s)."""
        self._thread.join(seconds)
        if not self.error:
            raise AssertionError(f"{self.what} must be cut within {seconds} s; {self.answers} answers, still going")
        return self.ended_at

    def must_live(self, longest_ms: float = 1000.0) -> str:
        """Still answered, and never stood still for longer; returns the evidence."""
        before = self.answers
        time.sleep(0.3)
        gap = f"longest gap {self.longest_gap_ms:.1f} ms"
        evidence = f"{self.what}: {self.answers} answers, {gap}, error {self.error or 'none'}"
        if self.error or self.answers == before or self.longest_gap_ms > longest_ms:
            raise AssertionError(f"must go on without a gap over {longest_ms:.0f} ms:\n{evidence}")
        return evidence


class Upload(_Background):
    """A camera that streams: sends as fast as allowed (paced) until something cuts it."""

    def __init__(self, namespace: Namespace, address: str, port: int, rate: int = 2_000_000) -> None:
        super().__init__("upload")
        self.what = f"[{namespace.label}] upload to {address} port {port}"
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._sock = namespace.socket(family, socket.SOCK_STREAM)
        self._sock.settimeout(10)
        self._sock.connect((address, port))
        self._chunk = bytes(max(1, rate // 200))
        self.sent = 0
        self.error = ""
        self.ended_at = 0.0

    def __enter__(self) -> Upload:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._sock.close()

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            try:
                self._sock.sendall(self._chunk)
                self.sent += len(self._chunk)
            except OSError as failure:
                self.ended_at = time.monotonic()
                self.error = f"{type(failure).__name__}: {failure}"
                return

    def wait_cut(self, seconds: float) -> float:
        """When it was cut (monotonic s)."""
        self._thread.join(seconds)
        if not self.error:
            raise AssertionError(f"{self.what} must be cut within {seconds} s; {self.sent} bytes sent, still going")
        return self.ended_at

    @property
    def evidence(self) -> str:
        return f"{self.what}: {self.sent} bytes sent, {self.error or 'still going'}"


class Datagrams(_Background):
    """UDP echo, one datagram every `period` s; counts what does not come back."""

    def __init__(self, namespace: Namespace, address: str, port: int, period: float = 0.002) -> None:
        super().__init__("datagrams")
        self.what = f"[{namespace.label}] datagrams to {address} port {port}"
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._sock = namespace.socket(family, socket.SOCK_DGRAM)
        self._sock.settimeout(0.2)
        self._sock.connect((address, port))
        self._period = period
        self.sent = self.answers = 0

    def __enter__(self) -> Datagrams:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._sock.close()

    def _run(self) -> None:
        while not self._stop.wait(self._period):
            with contextlib.suppress(OSError):
                self.sent += 1
                self._sock.send(self.sent.to_bytes(8, "big"))
                while int.from_bytes(self._sock.recv(64), "big") != self.sent:
                    continue
                self.answers += 1

    @property
    def evidence(self) -> str:
        return f"{self.what}: {self.sent} sent, {self.answers} came back"
