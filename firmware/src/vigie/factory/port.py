"""The serial console as a byte pipe: raw, 115200 baud, non-blocking."""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from vigie.errors import HostError

_WRITE_S: Final = 5.0


class Port:
    """An open terminal. What cannot be written within five seconds (nobody listens to a flow-controlled line) is
    dropped: the station asks again."""

    def __init__(self, path: Path) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as e:
            raise HostError(f"{path}: cannot be opened ({e.strerror}); is it the serial console?") from e
        try:
            tty.setraw(self._fd, termios.TCSANOW)
            attributes = termios.tcgetattr(self._fd)
            attributes[4] = attributes[5] = termios.B115200
            attributes[2] |= termios.CLOCAL | termios.CREAD
            termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
        except termios.error as e:
            os.close(self._fd)
            raise HostError(f"{path}: not a terminal ({e})") from e
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def read(self, wait: float) -> bytes:
        """What came within `wait` seconds. HostError when the line is gone."""
        try:
            if not select.select([self._fd], [], [], wait)[0]:
                return b""
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return b""
        except OSError as e:
            raise HostError(f"{self.path}: cannot be read ({e.strerror})") from e
        if not data:
            raise HostError(f"{self.path}: hung up")
        return data

    def write(self, data: bytes) -> None:
        """HostError when the line is gone."""
        end = time.monotonic() + _WRITE_S
        while data and time.monotonic() < end:
            try:
                if select.select([], [self._fd], [], 0.5)[1]:
                    data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                continue
            except OSError as e:
                raise HostError(f"{self.path}: cannot be written ({e.strerror})") from e

    def drain(self) -> None:
        """Returns when the last byte has left."""
        termios.tcdrain(self._fd)
