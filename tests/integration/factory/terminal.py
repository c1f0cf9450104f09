"""`vigie-factory` as a person at the bench runs it: the real command on a terminal, in front of simulated boards.

The command sees a /sys and a /dev of its own, in a mount namespace; the eMMC of a board is a loop device there.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.simboard import ROOT, Bench, SimBoard

SURROUNDINGS = """
mkdir -p "$2/real" && mount --rbind /dev "$2/real" &&
for name in null zero full random urandom tty ptmx pts shm fd; do ln -sfn "real/$name" "$2/$name"; done &&
mount --rbind "$2" /dev && mount --bind "$1" /sys && shift 2 && exec "$@"
"""
DEADLINE_S = 120.0
Hand = tuple[str, Callable[[], object]]
"""A text that the command says, and what the person does then, once."""
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@contextmanager
def loop_device(board: SimBoard) -> Iterator[str]:
    """The board's eMMC behind a loop device; how it is called in the command's /dev."""
    made = subprocess.run(
        ["losetup", "--find", "--show", str(board.emmc)], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        yield made
    finally:
        subprocess.run(["losetup", "--detach", made], check=True)


def plug(board: SimBoard, loop: str) -> None:
    """Jumper on, USB cable in: the loop device is the board's disk."""
    number = Path(loop).stat().st_rdev
    board.to_usb(dev=f"{os.major(number)}:{os.minor(number)}")
    (board.bench.dev / board.name).unlink()
    (board.bench.dev / board.name).symlink_to(f"/dev/real/{Path(loop).name}")


def enclosed(bench: Bench, argv: Sequence[str]) -> list[str]:
    """The command in its surroundings."""
    # Ctrl-C counts, also where the tests run in the background of a script and got it as ignored
    enter = [
        "env",
        "--default-signal=INT",
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--",
        "sh",
        "-euc",
        SURROUNDINGS,
        "sh",
    ]
    return [*enter, str(bench.sys), str(bench.dev), *argv]


def factory(*words: str) -> list[str]:
    """argv of `vigie-factory`."""
    return [sys.executable, "-m", "vigie_provisioning.factory.cli", *words]


class Terminal:
    """A command on a terminal of 100 columns."""

    def __init__(self, bench: Bench, argv: Sequence[str], hands: Sequence[Hand]) -> None:
        self._hands = list(hands)
        self._raw = b""
        self._looked = 0
        environment = {**os.environ, "VIGIE_LANG": "fr", "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
        self.fd, slave = pty.openpty()
        self.process = subprocess.Popen(
            enclosed(bench, argv),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(slave)

    @property
    def text(self) -> str:
        """All that it said, without colours, its lines joined where the terminal broke them."""
        return " ".join(_CODES.sub("", self._raw.decode("utf-8", "replace")).split())

    def type(self, words: str) -> None:
        """Keys, then Enter."""
        os.write(self.fd, words.encode() + b"\n")

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def until(self, text: str) -> None:
        """Until it has said that, from where the last look ended; hands act meanwhile."""
        end = time.monotonic() + DEADLINE_S
        while (at := self.text.find(text, self._looked)) < 0:
            assert time.monotonic() < end, f"never said {text!r}:\n{self.text}"
            assert self._read() or self.process.poll() is None, f"ended before it said {text!r}:\n{self.text}"
        self._looked = at + len(text)

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        end = time.monotonic() + DEADLINE_S
        while self._read() or self.process.poll() is None:
            assert time.monotonic() < end, f"never ended:\n{self.text}"
        return self.process.wait()

    def kill(self) -> None:
        """Power away from the station, as far as a process sees it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def close(self) -> None:
        """Ends it, if it has not."""
        self.kill()
        os.close(self.fd)

    def _read(self) -> bool:
        """Takes what is there; whether there was something."""
        if not select.select([self.fd], [], [], 0.1)[0]:
            return False
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
            data = os.read(self.fd, 65536)
            self._raw += data
            for hand in list(self._hands):
                if hand[0] in self.text:
                    self._hands.remove(hand)
                    hand[1]()
            return bool(data)
        return False


@contextmanager
def terminal(bench: Bench, argv: Sequence[str], *hands: Hand) -> Iterator[Terminal]:
    """A command on a terminal, ended with the block."""
    made = Terminal(bench, argv, hands)
    try:
        yield made
    finally:
        made.close()
