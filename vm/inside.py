"""Facts about the board, from inside: asked over its shell, by commands that every board has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vm.office import VmOffice

PYTHON = re.compile(r"(^|[ /=])(python3[.\d]*|vigie)( |;|$)")
CLOCK_TICKS = 100
"""USER_HZ, the unit of /proc/PID/stat, on every Linux that this runs on"""


@dataclass(frozen=True, slots=True)
class PythonStarts:
    """CLOCK_MONOTONIC seconds: when the early loader had filter and bridge; when the first Python process began."""

    early_at: float
    first_python: float
    who: str

    def __str__(self) -> str:
        return f"filtered, forwarding at {self.early_at:.2f} s; first Python at {self.first_python:.2f} s ({self.who})"


def filtering(office: VmOffice) -> bool:
    """The filter's program says that its data path is attached."""
    return bool(office.file("/run/vigie/heartbeat.json").get("attached"))


def loaded(office: VmOffice) -> bool:
    """The early loader says that it has a base in force."""
    return office.file("/run/vigie-early.json").get("early", {}).get("base") is True


def settled(office: VmOffice) -> bool:
    """systemd has nothing left to start."""
    return not office.machine.shell("systemctl list-jobs --no-legend --plain").require().out.strip()


def python_starts(office: VmOffice) -> PythonStarts:
    """Every service that was ever started and whose program is Python, and every Python process that is alive.

    Raises AssertionError when no Python process was found: then nothing was compared.
    """
    early = office.file("/run/vigie-early.json").get("early", {})
    if not isinstance(early.get("at"), int | float):
        raise AssertionError(f"the early loader left no time: {early}\n{office.evidence()}")
    shown = office.machine.shell(
        "systemctl show '*.service' -p Id,ExecStart,ExecStartPre,ExecMainStartTimestampMonotonic --no-pager"
    ).require()
    found = [*_services(shown.out), *_processes(office)]
    if not found:
        raise AssertionError(f"no Python process in the board:\n{office.evidence()}")
    first, who = min(found)
    return PythonStarts(float(early["at"]), first, who)


def _services(text: str) -> list[tuple[float, str]]:
    found = []
    for block in text.strip().split("\n\n"):
        values: dict[str, str] = {}
        for line in block.splitlines():
            name, _, value = line.partition("=")
            values[name] = f"{values.get(name, '')} {value}".strip()
        commands = values.get("ExecStart", "") + " " + values.get("ExecStartPre", "")
        micro = int(values.get("ExecMainStartTimestampMonotonic") or 0)
        if micro and any(PYTHON.search(argv) for argv in re.findall(r"path=(\S+)", commands)):
            found.append((micro / 1e6, values.get("Id", "?")))
    return found


def _processes(office: VmOffice) -> list[tuple[float, str]]:
    """From /proc: field 22 of stat is the start in ticks since boot (which CLOCK_MONOTONIC counts from, too)."""
    shown = office.machine.shell(
        "for p in /proc/[0-9]*; do case $(readlink $p/exe) in *python3*) sed 's/.*) //' $p/stat | cut -d' ' -f20 | "
        "tr '\\n' ' '; tr '\\0' ' ' < $p/cmdline; echo;; esac; done"
    ).require()
    rows = (line.split(" ", 1) for line in shown.out.splitlines() if line.strip())
    return [(int(ticks) / CLOCK_TICKS, command.strip()) for ticks, command in rows]


def root_is_verified(office: VmOffice) -> str:
    """Evidence that / is read-only erofs on a dm-verity device made of this slot with the image's root hash."""
    machine = office.machine
    mounts = machine.shell("cat /proc/mounts").require().out
    root = next((line.split() for line in mounts.splitlines() if line.split()[1] == "/"), ["", "", "", ""])
    if root[2] != "erofs" or "ro" not in root[3].split(","):
        raise AssertionError(f"/ is {root}")
    if machine.shell("touch /usr/written").code == 0:
        raise AssertionError("/usr can be written")
    table = machine.shell("dmsetup table vigie-root").require().out.split()
    line = machine.shell("cat /proc/cmdline").require().out
    wanted = re.search(r"vigie\.roothash=([0-9a-f]{64})", line)
    slot = re.search(r"rauc\.slot=([AB])", line)
    if wanted is None or slot is None or table[2] != "verity" or wanted[1] not in table:
        raise AssertionError(f"not the root hash of the command line: {table}\n{line}")
    return f"slot {slot[1]}, erofs, verity {wanted[1][:16]}…"
