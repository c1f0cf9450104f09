"""Power, off and on: by a relay on a serial port, by a command, or by a person."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable
from typing import Final, Protocol

import serial

OFF_S: Final = 3.0
"""Long enough for the capacitors of a power supply."""


class RelayError(Exception):
    """The relay did not do what it was told. The message says which, and what to check."""


class Relay(Protocol):
    """Switches the board's power."""

    name: str

    def cycle(self) -> None:
        """Off, a pause, on. RelayError."""


class SerialRelay:
    """A USB relay of the kind that is a CH340 serial port (LCUS-1): A0, channel, state, sum of the three."""

    def __init__(self, port: str, channel: int = 1, pause: float = OFF_S) -> None:
        self.name = f"relay {channel} at {port}"
        self._port, self._channel, self._pause = port, channel, pause

    def cycle(self) -> None:
        """The board hangs on the normally closed contact: energised is off, and a dead relay leaves the board on."""
        try:
            with serial.Serial(self._port, 9600, timeout=1, write_timeout=2) as line:
                line.write(frame(self._channel, True))
                line.flush()
                time.sleep(self._pause)
                line.write(frame(self._channel, False))
                line.flush()
        except (serial.SerialException, OSError) as e:
            raise RelayError(f"{self._port}: {e}; is the relay plugged in?") from e


class CommandRelay:
    """A command in which `{state}` becomes `off` and `on`."""

    def __init__(self, command: str, pause: float = OFF_S) -> None:
        if "{state}" not in command:
            raise RelayError(f"{command}: must hold {{state}}, which becomes off and on")
        try:
            self._words = shlex.split(command)
        except ValueError as e:
            raise RelayError(f"{command}: {e}") from e
        self.name = self._words[0]
        self._pause = pause

    def cycle(self) -> None:
        """Runs it twice."""
        for state in ("off", "on"):
            argv = [word.replace("{state}", state) for word in self._words]
            try:
                done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
            except (OSError, subprocess.TimeoutExpired) as e:
                raise RelayError(f"{argv[0]}: {e}") from e
            if done.returncode != 0:
                raise RelayError(f"{' '.join(argv)}: failed ({done.returncode}) {done.stderr.strip()[:200]}")
            if state == "off":
                time.sleep(self._pause)


class Person:
    """Somebody pulls the plug."""

    name = "a person"

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def cycle(self) -> None:
        """Asks, and trusts."""
        self._tell("coupez l'alimentation de la carte, attendez trois secondes, remettez-la")


def frame(channel: int, on: bool) -> bytes:
    """Four bytes of the LCUS protocol."""
    data = bytes([0xA0, channel, 1 if on else 0])
    return data + bytes([sum(data) & 0xFF])


def parse(text: str, pause: float = OFF_S) -> Relay:
    """`serial:/dev/ttyUSB1[:channel]`, or a command with `{state}`. RelayError."""
    if not text.startswith("serial:"):
        return CommandRelay(text, pause)
    port, colon, channel = text.removeprefix("serial:").rpartition(":")
    if not colon:
        port, channel = channel, "1"
    if not channel.isdigit() or not 1 <= int(channel) <= 8 or not port:
        raise RelayError(f"{text}: serial:PORT[:1-8] is expected")
    return SerialRelay(port, int(channel), pause)
