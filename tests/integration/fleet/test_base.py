"""From feeds to what a box blocks: released by the department's commands, fetched through nginx, judged by the box."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lab.base import own_feed
from tests.integration.fleet.box_side import BoxSide, ahead
from tests.integration.fleet.conftest import Town
from tests.integration.fleet.filter_side import BUILTIN
from tests.unit.base_delta.bases import simple
from vigie.contract.base import CURRENT, Descriptor, File, base_path, ring
from vigie.filter.base.basefile import pack_base
from vigie.update.codes import Code, sentence
from vigie_department.signer import tufstate
from vigie_department.signer.repository import Repository
from vigie_department.signer.store import Store
from vigie_department.signer.tufstate import Days

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
        return int(self.newest["version"])

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
    made.to_all(made.publish())
    return made


@pytest.fixture
def updating(publisher: Publisher, box: BoxSide) -> BoxSide:
    """A connected box that has fetched what is published whole, and waits for announcements: its own next look is ten
    minutes away."""
    box.start("update")
    in_force(box, current(publisher), "loaded")
    return box


def in_force(box: BoxSide, version: int, way: str = "") -> None:
    """Until the filter has it, and the updater says so."""
    box.until(lambda: box.filter.version == version, f"base {version}")
    box.until(lambda: box.update_status.get("version") == version, f"updater: base {version}")
    if way:
        assert box.update_status["way"] == way, box.evidence()


def current(publisher: Publisher) -> int:
    """Version that all boxes are to have."""
    (found,) = (version for version, stage in publisher.stages.items() if stage == "all")
    return found


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

    first = current(publisher)
    for one in (box, volunteer):
        in_force(one, first, "loaded")
        assert one.filter.verdict("45.50.3.3") == "BLOCK"

    # to the volunteers, who only observe; the others wait
    late = wave_of(box, first + 1, early=False)
    second = publisher.publish("45.60.1.1", argv=("--least", str(late - 1)))
    assert (second, publisher.newest["stage"]) == (late, "candidate"), publisher.rows
    candidate = int(publisher.newest["candidate"])
    in_force(volunteer, candidate, "patched")
    assert volunteer.filter.verdict("45.60.1.1") == "OBSERVE"
    assert volunteer.update_status["candidate"] is True
    assert box.look()["version"] == first

    # to 5 %: this box is not among them
    publisher.run("base", "advance", "--as", OPERATORS[0])
    assert publisher.stages[second] == "wave"
    assert box.look()["code"] == Code.UP_TO_DATE
    assert box.filter.version == first
    assert box.filter.verdict("45.60.1.1") == "NONE"
    publisher.to_all(second)
    in_force(box, second, "patched")
    in_force(volunteer, second)
    for one in (box, volunteer):
        assert one.filter.verdict("45.60.1.1") == "BLOCK"

    # a base for which this box is among the first 5 %
    early = wave_of(box, second + 1, early=True)
    third = publisher.publish("45.60.1.1", "45.60.2.2", argv=("--least", str(early - 1)))
    publisher.run("base", "advance", "--as", OPERATORS[0])
    in_force(box, third, "patched")

    # it was a mistake
    publisher.run("base", "revert", "--as", OPERATORS[0])
    fourth = publisher.newest["version"]
    in_force(box, fourth)
    assert box.filter.verdict("45.60.2.2") == "NONE"
    assert box.filter.verdict("45.60.1.1") == "BLOCK"
    box.until(lambda: reported(town, box) == fourth, "the department sees the version in force")

    # a broker that announces what is long past
    for version in (first, third, 10**6):
        announce(town, version)
        looks_again(box)
        assert (box.update_status["code"], box.filter.version) == (Code.UP_TO_DATE, fourth)


def test_an_emergency_wants_two_operators(publisher: Publisher, updating: BoxSide) -> None:
    box = updating
    before = box.filter.version
    publisher.run("base", "publish", publisher.feed("45.70.1.1"), "--emergency", "--as", OPERATORS[0])
    urgent, number = publisher.newest["version"], publisher.newest["approval"]
    assert publisher.stages[urgent] == "waiting"
    publisher.approve(number, OPERATORS[0])
    publisher.approve(number, OPERATORS[0])
    publisher.run("base", "tick")
    assert "approved by 1 operator(s), 2 are needed" in publisher.run("base", "advance", code=1)
    assert (box.look()["version"], publisher.stages[urgent]) == (before, "waiting")
    publisher.approve(number, OPERATORS[1])
    in_force(box, urgent)
    assert box.filter.verdict("45.70.1.1") == "BLOCK"


def test_a_thief_of_the_online_keys_and_then_the_keyholders(
    town: Town, publisher: Publisher, updating: BoxSide
) -> None:
    """Half of the internet, signed as the department signs: the box refuses, unless keyholders lift the limit."""
    box, config = updating, town.department.config
    before = box.filter.version
    wide = simple(before + 1, [*LISTED, "128.0.0.0/1"])
    steal(town, before + 1, pack_base(wide))
    announce(town, before + 1)
    box.until(lambda: box.update_status["code"] == Code.REFUSED, "refused")
    assert "limit-prefix4" in box.update_status["limits"], box.update_status
    assert (box.filter.version, box.filter.verdict("200.1.1.1")) == (before, "NONE"), box.evidence()

    # the department is its own again; the same number with another content
    honest = publisher.publish("45.80.1.1")
    publisher.to_all(honest)
    in_force(box, honest)

    # more than a box takes at once, and meant
    many = [f"45.{i}.0.0/17" for i in range(100, 140)]
    said = publisher.run("base", "publish", publisher.feed(*many), "--as", OPERATORS[0], code=1)
    large = publisher.newest["version"]
    assert "limit-cover4" in said or "boxes would refuse" in said, said
    file = next((config.paths.base / "versions").rglob(f"*{large}*.vgb"))
    phrases = str(town.department.root / "passphrases")
    words = ("--offline", str(config.paths.offline), "--keyholders", "2,4", "--passphrases", phrases)
    publisher.run("keys", "override", str(large), str(file), *words)
    publisher.run("base", "resume", str(large), "--as", OPERATORS[0])
    publisher.to_all(large)
    in_force(box, large, "loaded")
    assert box.filter.verdict("45.110.1.1") == "BLOCK"


def test_metadata_that_expired_half_a_year_ago(town: Town, publisher: Publisher, updating: BoxSide) -> None:
    """The box is switched on after six months in which nobody at the department signed anything."""
    box, department = updating, town.department
    version = box.filter.version
    box.stop("update")
    (box.enrolled.config.paths.run_enrol / "clock.json").unlink()  # as at a reboot: nobody has told the time yet
    for _again in range(2):
        said = box.look(ahead_days=190)
        assert (said["code"], said["version"]) == (Code.EXPIRED, version), said
    assert (box.filter.version, box.filter.verdict("45.50.3.3")) == (version, "BLOCK")
    assert "périmé" in sentence(said["code"])
    department.stop("signer")
    with environment(**ahead(190)):
        department.start("signer")
    try:
        publisher.run("base", "refresh")
        said = box.look(ahead_days=190)
        assert (said["code"], said["version"]) == (Code.UP_TO_DATE, version), said
    finally:
        department.stop("signer")
        department.start("signer")


def steal(town: Town, version: int, data: bytes) -> None:
    """What somebody does who has the keys of the online roles and the web server."""
    config, now = town.department.config, time.time()
    store, repository = Store(config.paths.signer), Repository(config.paths.repository)
    state = tufstate.load(store.tuf)
    added = repository.add(base_path(version), data)
    file = File(version, base_path(version), added.sha256, added.length)
    current = repository.add(CURRENT, Descriptor(file, 100, int(now), None, None, ()).to_bytes())
    files = {**state.base_files(), CURRENT: current, base_path(version): added}
    lies = tufstate.advance(state, store.online_keys(), now, Days(7, 14, 60), state.versions, files)
    repository.publish(lies.files())


@contextlib.contextmanager
def environment(**more: str) -> Iterator[None]:
    """Of processes that are started inside."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def looks_again(box: BoxSide) -> None:
    """Until the updater has looked once more."""
    looked = box.update_status["at"]
    box.until(lambda: bool(box.update_status["at"] > looked), "looked again")


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
