"""The admin operations, revocation lists, backup, configuration, and the writing thread."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import pwd
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import authority as rooms
from tests.support.enrolbox import SimBox, csr_of, new_key
from tests.unit.authority.conftest import Desk
from vigie_provisioning.authority import ca, config, crl, profiles, schema, setup
from vigie_provisioning.authority.attempts import Attempts
from vigie_provisioning.authority.clock import Clock, ClockError
from vigie_provisioning.authority.front import Front
from vigie_provisioning.authority.proofs import KEPT_S, ServerKeys
from vigie_provisioning.authority.service import Publish, Service
from vigie_provisioning.authority.writer import WAITING_MAX, Writer
from vigie_provisioning.errors import (
    BusyError,
    CaError,
    ConfigError,
    NotFoundError,
    ProvisioningError,
    StateError,
    StoreError,
    UsageError,
)
from vigie_provisioning.jsonsocket import Peer

DAY = 86_400


def lists(desk: Desk) -> tuple[set[int], list[str]]:
    """Numbers revoked (signatures checked) and boxes denied, as published."""
    data = (desk.room.config.public / "crl.pem").read_bytes()
    issuers = {i.certificate.subject: i for i in ca.load(desk.room.config.places).issuing}
    numbers: set[int] = set()
    for part in data.split(b"-----BEGIN")[1:]:
        made = x509.load_pem_x509_crl(b"-----BEGIN" + part)
        public = issuers[made.issuer].certificate.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert made.is_signature_valid(public)
        numbers |= {entry.serial_number for entry in made}
    return numbers, json.loads((desk.room.config.public / "denied.json").read_bytes())["boxes"]


def number_of(box: SimBox) -> int:
    assert box.credentials is not None
    return box.credentials.certificate.serial_number


def test_revoke_is_out_when_it_answers(desk: Desk, boxes: list[SimBox]) -> None:
    box = boxes[0]
    desk.join(box)
    done = desk.admin("revoke", box=box.box, operator="bob", reason="stolen")
    assert done["cert_serials"] == [f"{number_of(box):x}"]
    assert lists(desk) == ({number_of(box)}, [box.box])
    assert desk.events("revoked")[0]["detail"]["operator"] == "bob"
    assert desk.state(box) == "revoked"
    desk.admin("unblock", serial=box.serial, operator="bob")
    assert lists(desk) == ({number_of(box)}, [])
    desk.join(box)
    assert desk.state(box) == "active"


def test_block_keeps_the_certificates(desk: Desk, boxes: list[SimBox]) -> None:
    box = boxes[0]
    desk.join(box)
    desk.admin("block", serial=box.serial, operator="bob", note="lent")
    assert lists(desk) == (set(), [box.box])
    assert desk.code(desk.post("renew", box.ask_renew(), box)) == (403, "refused")
    desk.admin("unblock", serial=box.serial, operator="bob")
    assert lists(desk) == (set(), [])
    assert desk.post("renew", box.ask_renew(), box).status == 200


def test_unblocking_does_not_lift_a_quarantine(desk: Desk, boxes: list[SimBox]) -> None:
    box = boxes[0]
    desk.join(box)
    old = box.copy()
    box.take_reply(desk.post("renew", box.ask_renew(), box).body)
    assert desk.enrol(old, fresh=True).status == 409
    for op in ("block", "unblock"):
        with pytest.raises(StateError, match="release"):
            desk.admin(op, serial=box.serial, operator="bob")
    desk.admin("revoke", serial=box.serial, operator="bob")
    assert desk.state(box) == "quarantined"
    desk.admin("release", serial=box.serial, operator="bob")
    assert desk.state(box) != "quarantined"


def test_superseded_certificates_come_later(desk: Desk, boxes: list[SimBox]) -> None:
    """A box goes over to its new certificate before the broker cuts the old session."""
    box = boxes[0]
    desk.join(box)
    old = number_of(box)
    box.take_reply(desk.post("renew", box.ask_renew(), box).body)
    assert desk.post("confirm", box.ask_confirm(), box).status == 200
    desk.admin("crl")
    assert lists(desk)[0] == set()
    desk.clock[0] += 901
    desk.admin("crl")
    assert lists(desk)[0] == {old}
    desk.clock[0] += 92 * DAY
    desk.admin("crl")
    assert lists(desk)[0] == set(), "expired ones need no list"


def test_lists_of_two_issuing_cas(desk: Desk, boxes: list[SimBox]) -> None:
    """After a rotation each CA signs the list of what it issued; both kinds of certificates work."""
    room = desk.room
    one, two = boxes[:2]
    desk.join(one)
    authority = ca.rotate(room.config.places, room.offline, "issuing")
    assert (room.config.public / "clients.pem").read_bytes().count(b"BEGIN") == 4
    service = Service(authority, 90)
    desk.front = Front(
        room.config, service, desk.writer, desk.reader, Attempts(), desk.published.append, lambda: desk.clock[0]
    )
    desk.join(two)
    assert one.credentials is not None
    assert two.credentials is not None
    assert one.credentials.chain[1] != two.credentials.chain[1]
    one.take_reply(desk.post("renew", one.ask_renew(), one).body)
    assert one.credentials.chain[1] == two.credentials.chain[1], "renewed under the new one"
    assert desk.post("confirm", one.ask_confirm(), one).status == 200
    now = int(desk.clock[0]) + 1000
    what = crl.content(desk.reader, now, 7, 900)
    pem = crl.sign(authority, what, now, timedelta(days=30))
    made = [x509.load_pem_x509_crl(b"-----BEGIN" + part) for part in pem.split(b"-----BEGIN")[1:]]
    assert [len(list(part)) for part in made] == [1, 0]
    for part in made:
        number = part.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        assert (number, (part.next_update_utc - part.last_update_utc).days) == (7, 30)  # type: ignore[operator]


def test_lists_number_only_grows(desk: Desk) -> None:
    numbers = []
    for clock in (0, 1, -DAY, DAY):
        desk.clock[0] += clock
        pem = desk.admin("crl").encode()
        made = x509.load_pem_x509_crl(pem)
        numbers.append(made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    assert numbers == sorted(set(numbers))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("op", "params", "error"),
    [
        ("show", {"box": "nobody"}, NotFoundError),
        ("show", {}, UsageError),
        ("revoke", {"serial": "nobody", "operator": "bob"}, NotFoundError),
        ("revoke", {"serial": "VG-00000"}, UsageError),
        ("release", {"serial": "VG-00000", "operator": 7}, UsageError),
        ("block", {"serial": "VG-00000", "operator": "b" * 65}, UsageError),
        ("events", {"after": -1}, UsageError),
        ("events", {"limit": True}, UsageError),
        ("boxes", {"limit": 0}, UsageError),
        ("import", {}, UsageError),
        ("issue-server", {"names": "enrol.vigie.lab", "csr": ""}, UsageError),
        ("issue-server", {"names": ["enrol.vigie.lab"], "csr": "???"}, UsageError),
        ("issue-server", {"names": ["enrol.vigie.lab"], "csr": "AAAA"}, CaError),
        ("issue-client", {}, UsageError),
    ],
)
def test_odd_requests(
    desk: Desk, boxes: list[SimBox], op: str, params: dict[str, Any], error: type[ProvisioningError]
) -> None:
    assert boxes
    with pytest.raises(error):
        desk.admin(op, **params)


def test_listing(desk: Desk, boxes: list[SimBox]) -> None:
    desk.join(boxes[0])
    assert desk.enrol(boxes[1]).status == 200
    rows = desk.admin("boxes")
    assert [(row["serial"], row["state"]) for row in rows] == [
        ("VG-00000", "active"),
        ("VG-00001", "pending"),
        ("VG-00002", "expected"),
        ("VG-00003", "expected"),
    ]
    assert [row["serial"] for row in desk.admin("boxes", after="VG-00001", limit=1)] == ["VG-00002"]
    status = desk.admin("status")
    assert (status["boxes"], status["enrolled"], status["blocked"]) == (4, 2, 0)
    assert {key["name"] for key in status["keys"]} == {"issuing-1", "servers-1", "challenge-1"}
    assert desk.admin("events", after=4, limit=1)[0]["kind"] == "enrolled"


def test_servers_are_certified_for_names_of_the_operator(desk: Desk) -> None:
    csr = base64.b64encode(csr_of(new_key())).decode()
    chain = desk.admin("issue-server", names=["maj.vigie.lab"], csr=csr, days=825)["chain"]
    made = x509.load_pem_x509_certificate(chain.encode())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["maj.vigie.lab"]
    assert desk.events("server")[0]["detail"]["names"] == ["maj.vigie.lab"]
    with pytest.raises(UsageError, match="825"):
        desk.admin("issue-server", names=["maj.vigie.lab"], csr=csr, days=826)
    with pytest.raises(CaError, match="only signs names below"):
        desk.admin("issue-server", names=["maj.example"], csr=csr)
    client = x509.load_pem_x509_certificate(desk.admin("issue-client", csr=csr)["chain"].encode())
    assert client.subject.rfc4514_string() == "CN=department"


def test_only_root_and_the_own_user_have_servers_certified(desk: Desk) -> None:
    desk.operations._config = replace(desk.room.config, admin_users=("daemon",))
    console = Peer(1, pwd.getpwnam("daemon").pw_uid, 1)
    table = desk.operations.table()
    denied = {name for name, operation in table.items() if not operation.allow.permits(console)}
    assert denied == {"issue-server", "issue-client"}


# -- keys of servers that boxes attest


def test_a_new_server_key_is_taken_up_and_the_old_one_kept_for_a_while(tmp_path: Path) -> None:
    room = rooms.make(tmp_path / "a")
    file = room.config.public / "web.pem"
    clock = [0.0]
    keys = ServerKeys((file, tmp_path / "missing.pem"), lambda: clock[0])
    [first] = keys()
    issuer = ca.load(room.config.places).servers[-1]
    made = profiles.server(new_key().public_key(), ["enrol.vigie.lab"], issuer, profiles.now())
    file.with_suffix(".new").write_bytes(ca.pem([made]))
    file.with_suffix(".new").rename(file)
    assert keys()[0] == first
    assert len(keys()) == 2
    clock[0] = KEPT_S + 1
    assert len(keys()) == 1
    assert first not in keys()
    file.unlink()
    assert len(keys()) == 1, "a file that is gone for a moment changes nothing"
    clock[0] += KEPT_S + 1
    with pytest.raises(ConfigError, match="can be read"):
        keys()


# -- backup and restore


def test_backup_and_restore_touch_no_box(desk: Desk, boxes: list[SimBox], tmp_path: Path) -> None:
    room = desk.room
    desk.join(boxes[0])
    digests = setup.backup(room.config, room.file, tmp_path / "backup")
    assert {"authority.db", "authority.toml", "operators.json", "ca/issuing-1.key"} <= set(digests)
    assert all((tmp_path / "backup" / name).stat().st_mode & 0o077 == 0 for name in digests)
    desk.join(boxes[1])  # after the backup
    boxes[0].take_reply(desk.post("renew", boxes[0].ask_renew(), boxes[0]).body)
    assert desk.post("confirm", boxes[0].ask_confirm(), boxes[0]).status == 200
    new = tmp_path / "new"
    fresh = config.from_table(
        {
            "domain": "vigie.lab",
            "state": str(new / "state"),
            "public": str(new / "pki"),
            "trust": str(new / "trust"),
            "http_socket": str(new / "h"),
            "admin_socket": str(new / "a"),
            "operators": str(new / "operators.json"),
            "server_certificates": [str(room.config.public / "web.pem")],
        },
        tmp_path / "x.toml",
    )
    restored = setup.restore(fresh, tmp_path / "backup", digests)
    assert (new / "trust" / "roots.pem").read_bytes() == (room.config.trust / "roots.pem").read_bytes()
    with pytest.raises(UsageError, match="holds an authority already"):
        setup.restore(fresh, tmp_path / "backup", digests)
    writer = Writer(fresh.store)
    writer.start()
    reader = schema.open_reader(fresh.store)
    try:
        old = desk.front
        desk.front = Front(fresh, Service(restored, 90), writer, reader, Attempts(), lambda _p: None, old._clock)
        for box in boxes[:3]:  # one with a newer join state, one the backup never saw enrol, one new
            desk.join(box)
    finally:
        reader.close()
        writer.stop()


def test_a_changed_backup_is_refused(desk: Desk, tmp_path: Path) -> None:
    digests = setup.backup(desk.room.config, desk.room.file, tmp_path / "backup")
    (tmp_path / "backup" / "authority.db").write_bytes(b"other")
    with pytest.raises(ProvisioningError, match="missing or changed"):
        setup.restore(desk.room.config, tmp_path / "backup", digests)


def test_set_up_once(tmp_path: Path) -> None:
    room = rooms.make(tmp_path / "a")
    with pytest.raises(UsageError, match="set up once"):
        setup.create(room.config, room.file, tmp_path / "off", [])
    with pytest.raises(UsageError, match="not overwritten"):
        setup.create(room.config, tmp_path / "other.toml", tmp_path / "off", [setup.Server("web", ("a.vigie.lab",))])
    names = setup.names_of(room.config.public / "web.pem")
    assert names == ("enrol.vigie.lab", "maj.vigie.lab", "console.vigie.lab")
    assert setup.names_of(room.config.public / "ingest.pem") == ()
    assert not setup.due(room.config.public / "web.pem")
    assert setup.due(room.config.public / "web.pem", profiles.now() + timedelta(days=270))
    assert config.load(room.file) == room.config


# -- configuration


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"colour": "red"}, "unknown key `colour`"),
        ({"state": "relative"}, "absolute path"),
        ({"state": 7}, "absolute path"),
        ({"certificate_days": 0}, "from 1 to 398"),
        ({"certificate_days": True}, "int is expected"),
        ({"mqtt_ports": [0]}, "ports from 1"),
        ({"mqtt_ports": 8883}, "a list is expected"),
        ({"server_certificates": []}, "at least the certificate"),
        ({"domain": None}, "str is expected"),
    ],
)
def test_wrong_configurations(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    table = {name: f"/{name}" for name in ("state", "public", "trust", "http_socket", "admin_socket", "operators")}
    good = table | {"domain": "vigie.lab", "server_certificates": ["/web.pem"], "source_rate": 3}
    assert config.from_table(dict(good), tmp_path / "f").source_rate == 3.0
    with pytest.raises(ConfigError, match=match):
        config.from_table(good | change, tmp_path / "f")
    with pytest.raises(ConfigError, match="`domain` is missing"):
        config.from_table(table, tmp_path / "f")


# -- the writing thread


@pytest.fixture
def writer(tmp_path: Path) -> Any:
    writer = Writer(tmp_path / "w.db")
    writer.start()
    yield writer
    writer.stop()


def remember(name: str, value: str) -> Any:
    return lambda db: db.execute("INSERT INTO facts VALUES (?, ?)", (name, value)).rowcount


def test_one_bad_change_does_not_spoil_its_neighbours(writer: Writer, tmp_path: Path) -> None:
    async def go() -> list[Any]:
        changes = [remember("a", "1"), remember("a", "2"), remember("b", "3"), lambda _db: 1 / 0]
        return await asyncio.gather(*(writer.run(change) for change in changes), return_exceptions=True)

    one, two, three, four = asyncio.run(go())
    assert (one, three) == (1, 1)
    assert isinstance(two, sqlite3.IntegrityError)
    assert isinstance(four, ZeroDivisionError)
    reader = schema.open_reader(tmp_path / "w.db")
    assert {row["name"]: row["value"] for row in reader.execute("SELECT * FROM facts")} == {"a": "1", "b": "3"}
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM facts")
    reader.close()


def test_what_waits_is_written_before_the_end(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "w.db")
    writer.start()
    futures = [writer.submit(remember(str(n), "")) for n in range(500)]
    writer.stop()
    assert all(future.result() == 1 for future in futures)
    with pytest.raises(BusyError, match="stopping"):
        writer.submit(remember("late", ""))


def test_too_much_at_once_is_refused(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "w.db")  # not started: nothing is taken from the queue
    for n in range(WAITING_MAX):
        writer.submit(remember(str(n), ""))
    with pytest.raises(BusyError, match="too much"):
        writer.submit(remember("more", ""))


def test_stores_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="restore a backup"):
        Writer(tmp_path / "bad.db").start()
    db = schema.open_store(tmp_path / "new.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    for open_ in (schema.open_store, schema.open_reader):
        with pytest.raises(StoreError, match="another version"):
            open_(tmp_path / "new.db")
    with pytest.raises(StoreError, match="cannot be opened"):
        schema.open_reader(tmp_path / "none.db")


def test_the_store_is_private_and_flushed(writer: Writer, tmp_path: Path) -> None:
    assert (tmp_path / "w.db").stat().st_mode & 0o777 == 0o600
    mode = writer.submit(lambda db: [db.execute(f"PRAGMA {x}").fetchone()[0] for x in ("journal_mode", "synchronous")])
    assert mode.result() == ["wal", 2]


def test_digests_are_of_the_files(desk: Desk, tmp_path: Path) -> None:
    digests = setup.backup(desk.room.config, desk.room.file, tmp_path / "b")
    file = tmp_path / "b" / "ca" / "roots.pem"
    assert digests["ca/roots.pem"] == hashlib.sha256(file.read_bytes()).hexdigest()


# -- the clock


@pytest.mark.slow
@pytest.mark.parametrize(
    ("jump", "right"),
    [(0, True), (-299, True), (-301, False), (59 * DAY, True), (61 * DAY, False), (14 * 365 * DAY, False)],
)
def test_a_clock_that_cannot_be_right_signs_nothing(desk: Desk, boxes: list[SimBox], jump: int, right: bool) -> None:
    """A time server that says 2040 once: boxes are told to come back, none is given that time."""
    clock = desk.front._clock = Clock(int(desk.clock[0]), lambda: desk.clock[0])
    assert desk.post("challenge", boxes[0].ask_challenge()).status == 200
    desk.clock[0] += jump
    answer = desk.post("challenge", boxes[0].ask_challenge())
    assert answer.status == (200 if right else 503)
    if not right:
        with pytest.raises(ClockError, match="--accept-clock"):
            clock()
        desk.clock[0] -= jump
    assert desk.post("challenge", boxes[0].ask_challenge()).status == 200


@pytest.mark.slow
def test_lists_are_published_by_themselves(desk: Desk, boxes: list[SimBox]) -> None:
    """At once after a clone, once the grace is over after a confirmation; a full disk is tried again."""
    publisher = desk.operations._publisher
    publisher._config = replace(desk.room.config, superseded_s=0)
    box = boxes[0]
    desk.join(box)
    old = number_of(box)
    clone = box.copy()
    box.take_reply(desk.post("renew", box.ask_renew(), box).body)
    assert desk.post("confirm", box.ask_confirm(), box).status == 200

    async def go() -> None:
        task = asyncio.create_task(publisher.run())
        file = desk.room.config.public / "crl.pem"
        await until(lambda: old in lists(desk)[0])
        before = file.read_bytes()
        publisher.wanted(Publish.SOON)
        await until(lambda: file.read_bytes() != before)
        publisher.wanted(Publish.NOW)
        task.cancel()

    async def until(holds: Any) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 - what is waited for is a file
                await asyncio.sleep(0.01)

    desk.run(go())
    assert desk.enrol(clone, fresh=True).status == 409
    assert Publish.NOW in desk.published
    publisher._config = replace(desk.room.config, public=desk.room.config.public / "missing")
    with pytest.raises(StateError, match="it was done, but"):
        desk.admin("revoke", serial=boxes[1].serial, operator="bob")
    assert desk.state(boxes[1]) == "revoked"
