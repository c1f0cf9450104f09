"""A board from an empty eMMC to its label, with power cuts and a bad cable on the way."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest

from tests.integration.factory.conftest import Person, Workshop, is_finished
from tests.support.simboard import P7, P7_SIZE, SimBoard
from vigie.contract.bench import Question
from vigie_provisioning.factory.jobs import Job
from vigie_provisioning.factory.jobstore import JobStore

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


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
    left = {"Regardez les voyants", "va redémarrer d'elle-même", "clé créée"}

    def pull(text: str) -> None:
        """Once at each of these steps; a second later it is plugged in again."""
        if text in left:
            left.remove(text)
            board.disconnect()
            threading.Timer(1.0, board.connect).start()

    person.hands += [(text, partial(pull, text)) for text in sorted(left)]
    job = workshop.run(board, person)
    is_finished(workshop, board, job, person)
    assert not left
    assert sum("liaison série interrompue" in text for text in person.heard) >= 2
    assert len(workshop.entries()) == 1
