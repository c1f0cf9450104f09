"""`python3 -m vigie.update.boot`: RAUC's custom backend, and what only root can do for the updater.

get-primary | set-primary SLOT | get-state SLOT | set-state SLOT good|bad | get-current       (RAUC)
start                    once at each start: what became of a trial; prints the outcome
settled                  exit 0 when what runs is what an ordinary start takes, as last said; any user
restart trial|back       restarts into the slot on trial, or into the committed one
show                     one line of JSON
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from vigie.errors import UsageError, VigieError

from .boot import Boot
from .chain import BootError, Slot, as_slot
from .opening import Places, cause, dump, open_boot, read, tell

RESTART: Final = ("systemctl", "reboot")


def main(argv: Sequence[str], places: Places, restart: Callable[[Sequence[str]], None]) -> int:
    """Exit code. `restart` gets the command that restarts the machine."""
    try:
        if list(argv) == ["settled"]:
            said = read(places)
            return 0 if said and said.current == said.committed else 1
        with _alone(places):
            return _do(argv, places, open_boot(places), restart)
    except VigieError as error:
        print(f"boot-backend: {error}", file=sys.stderr)
        return error.exit_code


def _do(argv: Sequence[str], places: Places, boot: Boot, restart: Callable[[Sequence[str]], None]) -> int:
    match argv:
        case ["get-primary"]:
            print(boot.primary())
        case ["get-current"]:
            print(boot.current())
        case ["get-state", slot]:
            print(boot.state(_slot(slot)))
        case ["set-primary", slot]:
            boot.set_primary(_slot(slot))
            tell(boot, places)
        case ["set-state", slot, ("good" | "bad") as state]:
            boot.set_state(_slot(slot), state == "good")
            tell(boot, places)
        case ["start"]:
            outcome = boot.start(cause(places))
            tell(boot, places, outcome)
            print(outcome)
        case ["restart", "trial"]:
            argument = boot.activate()
            tell(boot, places)
            restart([*RESTART, f"--reboot-argument={argument}"] if argument else RESTART)
        case ["restart", "back"]:
            restart(RESTART)
        case ["show"]:
            tell(boot, places)
            if said := read(places):
                print(dump(said))
        case _:
            raise UsageError((__doc__ or "").partition("\n\n")[2].rstrip())
    return 0


def _slot(text: str) -> Slot:
    try:
        return as_slot(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


@contextlib.contextmanager
def _alone(places: Places) -> Iterator[None]:
    """One at a time: RAUC and the updater ask at the same moment."""
    try:
        fd = os.open(places.said.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BootError(f"{places.said.parent}: {error.strerror}; only root may do this") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _replace(command: Sequence[str]) -> None:
    os.execvp(command[0], list(command))  # noqa: S606 - an argv list


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Places.of(os.environ), _replace))
