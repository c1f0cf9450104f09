"""The image onto the eMMC: unplugged, read back wrong, with a key that is there already, on a real block device."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.factory.conftest import Person, Workshop, interrupt, is_finished
from tests.integration.factory.terminal import loop_device
from tests.support.simboard import MIB, SimBoard
from vigie_provisioning.factory.disks import DiskError, Disks
from vigie_provisioning.factory.flash import Device, Unplugged
from vigie_provisioning.factory.steps import Step
from vigie_provisioning.factory.words import why

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def unplug_at(n: int) -> Callable[[int], Device]:
    class Pulled(Device):
        left = n

        def pwrite(self, data: memoryview, at: int) -> int:
            self.left -= 1
            if self.left < 0:
                raise OSError(19, "No such device")
            return super().pwrite(data, at)

    return Pulled


@pytest.mark.parametrize("n", [0, 7])
def test_unplugged_while_it_is_written(workshop: Workshop, board: SimBoard, person: Person, n: int) -> None:
    """The next time it is written from the beginning; until then it does not start."""
    with pytest.raises(Unplugged, match="went away"):
        workshop.run(board, person, target=unplug_at(n))
    job = workshop.store.read(board.chip)
    assert job is not None
    assert job.step is Step.NEW
    assert board.emmc.read_bytes()[:512] == bytes(512)
    board.from_usb()
    is_finished(workshop, board, workshop.run(board, person), person)


def test_what_is_read_back_differs(workshop: Workshop, board: SimBoard, person: Person) -> None:
    class Bad(Device):
        def pread(self, n: int, at: int) -> bytes:
            data = super().pread(n, at)
            return bytes([data[0] ^ 1]) + data[1:] if at == 12 * MIB else data

    job = workshop.run(board, person, target=Bad)
    assert job.parked is not None
    assert job.parked.code == "read-back"
    assert "12 MiB" in why(job.parked)
    assert workshop.entries() == ()


def test_a_board_with_a_key_keeps_it(workshop: Workshop, board: SimBoard, person: Person) -> None:
    """Its job is lost between the key and the register: it is flashed again, and is the same box."""
    board.cable.cut_at = []
    with pytest.raises(KeyboardInterrupt):
        workshop.run(board, Person([*person.hands, ("clé créée", interrupt)], person.answers))
    key = board.identity("identity.key")
    assert key is not None
    (workshop.folder / "state/jobs" / f"{board.chip}.json").unlink()
    board.from_usb()
    job = workshop.run(board, person)
    is_finished(workshop, board, job, person)
    assert board.identity("identity.key") == key
    assert any("déjà une identité" in text for text in person.heard)


@pytest.fixture
def loop(board: SimBoard) -> Iterator[str]:
    with loop_device(board) as name:
        yield name


def test_a_real_block_device(workshop: Workshop, board: SimBoard, person: Person, loop: str) -> None:
    """Opened for itself alone, compared with sysfs by its number, flushed by the kernel's own call."""
    number = Path(loop).stat().st_rdev
    real = f"{os.major(number)}:{os.minor(number)}"

    def plug() -> None:
        board.to_usb(dev=real)
        (workshop.bench.dev / board.name).unlink()
        (workshop.bench.dev / board.name).symlink_to(loop)

    hands = [("Branchez une carte", plug), person.hands[1]]
    strict = Disks(workshop.bench.sys, workshop.bench.dev, workshop.bench.proc)
    job = workshop.run(board, Person(hands=hands), disks=strict)
    is_finished(workshop, board, job, person)

    # Mounted, or in another program's hands: the kernel refuses.
    board.to_usb()
    plug()
    (disk,) = strict.gadgets()
    held = os.open(loop, os.O_RDWR | os.O_EXCL)
    try:
        with pytest.raises(DiskError, match="cannot be opened"):
            strict.open(disk)
    finally:
        os.close(held)
    os.close(strict.open(disk))
    with pytest.raises(DiskError, match="now and was"):
        strict.open(dataclasses.replace(disk, number="8:240"))
