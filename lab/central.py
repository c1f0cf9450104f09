"""What the department does in the scenario: publishes, orders, and looks at what has arrived."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import plan
from lab.base import own_feed
from lab.capture import Capture
from lab.department import Department
from lab.errors import LabError
from lab.netns import Result
from vigie_department.console import database

OPERATORS = ("alix", "camille")
PASSPHRASE = "phrase des operateurs du labo"  # noqa: S105 - of keys that live for one run
COMPILE_S = 300.0


@dataclass
class Central:
    """`department`, initialised and running; sources: the lists that its base is made of."""

    department: Department
    sources: tuple[Path, ...]
    folder: Path
    versions: list[int] = field(default_factory=list)
    capture: Capture = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=0o755)
        self.capture = Capture(self.department.config)

    def cli(self, *argv: str, timeout: float = 60.0) -> Result:
        """As the person who runs the server does; commands of the base as the publisher."""
        user = self.department.config.users.publisher if argv[0] == "base" else ""
        return self.department.cli(*argv, timeout=timeout, user=user)

    # -- the base -----------------------------------------------------------------------------------

    def make_operators(self) -> None:
        """Two people who can approve an emergency."""
        phrase = self._phrase()
        for name in OPERATORS:
            key = str(self.folder / f"{name}.pem")
            self.cli("operator", "add", name, "--key", key, "--passphrase-file", str(phrase)).require()

    def prepare(self, *addresses: str, least: int = 0) -> int:
        """Compile a base of the sources and these addresses; nothing leaves yet. Its version."""
        feed = own_feed(self.folder, "lab-central", *addresses)
        argv = ["base", "publish", *map(str, [*self.sources, feed]), "--prepare", "--as", OPERATORS[0]]
        argv += ["--least", str(least)] if least else []
        self.cli(*argv, timeout=COMPILE_S).require()
        version = int(max(row["version"] for row in self.releases()))
        self.versions.append(version)
        return version

    def release(self, version: int) -> float:
        """To every box at once, approved by two operators. When it was in the repository (time.time())."""
        self.cli("base", "resume", str(version), "--emergency", "--as", OPERATORS[0]).require()
        phrase = str(self._phrase())
        (row,) = [row for row in self.releases() if row["version"] == version]
        for name in OPERATORS:
            key = str(self.folder / f"{name}.pem")
            self.cli("approve", row["approval"], "--as", name, "--key", key, "--passphrase-file", phrase).require()
        self.cli("base", "tick")
        (row,) = [row for row in self.releases() if row["version"] == version]
        if row["stage"] != "all":
            raise AssertionError(f"base {version} is not released to all: {row}\n{self.cli('base', 'status').evidence}")
        return (self.department.config.paths.repository / "metadata" / "timestamp.json").stat().st_mtime

    def releases(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.cli("base", "status", "--json").require().out)["releases"]
        return found

    def _phrase(self) -> Path:
        path = self.folder / "passphrase"
        path.touch(mode=0o600)
        path.write_text(PASSPHRASE + "\n")
        return path

    # -- what has arrived ---------------------------------------------------------------------------

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """From the department's database, as another process sees it."""
        path = database.sqlite_path(self.department.config)
        if path is None:
            raise LabError("the lab looks into SQLite only")
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        connection.row_factory = sqlite3.Row
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def alerts(self, box: str, indicator: str = "") -> list[sqlite3.Row]:
        """Of that box, about that indicator."""
        more, values = (" AND indicator = ?", [indicator]) if indicator else ("", [])
        return self.rows(f"SELECT * FROM console_alert WHERE box_id = ?{more} ORDER BY id", box, *values)  # noqa: S608

    def wait_rows(self, query: str, *values: Any, seconds: float = 20.0) -> tuple[list[sqlite3.Row], float]:
        """The rows once there are some, and how long that took (s)."""
        start = time.monotonic()
        while not (found := self.rows(query, *values)):
            if time.monotonic() - start > seconds:
                raise AssertionError(f"nothing within {seconds} s: {query} {values}\n{self.department.log('ingest')}")
            time.sleep(0.02)
        return found, time.monotonic() - start

    def ordered(self, box: str) -> float:
        """When the last document for that box was signed and queued (time.time())."""
        topic = f"vigie/v1/{box}/down/desired"
        query = (
            "SELECT strftime('%s', created) + 0 AS s, created FROM console_outgoing WHERE topic = ? ORDER BY id DESC"
        )
        (row, *_) = self.wait_rows(query, topic)[0]
        return float(row["s"]) + float("0." + (str(row["created"]).partition(".")[2] or "0"))


def scenario_words(indicators: plan.Indicators) -> Iterable[str]:
    """Names, addresses and MACs of the scenario that no base lists: none of them may leave the town hall."""
    listed = {indicators.toxic4, indicators.toxic6, *indicators.toxic_names}
    listed |= {word for site in (plan.CENTRAL, plan.RELEASED, plan.VENDOR) for word in (site.v4, site.v6)}
    for site in indicators.sites:
        yield from (word for word in (*site.names, site.v4, site.v6) if word not in listed)
    for name in plan.HOSTS:
        yield from (plan.host4(name), plan.host6(name))
    yield from (
        plan.BOX4,
        plan.BOX6,
        plan.GATEWAY4,
        plan.GATEWAY6,
        plan.WAN4,
        plan.WAN6,
        plan.LAN6_PREFIX,
        "192.168.1.",
    )
    for mac in plan.MACS.values():
        yield from (mac, mac.replace(":", ""), mac.replace(":", "-"))
