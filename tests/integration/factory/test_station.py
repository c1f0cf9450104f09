"""A board from an empty eMMC to its label, and whatever goes wrong on the way."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import serial

from tests.integration.factory.conftest import Person, Workshop
from tests.support.simboard import MIB, P7, P7_SIZE, Bench, SimBoard, make_image
from vigie.contract.bench import Question, Test
from vigie.contract.identity import box_id
from vigie_provisioning.errors import BusyError, ProvisioningError, RegisterError
from vigie_provisioning.factory.disks import Disk, DiskError, Disks
from vigie_provisioning.factory.flash import Device, Unplugged
from vigie_provisioning.factory.jobs import Job
from vigie_provisioning.factory.jobstore import JobStore
from vigie_provisioning.factory.stationcli import begin_again
from vigie_provisioning.factory.steps import Step
from vigie_provisioning.factory.words import why

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def is_finished(workshop: Workshop, board: SimBoard, job: Job, person: Person) -> None:
    """A board that left the bench is one line of the register, its own key, its own label, and in service."""
    assert job.step is Step.DONE, person.heard
    (entry,) = (entry for entry in workshop.entries() if entry.serial == job.serial)
    label = json.loads(board.identity("box.json") or b"{}")
    assert (entry.serial, entry.claim_id, entry.public) == (label["serial"], label["claim_id"], job.public)
    assert (entry.image, entry.box) == (label["image"], box_id(job.public))
    assert b"PRIVATE KEY" in (board.identity("identity.key") or b"")
    assert set(job.tests) == set(Test)
    assert (workshop.folder / "state/labels" / f"{job.serial}.pdf").read_bytes().startswith(b"%PDF-")
    assert (workshop.folder / "state/labels" / f"{job.serial}.png").read_bytes().startswith(b"\x89PNG")


def test_from_an_empty_board_to_a_label(workshop: Workshop, board: SimBoard, person: Person) -> None:
    job = workshop.run(board, person)
    is_finished(workshop, board, job, person)
    assert job.serial == f"VG-{board.chip}"
    image, disk = workshop.image.read_bytes(), board.emmc.read_bytes()
    assert disk[:P7] == image[:P7]
    assert disk[P7 + P7_SIZE : len(image)] == image[P7 + P7_SIZE :]
    assert len(board.boots) == 3  # after flashing, after the watchdog, in service
    assert (board.home / "root/quiet.log").read_text() == "br0 down\nbr0 up\n"
    log = (workshop.folder / "state/logs" / f"{board.chip}.log").read_text()
    assert "Booting Linux" in log
    assert "PRIVATE" not in log + (workshop.folder / "state/jobs" / f"{board.chip}.json").read_text()


def test_a_finished_board_is_left_alone(workshop: Workshop, board: SimBoard, person: Person) -> None:
    first = workshop.run(board, person)
    disk = board.emmc.read_bytes()
    again = workshop.run(board, person)
    assert again == first
    assert board.emmc.read_bytes() == disk
    assert len(workshop.entries()) == 1


# -- power and cables


ASKED = (Question.HELLO, Question.TEST, Question.KEY, Question.PROVE, Question.SEAL)


@pytest.mark.parametrize(
    ("questions", "after"), [((*ASKED, Question.LEAVE), False), (ASKED, True), ((Question.LEAVE,), True)]
)
def test_power_cut_at_each_question(
    workshop: Workshop, board: SimBoard, person: Person, questions: tuple[Question, ...], after: bool
) -> None:
    """Before the board heard it, or after it did it while nobody heard the answer: one cut after the other.

    A board whose power goes after it was sealed is in service at its next start: nobody asks it to leave any more.
    """
    board.cable.cut_at = [(f'"q":"{question.value}"'.encode(), after) for question in questions]
    person.answers["courant"] = True
    job = workshop.run(board, person)
    assert board.cable.cut_at == []
    is_finished(workshop, board, job, person)
    assert len(board.boots) >= 2 + len(questions)  # after flashing, after the watchdog, after each cut
    assert len(workshop.entries()) == 1


class CutStore(JobStore):
    """The station loses power before or after its n-th writing down."""

    def __init__(self, folder: Path, n: int, *, after: bool) -> None:
        super().__init__(folder)
        self.left, self.after = n, after

    def write(self, job: Job) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise KeyboardInterrupt
        super().write(job)
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [False, True])
def test_the_station_loses_power_between_each_pair_of_steps(
    workshop: Workshop, board: SimBoard, person: Person, after: bool
) -> None:
    """One board; the station dies at its first writing down, is started again and dies at the second, and so on."""
    person.answers["courant"] = True
    cuts = 0
    keys = set()
    for n in range(1, 40):
        # Before it writes: later and later. After: three steps are enough, since they are not done again; each start
        # takes the board's power too, so fewer would arm the watchdog for ever.
        store = CutStore(workshop.folder / "state", 3 if after else n, after=after)
        try:
            job = workshop.run(board, person, store=store)
        except KeyboardInterrupt:
            cuts += 1
            keys.add(board.identity("identity.key"))
            continue
        break
    else:
        raise AssertionError(f"{cuts} starts were not enough: {person.heard[-20:]}")
    is_finished(workshop, board, job, person)
    assert cuts >= 4
    assert len(keys - {None}) <= 1
    assert len(workshop.entries()) == 1


def test_a_bad_cable(workshop: Workshop, board: SimBoard, person: Person) -> None:
    """A kernel's log and random bytes between frames, lost bytes, everything echoed."""
    board.cable.garbage, board.cable.lose, board.cable.echo = 0.5, 0.15, True
    job = workshop.run(board, person)
    is_finished(workshop, board, job, person)


