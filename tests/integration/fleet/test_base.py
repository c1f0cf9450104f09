"""From feeds to what a box blocks: released by the department's commands, fetched through nginx, judged by the box."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lab.base import own_feed
from lab.department import KEYHOLDERS
from tests.integration.fleet.box_side import BoxSide
from tests.integration.fleet.conftest import Town
from tests.integration.fleet.filter_side import BUILTIN
from vigie.contract.base import CURRENT, Descriptor, ring
from vigie.update.codes import Code

OPERATORS = ("alice", "bob")
WAVE = 5
LISTED = [*BUILTIN, *(f"45.50.{i}.{i}" for i in range(1, 60))]


@dataclass
class Publisher:
    """The person at the department who publishes bases."""

    town: Town
    folder: Path
    made: list[int] = field(default_factory=list)

    def run(self, *words: str, code: int = 0) -> str:
        done = self.town.department.cli(*words, timeout=120)
        assert done.code == code, done.evidence
        return done.out + done.err

    def feed(self, *more: str) -> str:
        return str(own_feed(self.folder, "list", *LISTED, *more))

    def add_operators(self) -> None:
        (self.folder / "phrase").write_text("la phrase des operateurs\n")
        for name in OPERATORS:
            key = str(self.folder / f"{name}.pem")
            self.run("operator", "add", name, "--key", key, "--passphrase-file", str(self.folder / "phrase"))

    def publish(self, *more: str, argv: tuple[str, ...] = ()) -> int:
        """`base publish` of the list and more; the version of the new base."""
        self.run("base", "publish", self.feed(*more), "--as", OPERATORS[0], *argv)
        return self.newest["version"]

    def to_all(self, version: int) -> None:
        """With two operators."""
        text = self.run("base", "advance", "--emergency", "--as", OPERATORS[0])
        self.approve(text.split("approve ")[1].split()[0])
        assert self.stages[version] == "all", self.run("base", "status")

    def approve(self, number: str, *names: str) -> None:
        for name in names or OPERATORS:
            key, phrase = str(self.folder / f"{name}.pem"), str(self.folder / "phrase")
            self.run("approve", number, "--as", name, "--key", key, "--passphrase-file", phrase)

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("base", "status", "--json"))["releases"]
        return found

    @property
    def newest(self) -> dict[str, Any]:
        return max(self.rows, key=lambda row: int(row["version"]))

    @property
    def stages(self) -> dict[int, str]:
        return {row["version"]: row["stage"] for row in self.rows}


@pytest.fixture(scope="module")
def publisher(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    made = Publisher(town, tmp_path_factory.mktemp("publisher"))
    made.add_operators()
    return made


@pytest.fixture
def updating(box: BoxSide) -> BoxSide:
    """A connected box whose updater runs and waits for announcements: its own next look is ten minutes away."""
    box.start("update")
    box.until(lambda: bool(box.update_status.get("at")), "looked once")
    return box


def in_force(box: BoxSide, version: int, way: str = "") -> None:
    """Until the filter has it, and the updater says so."""
    box.until(lambda: box.filter.version == version, f"base {version}")
    box.until(lambda: box.update_status.get("version") == version, f"updater: base {version}")
    if way:
        assert box.update_status["way"] == way, box.evidence()


def wave_of(box: BoxSide, above: int, *, early: bool) -> int:
    """A version above the given one for which this box is (or is not) among the first."""
    return next(v for v in range(above + 1, above + 2000) if (ring(box.name, v) < WAVE) is early)


def test_full_then_delta_candidate_wave_revert_and_an_old_announcement(
    town: Town, publisher: Publisher, updating: BoxSide, new_box: Callable[[], BoxSide]
) -> None:
    box = updating
    volunteer = new_box()
    volunteer.enrol()
    volunteer.start("link", "update")
    make_volunteer(town, publisher, volunteer)

    first = publisher.publish()
    publisher.to_all(first)
    for one in (box, volunteer):
        in_force(one, first, "loaded")
        assert one.filter.blocks("45.50.3.3") == "BLOCK"

    # to the volunteers, who only observe; the others wait
    late = wave_of(box, first + 1, early=False)
    second = publisher.publish("45.60.1.1", argv=("--least", str(late - 1)))
    assert (second, publisher.newest["stage"]) == (late, "candidate"), publisher.rows
    candidate = int(publisher.newest["candidate"])
    in_force(volunteer, candidate, "patched")
    assert volunteer.filter.blocks("45.60.1.1") == "OBSERVE"
    assert volunteer.update_status["candidate"] is True
    assert box.look()["version"] == first

    # to 5 %: this box is not among them
    publisher.run("base", "advance", "--as", OPERATORS[0])
    assert publisher.stages[second] == "wave"
    assert box.look()["code"] == Code.UP_TO_DATE
    assert box.filter.version == first
    assert box.filter.blocks("45.60.1.1") != "BLOCK"
    publisher.to_all(second)
    in_force(box, second, "patched")
    in_force(volunteer, second)
    for one in (box, volunteer):
        assert one.filter.blocks("45.60.1.1") == "BLOCK"

    # a base for which this box is among the first 5 %
    early = wave_of(box, second + 1, early=True)
    third = publisher.publish("45.60.1.1", "45.60.2.2", argv=("--least", str(early - 1)))
    publisher.run("base", "advance", "--as", OPERATORS[0])
    in_force(box, third, "patched")

    # it was a mistake
    publisher.run("base", "revert", "--as", OPERATORS[0])
    fourth = publisher.newest["version"]
    in_force(box, fourth)
    assert box.filter.blocks("45.60.2.2") != "BLOCK"
    assert box.filter.blocks("45.60.1.1") == "BLOCK"
    box.until(lambda: reported(town, box) == fourth, "the department sees the version in force")

    # a broker that announces what is long past
    for version in (first, third, 10**6):
        looked = box.update_status["at"]
        announce(town, version)
        box.until(lambda looked=looked: box.update_status["at"] > looked, "looked again")
        assert (box.update_status["code"], box.filter.version) == (Code.UP_TO_DATE, fourth)


def make_volunteer(town: Town, publisher: Publisher, box: BoxSide) -> None:
    """The commune of that box tries candidates."""
    communes = publisher.folder / "communes.csv"
    communes.write_text("insee;nom\n59350;Lille\n", encoding="utf-8")
    publisher.run("commune", "import", str(communes))
    claim = json.loads((box.enrolled.config.paths.identity / "box.json").read_text())["claim_id"]
    with contextlib.closing(sqlite3.connect(database(town), timeout=20)) as db, db:
        db.execute("UPDATE console_commune SET volunteer = 1")
    publisher.run("box", "assign", claim, "59350")
    settings = box.enrolled.config.paths.link / "settings.json"
    box.until(lambda: settings.exists() and json.loads(settings.read_text())["volunteer"], "told that it is one")


def announce(town: Town, version: int) -> None:
    payload = json.dumps({"v": 1, "version": version, "at": 1_700_000_000}).encode()
    with contextlib.closing(sqlite3.connect(database(town), timeout=20)) as db, db:
        db.execute(
            "INSERT INTO console_outgoing (topic, payload, retain, response_topic, correlation, created) "
            "VALUES ('vigie/v1/all/down/base', ?, 0, '', '', '2026-01-01 00:00:00')",
            (payload,),
        )


def database(town: Town) -> Path:
    return town.department.config.paths.data / "console.db"


def reported(town: Town, box: BoxSide) -> int:
    return int(town.rows("SELECT base_version FROM console_boxstatus WHERE box_id = ?", box.name)[0][0] or 0)
