"""From `init` to a box's orders, its end, and the department's own: backup, a new server, doctor."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from lab.department import KEYHOLDERS, PASSWORD, Department, open_department
from lab.loopback import Loopback
from tests.integration.enrol.boxes import Box, Factory
from tests.support.certificates import Client
from tests.support.https import Browser
from tests.support.messages import Outbox, alert, state
from tests.support.mqtt import Session
from tests.support.postgres import postgres
from tests.support.servers import eventually
from vigie.contract import dsse
from vigie.contract.downward import Command, Desired
from vigie.contract.trust import SteeringKeys
from vigie.enrol import credentials
from vigie.enrol.codes import Code
from vigie_department import config as configuration


def session(department: Department, box: Box) -> Session:
    """The box's own session with the broker."""
    found = credentials.load(box.config.paths)
    client = Client(box.box_id, found.cert_chain_path, found.key_path, None)  # type: ignore[arg-type]
    roots = str(department.config.paths.pki / "roots.pem")
    topics = tuple(f"vigie/v1/{box.box_id}/down/{order}" for order in ("desired", "command", "received"))
    return Session(client, roots, department.config.mqtt_host, department.config.ports.mqtt, topics=topics)


def ask(department: Department, *argv: str) -> Any:
    """A command's answer."""
    return json.loads(department.cli(*argv, "--json").require().out)


def show(department: Department, box: Box) -> dict[str, Any]:
    found: dict[str, Any] = ask(department, "box", "show", box.box_id)
    return found


def desired(department: Department, payload: bytes) -> Desired:
    """A document as the box reads it: the signature is checked against the trust bundle of `init`."""
    keys = SteeringKeys.from_bytes((department.config.paths.trust / "steering.json").read_bytes())
    return Desired.from_bytes(keys.verify(dsse.Envelope.from_bytes(payload), dsse.DESIRED_TYPE))


def last(heard: list[tuple[str, bytes]], order: str) -> bytes:
    found = [payload for topic, payload in heard if topic.endswith(order)]
    return found[-1] if found else b""


@pytest.fixture(scope="module")
def department() -> Iterator[Department]:
    with open_department() as found:
        yield found


