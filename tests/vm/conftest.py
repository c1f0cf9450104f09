"""One board for the whole session: an emulated start takes most of a minute of two processors.

Tests run in the order of their files; those that cut the power or spoil a disk leave a running board behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vm import expectations
from vm.machine import Machine
from vm.office import VmOffice, open_office
from vm.tools import run


@pytest.fixture(scope="session")
def office() -> Iterator[VmOffice]:
    """Town hall and department; the board is flashed and registered, and off until `boot`."""
    with open_office(print) as office:
        yield office


@pytest.fixture
def board(office: VmOffice) -> Machine:
    """The board, running."""
    if not office.machine.running:
        expectations.start(office, "_test")
    return office.machine


@contextmanager
def other_disk(office: VmOffice, *, fresh: bool) -> Iterator[Machine]:
    """The board off, with a disk that may be spoilt: as flashed, or a copy of its own. Its own is back afterwards."""
    machine = office.machine
    machine.power_cut()
    kept = machine.disk.with_suffix(".kept")
    machine.disk.rename(kept)
    try:
        if fresh:
            machine.make_disk(office.image / "vigie-vm.img")
        else:
            run(["cp", "--sparse=always", kept, machine.disk])
        yield machine
    finally:
        machine.power_cut()
        kept.replace(machine.disk)
