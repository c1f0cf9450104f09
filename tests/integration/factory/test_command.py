"""The station's command as it is typed: configuration file, terminal, loop device, pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.integration.factory.conftest import Workshop
from tests.integration.factory.terminal import Hand, factory, loop_device, plug, terminal
from tests.support.simboard import EMMC, SimBoard, make_image

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
Spoil = Callable[[BinaryIO], object]


@pytest.fixture
def loop(board: SimBoard) -> Iterator[str]:
    with loop_device(board) as name:
        yield name


@pytest.fixture
def config(workshop: Workshop, board: SimBoard) -> Path:
    """station.toml, and the operator's key, made by the command itself."""
    key = workshop.folder / "operator.key"
    done = subprocess.run(
        factory("operator-key", str(key), "--operator", "alice"),
        env={"PATH": "/usr/bin:/bin", "VIGIE_OPERATOR_PASSPHRASE": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file = workshop.folder / "station.toml"
    file.write_text(
        f"""department = "vigie.lab"
image = "{workshop.image}"
port = "{board.port}"
register = "{workshop.folder}/register.jsonl"
operator_key = "{key}"
operator = "alice"
state = "{workshop.folder}/state"
lot = "L1"
rpiboot = []
boot_s = 30
again_s = 0.3
patience_s = 4
"""
    )
    return file


def station(config: Path, *words: str) -> list[str]:
    return factory("station", "--config", str(config), *words)


def hands(board: SimBoard, loop: str) -> tuple[Hand, Hand]:
    """What a person does when told."""
    return ("Branchez une carte", lambda: plug(board, loop)), ("Retirez le cavalier", board.on)


SEEN = "l'un après l'autre ? [o/n]"


def test_a_board(workshop: Workshop, board: SimBoard, loop: str, config: Path) -> None:
    with terminal(workshop.bench, station(config, "--once"), *hands(board, loop)) as person:
        person.until("image vigie-cm4-1.2.3.img")
        person.until(SEEN)
        person.type("peut-être")  # neither yes nor no: asked again
        person.until(SEEN)
        person.type("o")
        person.until(f"Carte VG-{board.chip} terminée")
        assert person.ended() == 0
    assert [entry.serial for entry in workshop.entries()] == [f"VG-{board.chip}"]
    listed = subprocess.run(factory("jobs", "--config", str(config)), capture_output=True, text=True, check=True)
    assert listed.stdout == f"{board.chip}  VG-{board.chip}  terminée\n"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_dry_run_writes_nothing(workshop: Workshop, board: SimBoard, loop: str, config: Path) -> None:
    plug(board, loop)
    with terminal(workshop.bench, factory("jobs", "--config", str(config))) as person:
        assert person.ended() == 0  # makes the /dev of the commands, and the folders of jobs
    before = content(workshop.folder)
    with terminal(workshop.bench, station(config, "--dry-run")) as person:
        person.until("sdx (port 1-2, 0.1 Go) : vigie-cm4-1.2.3.img y serait écrite, numéro VG-0badcafe")
        assert person.ended() == 0
    assert content(workshop.folder) == before


def test_stopped_in_the_middle(workshop: Workshop, board: SimBoard, loop: str, config: Path) -> None:
    """Ctrl-C while it writes and at a question, killed at the button: each time the command says where it goes on."""
    plugs, switches = hands(board, loop)
    with terminal(workshop.bench, station(config), plugs) as person:
        person.until("écriture de")
        person.interrupt()
        person.until("Rien n'est perdu")
        assert person.ended() == 130
    with terminal(workshop.bench, station(config), switches) as person:
        person.until(SEEN)
        person.interrupt()
        assert person.ended() == 130
    with terminal(workshop.bench, station(config)) as person:
        person.until(f"Carte VG-{board.chip} reprise : image écrite.")
        person.until(SEEN)
        person.type("oui")
        person.until("Appuyez")
        person.kill()
    with terminal(workshop.bench, station(config, "--once")) as person:
        person.until(f"Carte VG-{board.chip} terminée")
        assert person.ended() == 0
        assert SEEN not in person.text  # what was answered is not asked again
    assert len(workshop.entries()) == 1


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """A disk with no room, until the block ends."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], check=True)
    filler = folder / "filler"
    try:
        (folder / "register.jsonl").touch()
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
            while stream.write(bytes(4096)):
                pass
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_the_registers_disk_is_full(workshop: Workshop, board: SimBoard, loop: str, config: Path) -> None:
    """The station says so and asks; with room again it goes on with the same board, and registers it once."""
    place = workshop.folder / "small"
    config.write_text(config.read_text().replace(f"{workshop.folder}/register.jsonl", f"{place}/register.jsonl"))
    with full(place), terminal(workshop.bench, station(config), *hands(board, loop)) as person:
        person.until(SEEN)
        person.type("o")
        person.until("register.jsonl: cannot be written (No space left on device); nothing was registered")
        person.until("Reprendre ? [o/n]")
        assert "Traceback" not in person.text
        (place / "filler").unlink()
        person.type("o")
        person.until(f"Carte VG-{board.chip} terminée")
        lines = (place / "register.jsonl").read_bytes().splitlines()
    assert len(lines) == 2  # head, one board


def test_the_stations_disk_is_full(workshop: Workshop, board: SimBoard, loop: str, config: Path) -> None:
    place = workshop.folder / "small"
    config.write_text(config.read_text().replace(f'"{workshop.folder}/state"', f'"{place}/state"'))
    with full(place), terminal(workshop.bench, station(config, "--once"), *hands(board, loop)) as person:
        assert person.ended() == 1
        assert "No space left on device" in person.text
        assert "Traceback" not in person.text


def test_a_mounted_disk_can_be_unmounted_at_once(workshop: Workshop, board: SimBoard, loop: str, config: Path) -> None:
    """In another program's hands: refused; let go: taken up without being unplugged."""
    held = os.open(loop, os.O_RDWR | os.O_EXCL)
    with terminal(workshop.bench, station(config), *hands(board, loop)) as person:
        person.until("is it mounted, are you root?")
        person.until("Reprendre ? [o/n]")
        os.close(held)
        person.type("o")
        person.until("image écrite et relue")
        person.interrupt()
        assert person.ended() == 130


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("vigie-qemu-1.2.3.img", lambda data: None, "est faite pour la carte « qemu »"),
        ("vigie-cm4-1.2.4.img", lambda data: data.truncate(20 << 20), "it was cut short"),
        ("vigie-cm4-1.2.5.img", lambda data: data.write(b"x"), "not an image of Vigie"),
    ],
    ids=["of another board", "cut short", "of somebody else"],
)
def test_a_wrong_image(
    workshop: Workshop, board: SimBoard, loop: str, config: Path, name: str, spoil: Spoil, said: str
) -> None:
    """Known before a board is plugged in."""
    other = workshop.folder / name
    make_image(other)
    with other.open("r+b") as data:
        data.seek(440)
        spoil(data)
    with terminal(workshop.bench, station(config, "--image", str(other))) as person:
        assert person.ended() == 1
        assert said in person.text
        assert "Traceback" not in person.text
    assert board.emmc.read_bytes() == bytes(EMMC)