@pytest.fixture(scope="module")
def factory(department: Department, tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return Factory(department, tmp_path_factory.mktemp("boxes"))


def wait_state(department: Department, box: Box, wanted: str) -> None:
    eventually(lambda: show(department, box)["state"] == wanted, lambda: f"{show(department, box)}")


def test_from_label_to_orders(department: Department, factory: Factory, tmp_path: Path) -> None:
    communes = tmp_path / "communes.csv"
    communes.write_text("insee;nom;horaires\n59350;Lille;lu-ve 9h-17h\n", encoding="utf-8")
    department.cli("commune", "import", str(communes)).require()
    box = factory.box()
    claim = json.loads((box.config.paths.identity / "box.json").read_text())["claim_id"]
    eventually(lambda: department.cli("box", "assign", claim, "59350").code == 0, "the register is not pulled")
    wait_state(department, box, "registered")
    box.until(Code.MEMBER)
    wait_state(department, box, "active")
    shown = show(department, box)
    assert shown["commune"] == "Lille (59350)"
    assert [row["state"] for row in shown["certificates"]] == ["active"]

    with session(department, box) as line:
        line.wait(lambda: bool(last(line.heard, "/desired")), "given its first document")
        department.cli(
            "exception", "add", "ok.example", "--box", box.box_id, "--for", "30j", "--why", "essai"
        ).require()
        started = time.monotonic()
        line.wait(
            lambda: last(line.heard, "/desired") != b"" and bool(_targets(department, line)), "told of the exception"
        )
        took = time.monotonic() - started
        document = desired(department, last(line.heard, "/desired"))
        assert [one.target for one in document.exceptions] == ["ok.example"]
        assert [(one.day, one.start) for one in document.settings.hours or ()] == [(day, 540) for day in range(5)]
        print(f"signed by the command to heard by the box: {took:.2f} s")

        sent = ask(department, "command", "self-test", box.box_id)
        line.wait(lambda: bool(last(line.heard, "/command")), "commanded")
        keys = SteeringKeys.from_bytes((department.config.paths.trust / "steering.json").read_bytes())
        envelope = dsse.Envelope.from_bytes(last(line.heard, "/command"))
        command = Command.from_bytes(keys.verify(envelope, dsse.COMMAND_TYPE))
        assert (command.id, command.op, command.box) == (sent["id"], "self-test", box.box_id)
        outbox = Outbox(box.box_id)
        ack = {"order": "command", "id": command.id, "result": "done", "code": None, "detail": []}
        line.say(*outbox.message("ack", ack))
        line.say(*outbox.message("alert", alert(1)))
        line.say(*Outbox(box.box_id, boot="e" * 32).message("state", state(1)))
        line.wait(lambda: bool(last(line.heard, "/received")), "confirmed")
        eventually(lambda: (show(department, box)["status"] or {}).get("online") is True, "not online")
        assert show(department, box)["alerts_7_days"] == 1

        department.cli("box", "revoke", box.box_id, "--why", "volé").require()
        line.wait(lambda: bool(line.ends), "cut off by the revocation")
    wait_state(department, box, "revoked")
    history = [row["action"] for row in show(department, box)["history"]]
    for action in ("authority.registered", "box.assign", "authority.confirmed", "exception.add", "box.revoke"):
        assert action in history, history


def _targets(department: Department, line: Session) -> list[str]:
    payload = last(line.heard, "/desired")
    return [one.target for one in desired(department, payload).exceptions] if payload else []


def allow(department: Department, target: str, *scope: str) -> None:
    department.cli("exception", "add", target, *scope, "--for", "1j", "--why", "essai").require()


def test_a_box_is_replaced(department: Department, factory: Factory, tmp_path: Path) -> None:
    communes = tmp_path / "communes.csv"
    communes.write_text("insee;nom\n59009;Villeneuve-d'Ascq\n", encoding="utf-8")
    department.cli("commune", "import", str(communes)).require()
    old, new = factory.box(), factory.box()
    for box in (old, new):
        box.until(Code.MEMBER)
        wait_state(department, box, "active")
    claim = json.loads((old.config.paths.identity / "box.json").read_text())["claim_id"]
    department.cli("box", "assign", claim, "59009").require()
    allow(department, "own.example", "--box", old.box_id)
    department.cli("box", "replace", old.box_id, new.box_id, "--why", "panne").require()
    with session(department, new) as line:
        line.wait(lambda: _targets(department, line) == ["own.example"], "given its rules")
    assert show(department, new)["commune"] == "Villeneuve-d'Ascq (59009)"
    assert show(department, old)["state"] == "replaced"
    assert old.record()["state"] == "revoked"


def test_orders_go_on_when_the_tables_are_behind_the_signer(department: Department, factory: Factory) -> None:
    """The signer had signed when the console died: its versions are used up, and another one is found."""
    box = factory.box()
    box.until(Code.MEMBER)
    wait_state(department, box, "active")
    with session(department, box) as line:
        for number in range(5):
            allow(department, f"n{number}.example", "--box", box.box_id)
        line.wait(lambda: len(_targets(department, line)) == 5, "told of all five")
        before = desired(department, last(line.heard, "/desired")).version
        with (
            contextlib.closing(sqlite3.connect(department.config.paths.data / "console.db", timeout=20)) as tables,
            tables,
        ):
            tables.execute("DELETE FROM console_desiredstate WHERE box_id = ?", (box.box_id,))
        allow(department, "later.example", "--box", box.box_id)
        line.wait(lambda: len(_targets(department, line)) == 6, "told of the sixth")
        assert desired(department, last(line.heard, "/desired")).version > before


def test_more_than_five_boxes_need_two_keyholders(department: Department, factory: Factory, tmp_path: Path) -> None:
    boxes = [factory.box() for _ in range(6)]
    for box in boxes:
        box.until(Code.MEMBER)
    for box in boxes:
        wait_state(department, box, "active")
    names = [box.box_id for box in boxes]
    order = ["isolate", *names, "--level", "3", "--why", "attaque"]
    assert department.cli(*order).code != 0
    file = tmp_path / "orders"
    department.cli(*order, "--export", str(file)).require()
    unsigned = tmp_path / "unsigned"
    shutil.copy(file, unsigned)
    refused = department.cli("isolate", "--import", str(unsigned))
    assert refused.code == 1, refused
    assert all(show(department, box)["document"]["version"] == 1 for box in boxes)
    phrases = tmp_path / "phrases"
    phrases.write_text("\n".join(KEYHOLDERS))
    offline = str(department.config.paths.offline)
    department.cli("keys", "sign-orders", str(file), "--offline", offline, "--passphrases", str(phrases)).require()
    department.cli("isolate", "--import", str(file)).require()
    with session(department, boxes[0]) as line:
        line.wait(lambda: _level(department, line) == 3, "told")
        keys = SteeringKeys.from_bytes((department.config.paths.trust / "steering.json").read_bytes())
        envelope = dsse.Envelope.from_bytes(last(line.heard, "/desired"))
        assert keys.second_signed(envelope)
        assert set(desired(department, last(line.heard, "/desired")).mass or ()) == set(names)
        department.cli("isolate", *names[:1], "--level", "0", "--why", "fini").require()
        line.wait(lambda: _level(department, line) == 0, "lifted")


def _level(department: Department, line: Session) -> int | None:
    payload = last(line.heard, "/desired")
    if not payload:
        return None
    isolation = desired(department, payload).isolation
    return isolation.level if isolation else 0


def test_the_console_behind_nginx(department: Department) -> None:
    """Through TLS, nginx and uvicorn: pages, style sheets, the client's address, the right host only."""
    config = department.config
    browser = Browser(config.paths.pki / "roots.pem", config.ports.https)
    page = browser.ask(config.console_host, "/login/")
    assert page.status == 200, page
    assert "Nom d" in page.body.decode(), "French first"
    assert page.headers["strict-transport-security"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    sheet = re.search(r'href="(/static/vigie/console\.[0-9a-f]+\.css)"', page.body.decode())
    assert sheet, page.body.decode()
    assert browser.ask(config.console_host, sheet[1]).status == 200
    assert browser.ask(config.console_host, "/console/box/").status == 302
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.body.decode())
    assert token
    cookie = page.headers["set-cookie"].split(";")[0]
    form = {"csrfmiddlewaretoken": token[1], "username": "admin", "password": PASSWORD, "next": "/"}
    headers = {
        "Cookie": cookie,
        "Content-Type": "application/x-www-form-urlencoded",
        "Referer": f"https://{config.console_host}:{config.ports.https}/login/",
        "Origin": f"https://{config.console_host}:{config.ports.https}",
        "X-Forwarded-For": "203.0.113.9",
    }
    answer = browser.ask(
        config.console_host,
        "/login/",
        method="POST",
        body=urlencode(form).encode(),
        headers=headers,
        source="127.0.0.7",
    )
    assert answer.status == 302, answer.body.decode()[-2000:]
    with contextlib.closing(sqlite3.connect(config.paths.data / "console.db")) as database:
        rows = database.execute("SELECT actor, address FROM console_auditentry WHERE action = 'login'").fetchall()
    assert rows == [("admin", "127.0.0.7")], "the address is nginx's word, not the client's"


def test_doctor_names_what_is_wrong(department: Department) -> None:
    department.cli("backup").require()
    # this machine keeps the offline keys, and nobody keeps its clock
    expected = {"offline", "clock", "disk"}

    def wrong() -> list[dict[str, Any]]:
        found = json.loads(department.cli("doctor", "--json").out)
        return [row for row in found if not row["ok"] and row["check"] not in expected]

    # the ingest says how it is every two seconds
    eventually(lambda: not wrong(), lambda: f"{wrong()}")
    for service, check in (
        ("signer", "signer"),
        ("ingest", "ingest"),
        ("broker", "broker"),
        ("authority", "authority"),
    ):
        if service == "ingest":
            continue
        department.stop(service)
        answer = department.cli("doctor", "--json")
        assert answer.code == 1
        row = next(row for row in json.loads(answer.out) if row["check"] == check)
        assert not row["ok"], row
        assert row["todo"], row
        department.start(service)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_new_server_from_the_backup(kind: str, tmp_path: Path) -> None:
    """The drill: the old server is gone; the boxes come back by themselves, and what they have kept arrives."""
    with postgres() as server:
        url = server.database("vigie") if kind == "postgresql" else ""
        with open_department(database=url) as old:
            box = Factory(old, tmp_path).box()
            box.until(Code.MEMBER)
            wait_state(old, box, "active")
            outbox = Outbox(box.box_id)
            with session(old, box) as line:
                line.wait(lambda: bool(last(line.heard, "/desired")), "given its first document")
                for number in range(1, 6):
                    line.say(*outbox.message("alert", alert(number)))
                eventually(lambda: show(old, box)["alerts_7_days"] == 5, "the alerts do not arrive")
                archive = Path(old.cli("backup", "--to", str(tmp_path)).require().out.split(" ")[0])
                assert archive.stat().st_mode & 0o777 == 0o600
                # after the backup: what only the old server knows
                line.say(*outbox.message("alert", alert(6)))
                allow(old, "late.example", "--all")
                line.wait(lambda: _targets(old, line) == ["late.example"], "told")
                version = desired(old, last(line.heard, "/desired")).version
                line.say(*Outbox(box.box_id, boot="e" * 32).message("state", _state(version)))
            for name in list(old.processes):
                old.stop(name)
            with Loopback() as place:
                again = Department(place, place.temp / "n", old.ports, listen="127.0.0.1")
                shutil.rmtree(old.root)
                started = time.monotonic()
                more = ["--database", server.database("again")] if url else []
                again.cli("restore", str(archive), *more, timeout=120).require()
                again.config = configuration.load(root=again.root)
                again.start()
                ready = time.monotonic() - started
                with session(again, box) as line:
                    back = time.monotonic() - started
                    line.say(*Outbox(box.box_id, boot="f" * 32).message("state", _state(version, 2)))
                    # the oldest row of its outbox: the sixth was confirmed by the server that is gone
                    outbox.seq = 6
                    line.say(*outbox.message("alert", alert(7), prev=0))
                    line.wait(lambda: b'"upto":7' in last(line.heard, "/received"), "confirmed")
                    eventually(lambda: show(again, box)["alerts_7_days"] == 6, "the alert does not arrive")
                    allow(again, "new.example", "--all")
                    line.wait(lambda: _targets(again, line) == ["new.example"], "told by the new server")
                    assert desired(again, last(line.heard, "/desired")).version > version
                print(f"{kind}: restored and started in {ready:.1f} s, the box is back after {back:.1f} s")
                assert again.cli("restore", str(archive)).code == 1, "a server in service is overwritten"


def _state(version: int, session: int = 1) -> dict[str, Any]:
    return state(session, desired={"version": version, "status": "in_force", "refused": None})


def test_a_backup_that_was_changed_is_refused(tmp_path: Path) -> None:
    with open_department(()) as made:
        archive = Path(made.cli("backup", "--to", str(tmp_path)).require().out.split(" ")[0])
        data = bytearray(archive.read_bytes())
        place = data.index(b"-----BEGIN PRIVATE KEY-----") + 60
        data[place] ^= 1
        archive.write_bytes(data)
        done = made.place.run(*_restore(archive, tmp_path / "new"), timeout=60)
        assert done.code == 1, done
        assert not (tmp_path / "new/state").exists(), "something was put in its place before it was checked"


def _restore(archive: Path, root: Path) -> list[str]:
    from lab.loopback import tool

    return [tool("vigie-department"), "--root", str(root), "restore", str(archive)]


def test_init_overwrites_nothing_and_undoes_itself(tmp_path: Path) -> None:
    with open_department(()) as made:
        before = {path: path.stat().st_mtime_ns for path in made.root.rglob("*") if path.is_file()}
        again = made.cli("init", "other.lab", "--passphrases", str(made.root / "passphrases"))
        assert again.code == 1, again
        trust = {path.name for path in made.config.paths.trust.iterdir()}
        assert trust == {"domain", "roots.pem", "tuf-root.json", "steering.json"}
        assert (made.config.paths.trust / "domain").read_text() == f"{made.config.domain}\n"
        assert before == {path: path.stat().st_mtime_ns for path in made.root.rglob("*") if path.is_file()}
        (tmp_path / "broken").mkdir()
        # the signer's folder is a file: the third step of seven fails
        (tmp_path / "broken/state").mkdir()
        (tmp_path / "broken/state/signer").write_text("")
        failed = Department(made.place, tmp_path / "broken", made.ports)
        argv = ["init", "other.lab", "--passphrases", str(made.root / "passphrases"), "--no-users"]
        assert failed.cli(*argv).code != 0
        left = [path for path in (tmp_path / "broken").rglob("*") if path.is_file()]
        assert left == [tmp_path / "broken/state/signer"], left
