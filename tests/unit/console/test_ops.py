"""Retention, what doctor says, what init refuses before it makes anything."""

from __future__ import annotations

import dataclasses
import sqlite3
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from tests.support.messages import Outbox, alert, box_id
from vigie_department import cli
from vigie_department import config as configuration
from vigie_department.config import Config, Retention
from vigie_department.console.models import (
    Alert,
    AuditEntry,
    Box,
    Cursor,
    DesiredState,
    Outgoing,
    Receipt,
)
from vigie_department.console.services import audit
from vigie_department.errors import BackupError, ConfigError, DepartmentError, StateError, UsageError
from vigie_department.ingest.decode import decode
from vigie_department.ingest.store import Store
from vigie_department.ops import backup, doctor, init, restore, retain

PHRASES = tuple(f"phrase numero {number}" for number in range(7))


@pytest.mark.usefixtures("db")
class TestRetain:
    def test_what_is_old_goes_and_the_rest_stays(self) -> None:
        box = Box.objects.create(id=box_id("r"))
        outbox = Outbox(box.pk)
        now = timezone.now()
        for days in (1, 400):
            topic, payload = outbox.message("alert", alert(outbox.seq + 1, first=0, last=0))
            Store().write([decode(topic, payload)], now - timedelta(days=days))
        done = retain.run(audit.INGEST, Retention(), dry=True)
        assert (done["alerts"], Alert.objects.count()) == (1, 2)
        done = retain.run(audit.INGEST, Retention())
        assert (done["alerts"], Alert.objects.count()) == (1, 1)
        assert AuditEntry.objects.get(action="retain").detail == {"rows": {"alerts": 1, "receipts": 1}}

    def test_an_old_alert_that_still_grows_stays(self) -> None:
        box = Box.objects.create(id=box_id("r"))
        topic, payload = Outbox(box.pk).message("alert", alert())
        Store().write([decode(topic, payload)], timezone.now() - timedelta(days=400))
        assert retain.run(audit.INGEST, Retention())["alerts"] == 0

    def test_the_document_in_force_stays_however_old(self) -> None:
        box = Box.objects.create(id=box_id("r"))
        old = timezone.now() - timedelta(days=900)
        for version in (1, 2):
            DesiredState.objects.create(
                box=box, version=version, issued=old, expires=old, payload={}, envelope=b"", digest="", operator="a"
            )
        assert retain.run(audit.INGEST, Retention())["documents"] == 1
        assert DesiredState.objects.get().version == 2

    def test_the_audit_keeps_half_a_year_whatever_is_asked(self) -> None:
        for days in (100, 300):
            AuditEntry.objects.create(at=timezone.now() - timedelta(days=days), actor="a", action="x")
        assert retain.run(audit.INGEST, dataclasses.replace(Retention(), audit=1))["audit"] == 1

    def test_an_order_that_waits_is_never_forgotten(self) -> None:
        old = timezone.now() - timedelta(days=400)
        for sent in (None, old):
            Outgoing.objects.create(topic="t", payload=b"", created=old, sent=sent)
        assert retain.run(audit.INGEST, Retention())["outgoing"] == 1
        assert Outgoing.objects.get().sent is None

    def test_a_box_that_comes_back_after_its_receipt_went_is_understood(self) -> None:
        box = Box.objects.create(id=box_id("r"))
        outbox = Outbox(box.pk)
        Store().write([decode(*outbox.message("alert", alert(1)))], timezone.now() - timedelta(days=500))
        retain.run(audit.INGEST, Retention())
        assert not Receipt.objects.exists()
        topic, payload = outbox.message("alert", alert(2), prev=0)
        assert Store().write([decode(topic, payload)]) == {(box.pk, outbox.boot): 2}


@pytest.mark.usefixtures("db")
class TestDoctor:
    def findings(self, config: Config, check: Any) -> list[doctor.Finding]:
        return list(check(config))

    def test_a_dead_service_is_a_finding_and_hides_nothing(self, config: Config) -> None:
        found = {finding.check: finding for finding in doctor.run(config)}
        for name in ("authority", "signer", "broker", "ingest", "backup", "certificates"):
            assert not found[name].ok, found[name]
            assert found[name].todo, found[name]
        assert found["database"].ok, found["database"]

    def test_an_ingest_that_cannot_reach_its_servers_says_which(self, config: Config) -> None:
        detail = {"rows": 3, "waiting": 9, "broker": "refused", "problems": {"authority": "away"}, "refused": 0}
        Cursor.objects.create(name="ingest", detail=detail, updated=timezone.now())
        [ingest, *_] = self.findings(config, doctor._ingest)
        assert not ingest.ok
        assert "refused" in ingest.text
        assert "away" in ingest.text
        Cursor.objects.update(detail=detail | {"broker": "", "problems": {}})
        assert self.findings(config, doctor._ingest)[0].ok
        Cursor.objects.update(updated=timezone.now() - timedelta(minutes=5))
        assert not self.findings(config, doctor._ingest)[0].ok

    def test_orders_that_do_not_leave(self, config: Config) -> None:
        Outgoing.objects.create(topic="t", payload=b"", created=timezone.now())
        assert self.findings(config, doctor._ingest)[-1].check == "ingest", "nothing else is known without a heartbeat"
        detail = {"rows": 0, "waiting": 0, "broker": "", "problems": {}, "refused": 0}
        Cursor.objects.create(name="ingest", detail=detail, updated=timezone.now())
        found = {finding.check: finding for finding in self.findings(config, doctor._ingest)}
        assert found["outgoing"].ok
        Outgoing.objects.update(created=timezone.now() - timedelta(minutes=6))
        found = {finding.check: finding for finding in self.findings(config, doctor._ingest)}
        assert not found["outgoing"].ok

    def test_a_password_in_the_configuration_is_seen(self, config: Config) -> None:
        told = dataclasses.replace(config, database="postgresql://vigie:secret@db.example/vigie")
        [found, *_] = self.findings(told, doctor._configuration)
        assert not found.ok
        assert "secret" not in found.text


