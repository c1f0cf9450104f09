"""A rollout whose department is killed again and again in the middle of its orders: real processes, real signatures."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import department
from tests.support.ingest import Databases
from tests.support.postgres import Postgres
from tests.support.rolloutfleet import BOXES, GOAL, OLD, publish
from vigie_department.config import Config
from vigie_department.errors import UnavailableError
from vigie_department.signer.client import Signer

# some twenty processes of Django each: a machine that is busy needs minutes for them
pytestmark = pytest.mark.timeout(1200)

PROGRAM = Path(sys.executable).with_name("vigie-department")
ROOT = Path(__file__).parents[3]
WAVES = (6, 28, 70)
READY_S = 120.0


@dataclass
class Place:
    """The department, and what a test does to it."""

    config: Config
    postgres: Postgres | None
    daemon: subprocess.Popen[bytes] | None = None
    kills: list[int] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "VIGIE_DEPARTMENT_CONFIG": str(self.config.path), "VIGIE_LANG": "fr"}

    def command(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run([PROGRAM, *words], env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode in codes, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start_signer(self) -> None:
        self.config.paths.run.mkdir(parents=True, exist_ok=True)
        with (self.config.paths.run / "signer.log").open("ab") as log:
            self.daemon = subprocess.Popen([PROGRAM, "signer"], env=self.environment, stderr=log)
        deadline = time.monotonic() + READY_S
        while True:
            try:
                Signer(self.config.paths.signer_socket).status()
                return
            except UnavailableError as error:
                assert self.daemon.poll() is None, "the signer does not run"
                assert time.monotonic() < deadline, f"the signer does not answer: {error}"
                time.sleep(0.05)

    def kill_signer(self) -> None:
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait(60)
        self.daemon = None

    def query(self, text: str) -> list[tuple[Any, ...]]:
        if self.postgres is not None:
            return self.postgres.query(text)
        with contextlib.closing(sqlite3.connect(self.config.paths.data / "console.db", timeout=60)) as db, db:
            return db.execute(text).fetchall()

    def number(self, text: str) -> int:
        return int(self.query(text)[0][0])

    def status(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.command("rollout", "status", "--json"))
        return shown

    def tick_killed_after(self, documents: int) -> None:
        """SIGKILL once so many more documents are committed: somewhere in the middle of the next one."""
        before = self.number("SELECT count(*) FROM console_desiredstate")
        with subprocess.Popen([PROGRAM, "rollout", "tick"], env=self.environment, stdout=subprocess.DEVNULL) as tick:
            while self.number("SELECT count(*) FROM console_desiredstate") < before + documents:
                assert tick.poll() is None, "the tick ended before it was killed"
                time.sleep(0.01)
            tick.send_signal(signal.SIGKILL)
            assert tick.wait(60) == -signal.SIGKILL
        self.kills.append(self.number("SELECT count(*) FROM console_desiredstate") - before)

    def obey(self) -> None:
        """Every box that was told runs the release and says so."""
        self.query(
            f"UPDATE console_boxstatus SET version = '{GOAL}', firmware_phase = 'good', firmware_order = 1 "  # noqa: S608
            "WHERE box_id IN (SELECT box_id FROM console_firmwareorder WHERE version <> '')"
        )

    def check(self) -> None:
        """At any instant, whatever was killed: what is stored agrees with itself."""
        ahead = (
            "SELECT count(*) FROM console_rolloutbox b JOIN console_rollout r ON r.id = b.rollout_id "
            'WHERE b."order" > 0 AND b.wave > r.wave'
        )
        assert self.number(ahead) == 0, "a box was told before its wave"
        orders = {box: (version, number) for box, version, number in self.query(
            'SELECT box_id, version, "order" FROM console_firmwareorder'
        )}  # fmt: skip
        documents: dict[str, Any] = {}
        envelopes = 0
        for box, payload in self.query("SELECT box_id, payload FROM console_desiredstate ORDER BY version"):
            documents[box] = payload if isinstance(payload, dict) else json.loads(payload)
            envelopes += 1
        told = {box: (one["firmware"]["version"], one["firmware"]["order"]) for box, one in documents.items()}
        assert told == orders
        assert {number for _version, number in orders.values()} <= {1}
        told_rows = self.number('SELECT count(*) FROM console_rolloutbox WHERE "order" = 1')
        audited = "SELECT count(*) FROM console_auditentry WHERE action = "
        assert (
            len(orders)
            == told_rows
            == envelopes
            == self.number("SELECT count(*) FROM console_outgoing")
            == self.number(f"{audited}'firmware.order'")
            == self.number(f"{audited}'desired.sign'")
        )


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[Place]:
    server, url = databases.postgresql() if request.param == "postgresql" else (None, "")
    config = department.write(
        tmp_path / "d",
        top={"database": url} if url else {},
        signer={"firmware_burst": 2000, "firmware_per_hour": 2000},
    )
    if server is None:
        databases.sqlite(config.paths.data / "console.db")
    publish(config, {OLD: None, GOAL: None})
    made = Place(config, server)
    fill = [sys.executable, "-m", "tests.support.rollout_program", str(config.path), str(BOXES)]
    subprocess.run(fill, cwd=ROOT, check=True)
    made.start_signer()
    yield made
    if made.daemon is not None:
        made.kill_signer()


def test_killed_in_the_middle(place: Place) -> None:
    rng = random.Random(21)
    quick = ("--observe-hours", "0", "--in-flight", "1000")
    place.command(
        "rollout", "plan", str(GOAL), "--wave", "6", "--wave", "5%", "--wave", "15%", *quick, "--why", "essai"
    )
    place.command("rollout", "start", str(GOAL), "--why", "essai")
    for wave, size in enumerate(WAVES):
        for _kill in range((1, 2, 3)[wave]):
            place.tick_killed_after(rng.randint(1, size // 6 or 1))
            place.check()
        if wave == 2:
            # the signer too: the tick says so, and the next one goes on
            with subprocess.Popen([PROGRAM, "rollout", "tick"], env=place.environment, stdout=subprocess.PIPE) as tick:
                before = place.number("SELECT count(*) FROM console_desiredstate")
                while place.number("SELECT count(*) FROM console_desiredstate") < before + 5:
                    assert tick.poll() is None
                    time.sleep(0.01)
                place.kill_signer()
                said, _nothing = tick.communicate(timeout=120)
            assert tick.returncode == 0
            assert b"signer" in said
            place.check()
            place.start_signer()
        place.command("rollout", "tick")
        place.check()
        assert place.query("SELECT stage, wave FROM console_rollout") == [("running", wave)]
        assert place.number("SELECT count(*) FROM console_firmwareorder") == sum(WAVES[: wave + 1])
        place.obey()
    assert len(place.kills) == 6
    shown = place.status()
    assert (shown["stage"], shown["wave"], shown["boxes"]) == ("running", 3, BOXES)
    place.command("log", "verify")


def test_a_bad_release_stops_although_the_department_is_killed(place: Place) -> None:
    place.command("rollout", "plan", str(GOAL), "--observe-hours", "0", "--why", "essai")
    place.command("rollout", "start", str(GOAL), "--why", "essai")
    place.tick_killed_after(2)
    place.command("rollout", "tick")
    place.check()
    assert place.number("SELECT count(*) FROM console_firmwareorder") == 6
    place.query(
        "UPDATE console_boxstatus SET firmware_phase = 'rolled-back', firmware_order = 1, firmware_code = 'unhealthy', "
        "firmware_check = 'forward' WHERE box_id IN (SELECT box_id FROM console_firmwareorder)"
    )
    # killed while it takes the orders back: the stop itself is committed before
    place.tick_killed_after(1)
    assert place.status()["stage"] == "stopped"
    place.command("rollout", "tick", codes=(1,))
    assert place.number("SELECT count(*) FROM console_firmwareorder WHERE version <> ''") == 0
    assert place.number("SELECT count(*) FROM console_rolloutbox WHERE stands") == 0
    # 6 of 698 boxes, 0.9 %, ever heard of it
    assert place.number('SELECT count(*) FROM console_rolloutbox WHERE "order" > 0') == 6
    for box, payload in place.query("SELECT box_id, payload FROM console_desiredstate ORDER BY version"):
        last = payload if isinstance(payload, dict) else json.loads(payload)
        assert last["box"] == box
    assert place.number("SELECT count(*) FROM console_desiredstate") == 12
    assert "firmware" not in last
    assert "arrêt à" in place.status()["reason"]
