"""`make vm`: the board in the lab for a person: its console, or its root shell, and what it has reached so far."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

from vm import inside
from vm.errors import VmError
from vm.office import VmOffice

QUIT = "Ctrl-A puis X éteint la carte et le labo ; Ctrl-A puis C ouvre la console de QEMU"
PROMPT = "vigie# "
START_S = 600.0
COMMAND_S = 3600.0

Milestone = tuple[str, Callable[[VmOffice], bool]]
OPEN: Milestone = ("la ligne est ouverte, filtrée par la base de l'atelier", inside.loaded)
AT_WORK: Milestone = ("le programme de filtrage est au travail", inside.filtering)
MEMBER: Milestone = ("la carte est rattachée à son département", lambda office: office.enrolled())
DELIVERED: Milestone = (
    "la base du département est en vigueur",
    lambda office: office.base_version() == office.department.versions[-1],
)


def milestones(*, department: bool) -> list[Milestone]:
    """What a start passes, in the usual order. (Without a department there is no identity to enrol with.)"""
    return [OPEN, AT_WORK, *((MEMBER, DELIVERED) if department else ())]


def watch(office: VmOffice, console: Console, left: list[Milestone]) -> None:
    """The board's console in this terminal, with a line at each milestone, until somebody switches it off."""
    machine = office.machine
    console.print(
        f"\nLa carte démarre. Personne ne s'y connecte : sa console dit ce qui se passe. {QUIT}.\n", style="bold"
    )
    machine.power_on()
    try:
        machine.wait_shell(START_S)
        while machine.running:
            _tell(office, console, left)
            time.sleep(1.0)
    except (AssertionError, VmError, OSError):
        if machine.running:
            raise


def _tell(office: VmOffice, console: Console, left: list[Milestone]) -> None:
    for milestone in list(left):
        text, holds = milestone
        if holds(office):
            seconds = time.monotonic() - office.machine.started_at
            # The terminal is raw while QEMU has it: a line ends with both.
            console.print(f"\r\n== {text} ({seconds:.0f} s après la mise sous tension)\r", style="bold green")
            left.remove(milestone)
            if not left:
                console.print(f"== tout est en place. {QUIT}.\r\n", style="bold green")


def converse(office: VmOffice, console: Console) -> None:
    """Root's shell in this terminal, one line at a time; the console goes to its file. Ends with the input."""
    machine = office.machine
    console.print(f"\nLa carte démarre ; sa console est dans {machine.folder / 'console.log'}.", style="bold")
    machine.boot(START_S)
    console.print("Shell de root, une ligne à la fois ; Ctrl-D éteint la carte et le labo.\n", style="bold")
    while machine.running:
        try:
            line = console.input(PROMPT, markup=False).strip()
        except EOFError:
            console.print()
            return
        if line:
            console.file.write(machine.shell(line, COMMAND_S).out)
            console.file.flush()
