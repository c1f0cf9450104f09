"""A station in front of simulated boards, with answers instead of a person."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.simboard import Bench, SimBoard, make_image
from vigie.contract.bench import Test
from vigie.contract.identity import box_id
from vigie_provisioning.factory import image as images
from vigie_provisioning.factory.disks import Disks
from vigie_provisioning.factory.flash import Device, Target
from vigie_provisioning.factory.jobs import Job
from vigie_provisioning.factory.jobstore import JobStore
from vigie_provisioning.factory.screen import Bar
from vigie_provisioning.factory.station import Run, Station
from vigie_provisioning.factory.stationconfig import StationConfig
from vigie_provisioning.factory.steps import Step
from vigie_provisioning.register import Entry, read_register

DOMAIN = "vigie.lab"


@dataclass
class Person:
    """Does what the station says: the texts are remembered, hands act on them."""

    hands: list[tuple[str, Callable[[], object]]] = field(default_factory=list)
    answers: dict[str, bool] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)

    def _hear(self, text: str) -> None:
        self.heard.append(text)
        for word, act in self.hands:
            if word in text:
                act()

    def say(self, text: str) -> None:
        self._hear(text)

    def do(self, text: str) -> None:
        self._hear(text)

    def good(self, text: str) -> None:
        self._hear(text)

    def bad(self, text: str) -> None:
        self._hear(f"! {text}")

    def ask(self, question: str) -> bool:
        self._hear(question)
        return next((answer for word, answer in self.answers.items() if word in question), "voyants" in question)

    @contextlib.contextmanager
    def bar(self, *, in_bytes: bool) -> Iterator[Bar]:
        yield lambda title, done, of: None


@dataclass
class Workshop:
    """One machine: its disks, its register, its state folder."""

    folder: Path
    bench: Bench
    key: Ed25519PrivateKey
    image: Path

    def config(self, board: SimBoard, **changes: object) -> StationConfig:
        values: dict[str, object] = {
            "department": DOMAIN,
            "image": self.image,
            "port": str(board.port),
            "register": self.folder / "register.jsonl",
            "operator_key": self.folder / "key",
            "state": self.folder / "state",
            "operator": "alice",
            "lot": "L1",
            "rpiboot": (),
            "boot_s": 20.0,
            "again_s": 0.3,
            "patience_s": 4.0,
        }
        return StationConfig(**(values | changes))  # type: ignore[arg-type]

    def station(
        self,
        board: SimBoard,
        person: Person,
        *,
        store: JobStore | None = None,
        target: Callable[[int], Target] = Device,
        disks: Disks | None = None,
        run: Run | None = None,
        **changes: object,
    ) -> Station:
        config = self.config(board, **changes)
        image = images.check(config.image, lambda done, of: None)
        disks = disks or Disks(self.bench.sys, self.bench.dev, self.bench.proc, any_file=True)
        return Station(config, image, self.key, person, disks, store=store, target=target, run=run)

    def run(self, board: SimBoard, person: Person, **changes: object) -> Job:
        """One board by one station."""
        station = self.station(board, person, **changes)  # type: ignore[arg-type]
        try:
            return station.one()
        finally:
            station.close()

    @property
    def store(self) -> JobStore:
        return JobStore(self.folder / "state")

    def entries(self) -> tuple[Entry, ...]:
        path = self.folder / "register.jsonl"
        return read_register(path.read_bytes(), None, path).entries if path.exists() else ()


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    image = tmp_path / "vigie-cm4-1.2.3.img"
    make_image(image)
    return Workshop(tmp_path, Bench(tmp_path / "machine"), Ed25519PrivateKey.generate(), image)


@pytest.fixture
def board(tmp_path: Path, workshop: Workshop) -> Iterator[SimBoard]:
    with SimBoard(tmp_path / "board", workshop.bench).on_the_bench() as board:
        yield board


@pytest.fixture
def person(board: SimBoard) -> Person:
    """Plugs and switches the one board as told."""
    return Person(hands=[("Branchez une carte", board.to_usb), ("Retirez le cavalier", board.on)])


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


def interrupt() -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt
