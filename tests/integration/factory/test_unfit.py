"""Boards that are not fit: put aside with the reason, mended, taken up again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.integration.factory.conftest import Person, Workshop, is_finished
from tests.support.simboard import SimBoard, make_image
from vigie_provisioning.factory.words import why

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


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
