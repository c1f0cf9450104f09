"""No space left: it is said with a code, nothing is half written or confirmed, and it ends when there is space."""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.integration.fleet.box_side import BoxSide, running
from tests.integration.fleet.conftest import Town
from vigie.enrol.codes import Code
from vigie.enrol.status import State

CHUNK = 4096


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own there, holding what the folder held."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(folder.name + ".aside")
    shutil.copytree(folder, aside, symlinks=True)
    mode = folder.stat().st_mode & 0o7777
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode={mode:o}", "vigie-test", folder], check=True)
    try:
        shutil.copytree(aside, folder, symlinks=True, dirs_exist_ok=True)
        yield folder
    finally:
        # lazily: a test that fails may leave a process of its department there, which ends later
        subprocess.run(["umount", "--lazy", folder], check=True)
        shutil.rmtree(aside)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not one block left inside; one that somebody frees is taken at once."""
    filler, ending, ready = disk / "filler", threading.Event(), threading.Event()

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            while not ending.is_set():
                try:
                    file.write(bytes(CHUNK))
                except OSError as e:
                    assert e.errno == errno.ENOSPC, e
                    ready.set()
                    ending.wait(0.002)

    thread = threading.Thread(target=fill, name="filler")
    thread.start()
    try:
        assert ready.wait(60), "the disk does not fill"
        yield
    finally:
        ending.set()
        thread.join(60)
        filler.unlink()


def test_a_box_that_cannot_write(town: Town) -> None:
    enrolled = town.factory.box()
    state = enrolled.config.paths.state
    with small_disk(state, "24m"), running(town.member(enrolled)) as box:
        enrols(box, state)
        box.start("link")
        box.until_code("connected")
        first = exception(town, box, "before.example")
        box.until(lambda: shown(box) == (first, 1), "in force")
        obeys_later(town, box, state, first)


def enrols(box: BoxSide, disk: Path) -> None:
    """No key that is not on the disk is ever certified."""
    enrolled = box.enrolled
    with full(disk):
        enrolled.until(Code.DISK_FULL)
        assert enrolled.service.machine.code is Code.DISK_FULL
        record = enrolled.record()
        assert (record["state"], record["certificates"]) == ("expected", []), record
        assert not (enrolled.config.paths.enrol / "current").exists()
    box.enrol()
    assert box.enrolled.status.state is State.ENROLLED
    assert len(box.enrolled.record()["certificates"]) == 1  # type: ignore[arg-type]


def obeys_later(town: Town, box: BoxSide, disk: Path, first: int) -> None:
    with full(disk):
        second = exception(town, box, "meanwhile.example")
        box.filter.add_alerts(5)
        box.until(lambda: bool(box.filter.journal.health().problem), "the journal says what is wrong")
        box.processes["link"].wait_for_line("[not-saved]", 30)
        box.stop("link")  # and a restart, with a number of its session that cannot be kept
        box.start("link")
        box.until_code("connected")
        box.processes["link"].wait_for_line("[not-saved]", 30)
        assert shown(box) == (first, 1), f"in force, and nobody can remember it\n{box.evidence()}"
        assert town.alerts(box.name) == (0, 0)
    box.until(lambda: shown(box) == (second, 2), "in force after all")
    box.filter.stop()
    box.filter.start()
    assert shown(box) == (second, 2), "what was in force is on the disk"
    box.until(lambda: town.alerts(box.name) == (5, 5), "told after all")
    box.until(lambda: answer(town, box, second) == "in_force", "answered")
    assert answer(town, box, first) == "in_force"


def exception(town: Town, box: BoxSide, target: str) -> int:
    """Ordered by the department; the version of the document."""
    town.department.cli("exception", "add", target, "--box", box.name, "--for", "1j", "--why", "essai").require()
    return int(town.rows("SELECT max(version) FROM console_desiredstate WHERE box_id = ?", box.name)[0][0])


def shown(box: BoxSide) -> tuple[int, int]:
    """Version and exceptions of the orders in force."""
    found = box.filter.call("department-show")
    return int(found["version"]), int(found["exceptions"])


def answer(town: Town, box: BoxSide, version: int) -> str:
    query = "SELECT result FROM console_desiredstate WHERE box_id = ? AND version = ?"
    return str(town.rows(query, box.name, version)[0][0])


def test_the_departments_disk_is_full(town: Town, box: BoxSide) -> None:
    """Nothing is confirmed that is not committed; the boxes keep it."""
    department, data = town.department, town.department.config.paths.data
    box.filter.add_alerts(50)
    box.until(lambda: town.alerts(box.name) == (50, 50), "the first rows arrive")
    department.stop("ingest")
    with small_disk(data, "16m"):
        department.start("ingest")
        with full(data):
            box.filter.add_alerts(2000)
            ingest = department.processes["ingest"]
            ingest.wait_for_line("nothing is lost, trying again", 30)
            box.until(lambda: box.link_status["outbox"]["resent"] > 0, "nothing is confirmed, so it is sent again")
            assert ingest.running
            confirmed = 2050 - box.filter.waiting
        there = town.alerts(box.name)[0]
        assert confirmed <= there, f"{confirmed} rows confirmed, {there} committed\n{box.evidence()}"
        box.until(lambda: box.filter.waiting == 0, "outbox empty", 60)
        assert town.alerts(box.name) == (2050, 2050)
        assert "the database works again" in ingest.log.read_text()
        department.stop("ingest")
    department.start("ingest")