class TestInit:
    def request(self, root: Path, **changes: Any) -> init.Request:
        values: dict[str, Any] = {
            "text": configuration.render("vigie.lab", root=root),
            "path": configuration.file_of(root),
            "passphrases": PHRASES,
            "administrator": "admin",
            "password": "correct horse battery",
        }
        return init.Request(**values | changes)

    @pytest.mark.parametrize(
        ("changes", "kind"),
        [
            ({"passphrases": PHRASES[:6]}, UsageError),
            ({"passphrases": (*PHRASES[:6], "short")}, UsageError),
            ({"passphrases": (*PHRASES[:6], PHRASES[0])}, UsageError),
            ({"password": "short"}, UsageError),
            ({"text": 'domain = "x"'}, ConfigError),
        ],
    )
    def test_what_can_be_known_before_is_refused_before(
        self, tmp_path: Path, changes: dict[str, Any], kind: type[DepartmentError]
    ) -> None:
        with pytest.raises(kind):
            init.run(self.request(tmp_path / "d", **changes), tell=lambda line: None)
        assert not (tmp_path / "d").exists()

    @pytest.mark.parametrize("place", ["etc/department.toml", "state/authority/ca/root.key", "offline/keyholder-1.pem"])
    def test_nothing_is_overwritten(self, tmp_path: Path, place: str) -> None:
        there = tmp_path / place
        there.parent.mkdir(parents=True)
        there.write_text("")
        with pytest.raises(StateError, match="rien"):
            init.run(self.request(tmp_path), tell=lambda line: None)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [there]


class TestArchive:
    def write(self, path: Path, change: Callable[[tarfile.TarFile, backup.Writer], None]) -> Path:
        with tarfile.open(path, "w") as tar:
            change(tar, backup.Writer(tar))
        return path

    def refused(self, tmp_path: Path, change: Callable[[tarfile.TarFile, backup.Writer], None]) -> None:
        path = self.write(tmp_path / "a.tar", change)
        with pytest.raises(BackupError):
            restore.unpack(path, tmp_path / "out")
        assert not (tmp_path / "evil").exists()

    def test_names_that_leave_the_folder(self, tmp_path: Path) -> None:
        for name in ("../evil", "/etc/evil", "a/../../evil", "a//b", "é"):
            self.refused(tmp_path, lambda _tar, writer, name=name: writer.data(name, b"x"))

    def test_links_and_devices(self, tmp_path: Path) -> None:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):

            def change(tar: tarfile.TarFile, _writer: backup.Writer, kind: bytes = kind) -> None:
                info = tarfile.TarInfo("link")
                info.type, info.linkname = kind, "/etc/passwd"
                tar.addfile(info)

            self.refused(tmp_path, change)

    def test_what_is_no_archive(self, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_bytes(b"x" * 2000)
        with pytest.raises(BackupError):
            restore.unpack(tmp_path / "a.tar", tmp_path)
        with pytest.raises(BackupError):
            restore.unpack(tmp_path / "none.tar", tmp_path)

    def test_a_file_that_grows_while_it_is_read(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_bytes(b"a" * 100)
        with log.open("rb") as source:
            part = backup._Hashed(source, 100)
            with log.open("ab") as more:
                more.write(b"b" * 100)
            assert part.read(60) + part.read(60) + part.read(60) == b"a" * 100

    def test_the_newest_is_found(self, tmp_path: Path) -> None:
        assert backup.latest(tmp_path / "none") is None
        for name in ("vigie-20261101T000000Z.tar", "vigie-20261122T000000Z.tar", ".vigie-20270101T000000Z.tar.part"):
            (tmp_path / name).touch()
        found = backup.latest(tmp_path)
        assert found is not None
        assert found.name == "vigie-20261122T000000Z.tar"


class TestCommandLine:
    def test_errors_are_sentences(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["--root", str(tmp_path), "box", "list"]) == 2
        assert "vigie-department init" in capsys.readouterr().err

    def test_the_place_is_taken_anywhere_on_the_line(
        self, config: Config, db: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for words in (
            ["--config", str(config.path), "box", "list", "--json"],
            ["box", "--config", str(config.path), "list", "--json"],
            ["box", "list", "--json", f"--config={config.path}"],
        ):
            assert cli.main(words) == 0
            assert capsys.readouterr().out.strip() == "[]"

    def test_an_unknown_box(self, config: Config, db: None, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["--config", str(config.path), "box", "show", "vg-nobody"]) == 2
        assert "vg-nobody" in capsys.readouterr().err

    def test_looking_at_a_box_is_a_consultation(
        self, config: Config, db: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Box.objects.create(id=box_id("cli"))
        assert cli.main(["--config", str(config.path), "box", "show", box_id("cli")]) == 0
        assert box_id("cli") in capsys.readouterr().out
        entry = AuditEntry.objects.get(action="box.show")
        assert entry.actor.endswith("@shell")

    def test_every_command_has_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        for words in (["--help"], ["box", "--help"], ["isolate", "--help"], ["init", "--help"], ["backup", "--help"]):
            with pytest.raises(SystemExit) as left:
                cli.main(words)
            assert left.value.code == 0
            assert capsys.readouterr().out


def test_sqlite_keeps_a_commit_through_a_power_cut(config: Config) -> None:
    """Boxes delete what we say we have: WAL alone does not flush at each commit."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous")
        assert cursor.fetchone() == (2,)
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)
    assert sqlite3.sqlite_version_info >= (3, 35)
