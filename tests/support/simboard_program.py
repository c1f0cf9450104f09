"""The real factory program over a simulated machine, as one start of a simulated board: `python -m` with a folder.

What `systemd` decides by its conditions is decided here the same way: a board with box.json announces itself and hears
nothing. Exit codes: 0 restarted by itself, 42 reset by the watchdog.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from vigie.factory import program
from vigie.factory.machine import Board
from vigie.host.boxconfig import DEFAULT_MODEL

BITTEN = 42
WATCHDOG_S = 1


class SimMachine(Board):
    """A board whose files lie in a folder; what is no file is decided by `faults.json`."""

    def __init__(self, root: Path, faults: dict[str, Any], button: int | None) -> None:
        super().__init__(root, button)
        self._faults = faults
        self._looks = 0

    def exchange(self, sender: str, receiver: str, count: int) -> int:
        """The loop cable."""
        return count - int(self._faults.get("lost", {}).get(sender, 0))

    def quiet(self, bridge: str, on: bool) -> None:
        """Notes that the bridge was taken down, and up again."""
        with (self.root / "quiet.log").open("a") as stream:
            stream.write(f"{bridge} {'down' if on else 'up'}\n")

    def arm_watchdog(self, seconds: int) -> None:
        """Resets the board, unless it is broken."""
        if not self._faults.get("watchdog_dead"):
            bite = threading.Timer(seconds * 0.3, lambda: os._exit(BITTEN))
            bite.daemon = True
            bite.start()

    def pressed(self) -> bool | None:
        """Pressed at the third look, let go at the sixth."""
        self._looks += 1
        if self._faults.get("button_silent"):
            return False
        return 3 <= self._looks < 6

    def restart(self) -> None:
        """The process ends, the power loop starts the next boot."""


def main() -> int:
    """One start."""
    home, port = Path(sys.argv[1]), Path(sys.argv[2])
    logging.basicConfig(level=logging.INFO, filename=home / "program.log")
    faults = json.loads((home / "faults.json").read_text())
    machine = SimMachine(home / "root", faults, None)
    parts = program.read_parts(machine)
    places = program.Places(
        identity=home / "identity",
        data=home / "data",
        filter_socket=home / "filter.sock",
        model=str(faults.get("model", DEFAULT_MODEL)),
        wait=lambda seconds: time.sleep(seconds / 50),
        watchdog_s=WATCHDOG_S,
    )
    report_only = bool(faults.get("report_only"))
    if (home / "identity" / "box.json").exists() and not report_only:
        program.announce(port, machine, places)
        threading.Event().wait()  # in service: the power loop ends it
    program.serve(port, machine, places, parts, report_only=report_only)
    machine.restart()
    return 0


if __name__ == "__main__":
    sys.exit(main())
