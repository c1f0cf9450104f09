"""The station's side of the serial line: asks one question at a time until it is answered.

The port is opened when it is needed and again when it went away: a USB adapter that is unplugged comes back under the
same name. What the board says beside frames (its boot) is handed on as log lines.
"""

from __future__ import annotations

import errno
import os
import secrets
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import serial

from vigie.contract.bench import Hello, Question
from vigie.contract.benchline import Decoder, Side, encode
from vigie.contract.errors import ContractError
from vigie_provisioning.errors import BusyError, ProvisioningError

BAUD: Final = 115200
_READ_S: Final = 0.1


class LineLost(ProvisioningError):
    """The adapter went away, or the board stopped answering. The job is as it was; the board can come back."""

    code = "line"


class BoardReset(LineLost):
    """The board started again in the middle. hello: what it says now."""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello
        super().__init__(f"board {hello.chip} started again")


class Refused(ProvisioningError):
    """The board answered no. `word` is its reason (`vigie.contract.bench.Code`, or a later one)."""

    code = "refused"

    def __init__(self, word: str, detail: str) -> None:
        self.word = word
        super().__init__(f"{word}: {detail}")


@dataclass(slots=True, frozen=True)
class Timing:
    """Seconds. again: until a question is asked again; patience: without any answer, until the line counts as lost."""

    again_s: float = 2.0
    patience_s: float = 30.0


Working = Callable[[int, int], None]
Log = Callable[[list[str]], None]


def _silent(done: int, of: int) -> None:
    pass


class Line:
    """A conversation over one port."""

    def __init__(self, port: str, timing: Timing, log: Log) -> None:
        self.port = port
        self._timing = timing
        self._log = log
        self._serial: serial.Serial | None = None
        self._decoder = Decoder(Side.STATION)
        self._session = secrets.token_hex(8)
        self._number = 0
        self._boot = ""

    def open(self) -> None:
        """Takes the port now. BusyError, or LineLost with the reason: later, a port that is away is waited for."""
        self._open()

    def close(self) -> None:
        """Lets go of the port."""
        if self._serial is not None:
            self._serial.close()
            self._serial = None

    def listen(self, wait: float) -> Hello | None:
        """The next hello within `wait` seconds, None without one. Also while the port is not there."""
        end = time.monotonic() + wait
        while (left := end - time.monotonic()) > 0:
            try:
                for body in self._read():
                    hello = _hello(body)
                    if hello is not None:
                        return hello
            except LineLost:
                time.sleep(min(left, _READ_S))
        return None

    def greet(self, known: Hello) -> Hello:
        """What the board that said `known` says now; begins a conversation if none goes on. BoardReset, LineLost."""
        if known.boot != self._boot:
            self._session = secrets.token_hex(8)
            self._number = 0
            self._boot = known.boot
        hello = _hello({"hello": self.ask(Question.HELLO)})
        if hello is None or hello.chip != known.chip:
            raise LineLost(f"{self.port}: another board answers than board {known.chip}")
        if hello.boot != known.boot:
            raise BoardReset(hello)
        return hello

    def ask(self, question: Question, working: Working = _silent, **arguments: Any) -> dict[str, Any]:
        """The board's answer. Refused, BoardReset, LineLost. working: called as the board says how far it is."""
        self._number += 1
        body = {"s": self._session, "q": question.value, "a": arguments}
        frame = encode(Side.STATION, self._number, body)
        heard = time.monotonic()
        again = heard
        while (now := time.monotonic()) - heard < self._timing.patience_s:
            if now >= again:
                self._write(frame)
                again = now + self._timing.again_s
            for said in self._read():
                hello = _hello(said)
                if hello is not None:
                    if hello.boot != self._boot:
                        raise BoardReset(hello)
                    continue
                if said.get("s") != self._session or said.get("r") != self._number:
                    continue
                heard = time.monotonic()
                again = heard + self._timing.again_s
                answer = _answer(said, working)
                if answer is not None:
                    return answer
        reason = f"the board has not answered `{question}` for {self._timing.patience_s:.0f} s"
        raise LineLost(f"{self.port}: {reason}; check power and the serial cable")

    # -- bytes

    def _open(self) -> serial.Serial:
        if self._serial is None:
            try:
                self._serial = serial.Serial(
                    self.port, BAUD, timeout=_READ_S, write_timeout=5, exclusive=True, rtscts=False, dsrdtr=False
                )
            except (serial.SerialException, OSError, ValueError) as e:
                if isinstance(e, OSError) and e.errno in (errno.EAGAIN, errno.EBUSY):
                    raise BusyError(f"{self.port}: another program has it; one station a port") from e
                raise LineLost(f"{self.port}: cannot be opened ({e}); adapter plugged in, group dialout?") from e
            self._decoder = Decoder(Side.STATION)
        return self._serial

    def _read(self) -> list[dict[str, Any]]:
        port = self._open()
        try:
            data = port.read(max(1, min(port.in_waiting, 4096)))
        except (serial.SerialException, OSError, termios.error) as e:
            self.close()
            raise LineLost(f"{self.port}: went away ({e}); plug the adapter in again") from e
        frames = self._decoder.feed(data)
        self._log(self._decoder.noise())
        return [frame.body for frame in frames]

    def _write(self, frame: bytes) -> None:
        port = self._open()
        try:
            port.write(frame)
        except (serial.SerialException, OSError, termios.error) as e:
            self.close()
            raise LineLost(f"{self.port}: went away ({e}); plug the adapter in again") from e


def check_port(port: str) -> None:
    """LineLost when there is no such port at all: said before the first board, not after it."""
    if not os.path.exists(port):  # noqa: PTH110 - a port may be a URL of pyserial's
        raise LineLost(f"{port}: there is no such port; is the adapter plugged in?")


def _hello(body: dict[str, Any]) -> Hello | None:
    if "hello" not in body:
        return None
    try:
        return Hello.from_dict(body["hello"])
    except ContractError:
        return None


def _answer(said: dict[str, Any], working: Working) -> dict[str, Any] | None:
    """The answer in a frame, None while the board is at work."""
    if isinstance(found := said.get("ok"), dict):
        return found
    if isinstance(no := said.get("no"), dict):
        if no.get("code") == "busy":
            return None  # with an earlier question of ours; it is asked again
        raise Refused(str(no.get("code", ""))[:32], str(no.get("detail", ""))[:200])
    if isinstance(at := said.get("w"), dict):
        done, of = at.get("done"), at.get("of")
        if isinstance(done, int) and isinstance(of, int):
            working(done, of)
    return None