def test_the_adapter_is_pulled_out(workshop: Workshop, board: SimBoard, person: Person) -> None:
    left = {"Regardez les voyants", "clé créée"}

    def pull(text: str) -> None:
        if text in left:
            left.remove(text)
            board.disconnect()
            threading.Timer(1.0, board.connect).start()

    person.hands += [(text, partial(pull, text)) for text in sorted(left)]
    job = workshop.run(board, person)
    is_finished(workshop, board, job, person)
    assert any("liaison série interrompue" in text for text in person.heard)


# -- flashing


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


def interrupt() -> None:
    raise KeyboardInterrupt


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


# -- boards that are not fit


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ({"lost": {"eth1": 3}}, "frames-lost"),
        ({"watchdog_dead": True}, "no-reset"),
        ({"button_silent": True}, "button-silent"),
        ({"model": "vigie-other"}, "wrong-image"),
    ],
)
def test_a_bad_board_is_parked(
    workshop: Workshop, board: SimBoard, person: Person, faults: dict[str, object], code: str
) -> None:
    board.faults(faults)
    job = workshop.run(board, person)
    assert job.parked is not None, person.heard
    assert job.parked.code == code
    assert any(text.startswith(f"! Carte {job.serial} mise de côté") for text in person.heard)
    assert workshop.entries() == ()
    assert board.identity("identity.key") is None


def test_a_parked_board_is_mended(workshop: Workshop, board: SimBoard, person: Person) -> None:
    """It goes on where it was, plugged in by its serial cable alone."""
    board.faults({"watchdog_dead": True})
    job = workshop.run(board, person)
    assert job.parked is not None
    board.faults({})
    workshop.store.write(job.unpark(1))
    board.cycle()
    is_finished(workshop, board, workshop.run(board, Person(answers=person.answers)), person)


def test_nobody_saw_the_lights(workshop: Workshop, board: SimBoard, person: Person) -> None:
    person.answers["voyants"] = False
    job = workshop.run(board, person)
    assert job.parked is not None
    assert job.parked.code == "leds-seen"


def test_a_board_that_finds_itself_unfit(workshop: Workshop, board: SimBoard, person: Person) -> None:
    (board.home / "root/sys/block/mmcblk0/device/life_time").write_text("0x01 0x05\n")
    job = workshop.run(board, person)
    assert job.parked is not None
    assert job.parked.code == "emmc-worn"
    assert "usée" in why(job.parked)


def test_a_board_that_says_nothing(workshop: Workshop, board: SimBoard, person: Person) -> None:
    """Flashed, and the jumper was forgotten: no power, no words."""
    quiet = Person(hands=person.hands[:1], answers={"Attendre encore": False})
    job = workshop.run(board, quiet, boot_s=1.0)
    assert job.parked is not None
    assert job.parked.code == "silent"


def test_another_image_than_written_starts(workshop: Workshop, board: SimBoard, person: Person) -> None:
    def swap() -> None:
        other = workshop.folder / "vigie-cm4-9.9.9.img"
        make_image(other, version="9.9.9")
        with board.emmc.open("r+b") as disk:
            disk.write(other.read_bytes())
        board.on()

    swapped = Person(hands=[person.hands[0], ("Retirez le cavalier", swap)])
    job = workshop.run(board, swapped)
    assert job.parked is not None
    assert job.parked.code == "wrong-image"
    assert "9.9.9" in job.parked.detail
    workshop.store.write(job.unpark(1, rewrite=True))
    is_finished(workshop, board, workshop.run(board, person), person)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """The identity partition is full."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)], check=True)
    try:
        (folder / "lost+found").write_bytes(b"x" * 8192)
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_the_boards_disk_is_full(workshop: Workshop, board: SimBoard, person: Person) -> None:
    with ExitStack() as full:
        fill = [*person.hands, ("bouton", lambda: full.enter_context(small_disk(board.home / "identity")))]
        job = workshop.run(board, Person(hands=fill, answers=person.answers))
    assert job.parked is not None
    assert job.parked.code == "disk-full"
    assert workshop.entries() == ()
    workshop.store.write(job.unpark(1))
    board.cycle()
    is_finished(workshop, board, workshop.run(board, Person(answers=person.answers)), person)


# -- the register


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


# -- machines around it


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


@pytest.fixture
def loop(board: SimBoard) -> Iterator[str]:
    """The eMMC's file behind a real loop device."""
    made = subprocess.run(
        ["losetup", "--find", "--show", "--partscan", str(board.emmc)], check=True, capture_output=True, text=True
    )
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


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
