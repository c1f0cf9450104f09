"""U-Boot with board/qemu/boot.cmd: BOOT_ORDER and the attempts that each slot has left, in a redundant environment.

fw_setenv writes one variable into the older of two copies, so each change is whole or did not happen. Several changes
are made in an order in which each step starts one of the slots. A trial is one attempt of the new slot, put first.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from .chain import SLOTS, BootError, Slot, as_slot, other

ATTEMPTS: Final = 3
TIMEOUT_S: Final = 30.0

Run = Callable[[Sequence[str]], str]
"""a command's standard output; BootError"""


def run(argv: Sequence[str]) -> str:
    """For real."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BootError(f"{argv[0]}: {error}") from error
    if done.returncode != 0:
        raise BootError(f"{' '.join(argv)}: exit {done.returncode} {done.stderr.strip()[-200:]}")
    return done.stdout


class Uboot:
    """config: fw_env.config."""

    def __init__(self, config: Path, run: Run = run) -> None:
        self._config = config
        self._run = run

    def committed(self, running: Slot) -> Slot:
        order, left = self._state()
        first = order[0]
        if first != running and left[first] == 1 and len(order) == 2:
            return other(first)  # armed: only the next start takes it
        return next((slot for slot in order if left[slot] > 0), first)

    def commit(self, slot: Slot, fallback: bool) -> None:
        order, left = self._state()
        spare = other(slot)
        wanted = [slot, spare] if fallback else [slot]
        if left[slot] != ATTEMPTS:
            self._set(f"BOOT_{slot}_LEFT", str(ATTEMPTS))
        if order != wanted:
            self._set("BOOT_ORDER", " ".join(wanted))
        if left[spare] != (attempts := ATTEMPTS if fallback else 0):
            self._set(f"BOOT_{spare}_LEFT", str(attempts))
        if self._state()[0] != wanted:
            raise BootError(f"{self._config}: the environment reads back otherwise than it was written")

    def arm(self, slot: Slot) -> str:
        kept = other(slot)
        self.commit(kept, fallback=False)
        self._set(f"BOOT_{slot}_LEFT", "1")
        self._set("BOOT_ORDER", f"{slot} {kept}")
        return ""

    def _state(self) -> tuple[list[Slot], dict[Slot, int]]:
        """As boot.cmd reads it: what is missing has its default."""
        lines = self._run(["fw_printenv", "-c", str(self._config)]).splitlines()
        said = dict(line.split("=", 1) for line in lines if "=" in line)
        try:
            order = [as_slot(word) for word in said.get("BOOT_ORDER", "").split()] or list(SLOTS)
            left = {slot: int(said.get(f"BOOT_{slot}_LEFT", ATTEMPTS)) for slot in SLOTS}
        except ValueError as error:
            raise BootError(f"{self._config}: the environment makes no sense ({error})") from error
        return order, left

    def _set(self, name: str, value: str) -> None:
        self._run(["fw_setenv", "-c", str(self._config), name, value])
