"""What is around a station: the register, another station, rpiboot, relay, printer, serial port."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import serial

from tests.integration.factory.conftest import Person, Workshop, interrupt, is_finished
from tests.support.simboard import MIB, Bench, SimBoard
from vigie_provisioning.errors import BusyError, ProvisioningError, RegisterError
from vigie_provisioning.factory.disks import Disk, Disks
from vigie_provisioning.factory.jobs import Job
from vigie_provisioning.factory.stationcli import begin_again
from vigie_provisioning.factory.steps import Step

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def test_the_stations_folder_is_lost_after_registration(workshop: Workshop, board: SimBoard, person: Person) -> None:
    """The register brings it back, with the claim id that was written there."""
    with pytest.raises(KeyboardInterrupt):
        workshop.run(board, Person([*person.hands, ("inscrite au registre", interrupt)], person.answers))
    (entry,) = workshop.entries()
    (workshop.folder / "state/jobs" / f"{board.chip}.json").unlink()
    job = workshop.run(board, Person(answers=person.answers))  # it is only plugged in by its serial cable
    assert job.step is Step.DONE
    assert (job.claim_id, job.public, job.entry) == (entry.claim_id, entry.public, entry.n)
    assert len(workshop.entries()) == 1


def test_a_serial_number_that_is_registered_with_another_key(
    workshop: Workshop, board: SimBoard, person: Person
) -> None:
    """Somebody erased a finished board: it is not registered twice behind anybody's back."""
    first = workshop.run(board, person)
    (workshop.folder / "state/jobs" / f"{board.chip}.json").unlink()
    with board.emmc.open("r+b") as disk:
        disk.truncate(0)
        disk.truncate(48 * MIB)
    job = workshop.run(board, person)
    assert job.parked is not None
    assert job.parked.code == "registered-other"
    assert [entry.public for entry in workshop.entries()] == [first.public]


def test_two_stations_at_once(tmp_path: Path, workshop: Workshop) -> None:
    """Two boards, two stations, one state folder, one register; each takes the board at its own connector."""
    with ExitStack() as stack:
        boards = [
            stack.enter_context(
                SimBoard(tmp_path / f"b{n}", workshop.bench, f"0000000{n}", f"1-{n}", f"sd{'xyz'[n]}").on_the_bench()
            )
            for n in range(2)
        ]
        people = [Person(hands=[("Branchez une carte", b.to_usb), ("Retirez le cavalier", b.on)]) for b in boards]
        jobs: dict[int, Job] = {}

        def work(n: int) -> None:
            jobs[n] = workshop.run(boards[n], people[n], usb=boards[n].place)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(200)
        for n in range(2):
            is_finished(workshop, boards[n], jobs[n], people[n])
    assert sorted(entry.serial for entry in workshop.entries()) == ["VG-00000000", "VG-00000001"]
    assert [entry.n for entry in workshop.entries()] == [1, 2]


class Looks(Disks):
    """A person who stops the station at the n-th look for disks."""

    def __init__(self, bench: Bench, n: int) -> None:
        super().__init__(bench.sys, bench.dev, bench.proc, any_file=True)
        self._left = n

    def gadgets(self, usb: str = "") -> list[Disk]:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt
        return super().gadgets(usb)


def test_one_board_two_stations(workshop: Workshop, board: SimBoard, person: Person) -> None:
    """The other station has it: this one does not touch it."""
    board.to_usb()
    with workshop.store.claim(board.chip):
        before = board.emmc.stat().st_mtime_ns
        looks = Looks(workshop.bench, 4)
        with pytest.raises(KeyboardInterrupt):
            workshop.run(board, person, disks=looks)
        assert board.emmc.stat().st_mtime_ns == before
        assert workshop.store.read(board.chip) is None
    person.hands.pop(0)
    board.from_usb()
    board.to_usb()
    is_finished(workshop, board, workshop.run(board, person), person)


def test_rpiboot_power_and_printer(workshop: Workshop, board: SimBoard) -> None:
    """A board that waits for rpiboot becomes a disk by it, is switched by a relay, and its label is printed."""
    ran: list[list[str]] = []

    def run(argv: Sequence[str], seconds: float) -> None:
        ran.append(list(argv))
        match argv[0]:
            case "rpiboot":
                board.to_usb()
            case "power":
                (board.off if argv[-1] == "off" else board.on)()
            case "lp":
                assert Path(argv[-1]).read_bytes().startswith(b"%PDF-")

    def wait_for_rpiboot() -> None:
        board.to_usb(idProduct="2711", vendor="x")

    person = Person(hands=[("Branchez une carte", wait_for_rpiboot)])
    job = workshop.run(
        board, person, run=run, rpiboot=("rpiboot", "-d", "msd"), power=("power", "1"), print=("lp", "-d", "label")
    )
    is_finished(workshop, board, job, person)
    assert ran[0] == ["rpiboot", "-d", "msd", "-p", board.place]
    assert ran[1:3] == [["power", "1", "off"], ["power", "1", "on"]]
    assert ran[3][:3] == ["lp", "-d", "label"]
    assert len(ran) == 4


def test_a_printer_out_of_paper(workshop: Workshop, board: SimBoard, person: Person) -> None:
    """The box is in service; the station says so, and makes the label when it is asked again."""

    def run(argv: Sequence[str], seconds: float) -> None:
        raise ProvisioningError("lp: out of paper")

    with pytest.raises(ProvisioningError, match="out of paper"):
        workshop.run(board, person, run=run, print=("lp",))
    job = workshop.store.read(board.chip)
    assert job is not None
    assert job.step is Step.CONFIRMED
    board.cycle()  # it says who it is at each start
    is_finished(workshop, board, workshop.run(board, Person()), person)


def test_the_register_is_damaged(workshop: Workshop, board: SimBoard, person: Person) -> None:
    """That is the station's trouble, not the board's."""
    (workshop.folder / "register.jsonl").write_text("{}\n")
    with pytest.raises(RegisterError):
        workshop.run(board, person)
    job = workshop.store.read(board.chip)
    assert job is not None
    assert (job.step, job.parked) == (Step.KEYED, None)
    (workshop.folder / "register.jsonl").unlink()
    is_finished(workshop, board, workshop.run(board, person), person)


def test_a_port_that_another_station_has(workshop: Workshop, board: SimBoard) -> None:
    first = workshop.station(board, Person(hands=[("Branchez", lambda: None)]))
    holder = serial.Serial(str(board.port), exclusive=True)
    try:
        with pytest.raises(BusyError, match="another program has it"):
            first.one()
    finally:
        holder.close()
        first.close()


def test_begun_again_with_another_number(workshop: Workshop, board: SimBoard, person: Person) -> None:
    """A finished board comes back spoilt: new key, new number, its old line stays."""
    old = workshop.run(board, person)
    before = board.identity("identity.key")
    workshop.store.write(begin_again(old, workshop.config(board), 5))
    job = workshop.run(board, person)
    is_finished(workshop, board, job, person)
    assert job.serial == old.serial + "-2"
    assert board.identity("identity.key") != before
    assert [entry.serial for entry in workshop.entries()] == [old.serial, job.serial]