def test_two_stations(workshop: Workshop, board: SimBoard, loop: str, config: Path) -> None:
    """Two terminals on one machine, each with its port; one register, one state folder."""
    with (
        SimBoard(workshop.folder / "other", workshop.bench, "0badbeef", "1-3", "sdy").on_the_bench() as second,
        loop_device(second) as its_loop,
        terminal(workshop.bench, station(config, "--once", "--usb", "1-2"), *hands(board, loop)) as one,
    ):
        one.until("Branchez une carte")
        words = ("--once", "--usb", "1-3", "--port", str(second.port))
        with terminal(workshop.bench, station(config, *words), *hands(second, its_loop)) as other:
            for person in (one, other):
                person.until(SEEN)
                person.type("o")
            for person, chip in ((one, "0badcafe"), (other, "0badbeef")):
                person.until(f"Carte VG-{chip} terminée")
                assert person.ended() == 0
    assert sorted(entry.serial for entry in workshop.entries()) == ["VG-0badbeef", "VG-0badcafe"]


def test_a_port_that_is_none(workshop: Workshop, config: Path) -> None:
    """Said before the first board: a station that never hears anything would put good boards aside."""
    with terminal(workshop.bench, station(config, "--port", str(config))) as person:
        assert person.ended() == 1
        assert "station.toml: cannot be opened" in person.text
        assert "Branchez" not in person.text
