"""The protocol over real TLS: what a box, a thief and a bad network can do."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from datetime import timedelta
from pathlib import Path

import pytest

from bench.enrol import run
from lab.department import KEYHOLDERS
from lab.loopback import tool
from tests.integration.authority.conftest import Reply, Town
from tests.support.enrolbox import Credentials, SimBox, new_key
from vigie_provisioning.authority import ca, profiles


def command(town: Town, *argv: str) -> str:
    """`vigie-authority`, as an operator types it."""
    config = str(town.department.config.paths.authority_config)
    result = town.department.place.run(tool("vigie-authority"), "--config", config, *argv)
    assert result.code == 0, result
    return result.out


def test_join_renew_leave(town: Town) -> None:
    [box] = town.buy(1)
    town.join(box)
    assert town.state(box) == "active"
    assert box.credentials is not None
    first = box.credentials
    reply = town.post("renew", box.ask_renew(), box, first)
    assert reply.status == 200, reply
    box.take_reply(reply.body)
    assert town.confirm(box).status == 200
    assert town.post("renew", box.ask_renew(), box, first).status == 403, "superseded"
    box.pending = None
    assert town.post("decommission", box.ask_decommission(), box, box.credentials).status == 200
    assert town.state(box) == "decommissioned"
    assert town.enrol(box).status == 403


def test_lost_replies_at_every_step(town: Town) -> None:
    [box] = town.buy(1)
    town.post("challenge", box.ask_challenge(), box, lose=True)
    box.take_challenge(town.post("challenge", box.ask_challenge(), box).body)
    town.post("enrol", box.ask_enrol(), box, lose=True)
    reply = town.enrol(box)
    assert reply.status == 200
    box.take_reply(reply.body)
    town.post("confirm", box.ask_confirm(), box, box.credentials, lose=True)
    assert town.confirm(box).status == 200
    assert town.issued(box) == 1
    town.post("renew", box.ask_renew(), box, box.credentials, lose=True)
    reply = town.post("renew", box.ask_renew(), box, box.credentials)
    assert reply.status == 200
    box.take_reply(reply.body)
    assert town.confirm(box).status == 200
    assert town.issued(box) == 2
    town.post("decommission", box.ask_decommission(), box, box.credentials, lose=True)
    assert town.post("decommission", box.ask_decommission(), box, box.credentials).status == 200


def test_a_replayed_challenge(town: Town) -> None:
    box, other = town.buy(2)
    box.take_challenge(town.post("challenge", box.ask_challenge(), box).body)
    body = box.ask_enrol()
    first = town.post("enrol", body, box)
    again = town.post("enrol", body, other)
    assert again.body == first.body, "the same request: the same answer, useless without the key"
    assert town.post("enrol", box.ask_enrol(fresh=True), box).code == "challenge"
    other.dev_nonce, other.challenge = box.dev_nonce, box.challenge
    assert town.post("enrol", other.ask_enrol(), other).code == "refused"


def test_a_wrong_server_in_the_middle(town: Town) -> None:
    """The box attests the key of a server that is not ours: a proxy that its trust store accepts."""
    [box] = town.buy(1)
    box.take_challenge(town.post("challenge", box.ask_challenge(), box).body)
    body_for_ours = box.ask_enrol()
    box.spki = SimBox("x", b"", new_key()).spki + b"another server"
    relayed = box.ask_enrol()
    assert town.post("enrol", relayed, box).code == "refused"
    assert town.post("enrol", body_for_ours, box).status == 200


def test_a_pair_of_clones(town: Town) -> None:
    [box] = town.buy(1)
    town.join(box)
    clone = box.copy()
    box.take_reply(town.post("renew", box.ask_renew(), box, box.credentials).body)
    assert town.confirm(box).status == 200
    assert town.enrol(clone, fresh=True).code == "clone"
    assert town.state(box) == "quarantined"
    pki = town.department.config.paths.pki
    denied = json.loads((pki / "denied.json").read_text())["boxes"]
    deadline = time.monotonic() + 60
    while box.box not in denied and time.monotonic() < deadline:
        time.sleep(0.05)
        denied = json.loads((pki / "denied.json").read_text())["boxes"]
    assert box.box in denied
    assert town.post("renew", box.ask_renew(), box, box.credentials).code == "refused"
    assert town.enrol(box).code == "clone"
    box.pending = None
    command(town, "release", box.serial, "--note", "the copy was found", "--operator", "bob")
    town.join(box)
    assert town.state(box) == "active"


def test_conflict_and_release(town: Town) -> None:
    [box] = town.buy(1)
    town.join(box)
    stripped = SimBox(box.serial, box.spki, box.identity)
    assert town.enrol(stripped).code == "conflict"
    assert town.state(box) == "active"
    command(town, "release", box.box, "--operator", "bob")
    town.join(stripped)
    assert town.enrol(box, fresh=True).code == "clone"


def test_revoke_and_unblock(town: Town) -> None:
    [box] = town.buy(1)
    town.join(box)
    command(town, "revoke", box.serial, "--note", "stolen", "--operator", "bob")
    assert town.post("renew", box.ask_renew(), box, box.credentials).code == "refused"
    box.pending = None
    assert town.enrol(box).code == "refused"
    shown = command(town, "--json", "show", box.serial)
    assert [c["reason"] for c in json.loads(shown)["certificates"]] == ["privilege_withdrawn"]
    command(town, "unblock", box.serial, "--operator", "bob")
    town.join(box)
    assert "privilege_withdrawn" in command(town, "show", box.serial)


def test_an_expired_certificate_enrols_again(town: Town) -> None:
    """nginx itself refuses the expired certificate; without it the box gets a new one, no human needed."""
    [box] = town.buy(1)
    town.join(box)
    keys = ca.load(town.room.config.places)
    issuer = keys.issuing[-1]
    key = new_key()
    made = profiles.box(key.public_key(), box.box, issuer, profiles.now() - timedelta(days=91))
    expired = Credentials(key, (ca.pem([made]).decode(), ca.pem([issuer.certificate]).decode()))
    held, box.credentials = box.credentials, expired
    connection = town.open(box, expired)
    connection.request("POST", "/v1/renew", box.ask_renew())
    assert connection.getresponse().status in (400, 403)
    connection.close()
    box.credentials = held
    town.join(box)
    assert town.state(box) == "active"


def test_refusals_have_the_same_shape(town: Town) -> None:
    """Byte for byte through nginx; how long they take is printed."""
    known, blocked = town.buy(2)
    town.join(blocked)
    command(town, "block", blocked.serial, "--operator", "bob")

    def refused(kind: str) -> tuple[Reply, float]:
        if kind == "unknown":
            box, key = SimBox("XX-00001", b"", new_key()), None
        elif kind == "blocked":
            box, key = blocked.copy(), None
        else:
            box, key = known.copy(), new_key()
        box.take_challenge(town.post("challenge", box.ask_challenge(), box).body)
        body = box.ask_enrol(key=key)
        start = time.perf_counter()
        return town.post("enrol", body, box), time.perf_counter() - start

    took: dict[str, list[float]] = {"unknown": [], "blocked": [], "wrong key": []}
    shapes = set()
    for _ in range(12):
        for kind, times in took.items():
            reply, seconds = refused(kind)
            shapes.add(reply)
            times.append(seconds * 1000)
    print({kind: f"{statistics.median(times):.1f} ms ± {statistics.stdev(times):.1f}" for kind, times in took.items()})
    [shape] = shapes
    assert (shape.status, shape.code) == (403, "refused")


def test_what_a_client_says_of_itself_is_not_believed(town: Town) -> None:
    """The headers that nginx sets replace those that a client sends."""
    [box] = town.buy(1)
    town.join(box)
    assert box.credentials is not None
    connection = town.open(box)
    escaped = box.credentials.chain[0].replace("\n", "%0A").replace(" ", "%20").replace("+", "%2B")
    headers = {"X-Vigie-Client-Verify": "SUCCESS", "X-Vigie-Client-Cert": escaped}
    connection.request("POST", "/v1/confirm", box.ask_confirm(), headers)
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.parametrize(("body", "statuses"), [(b"x" * 60_000, {400}), (b"x" * 200_000, {413}), (b"", {400})])
def test_bodies_are_bounded(town: Town, body: bytes, statuses: set[int]) -> None:
    box = SimBox("XX-00002", b"")
    connection = town.open(box)
    connection.request("POST", "/v1/enrol", body)
    assert connection.getresponse().status in statuses
    connection.close()


def test_only_what_is_there_answers(town: Town) -> None:
    box = SimBox("XX-00003", b"")
    for method, path, status in (("GET", "/v1/enrol", 405), ("POST", "/v1/admin", 404), ("GET", "/", 404)):
        connection = town.open(box)
        connection.request(method, path)
        assert connection.getresponse().status == status
        connection.close()


def test_a_flood_of_unknown_serials(town: Town) -> None:
    """Thousands of serials that nobody bought: memory and disk stay, and a real box joins meanwhile."""
    [box] = town.buy(1)
    pid = town.department.processes["authority"].popen.pid
    store = town.room.config.store

    def size() -> tuple[int, int]:
        wal = store.with_name(store.name + "-wal")
        rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
        return rss, store.stat().st_size + (wal.stat().st_size if wal.exists() else 0)

    before = size()
    stranger = SimBox("XX-00004", b"")
    statuses: dict[int, int] = {}
    for burst in range(6):
        connection = town.open(SimBox(f"YY-{burst}", b""))
        for number in range(300):
            stranger.serial = f"FLOOD-{burst}-{number}"
            connection.request("POST", "/v1/challenge", stranger.ask_challenge())
            answer = connection.getresponse()
            content = answer.read()
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            if answer.status == 200 and number % 3 == 0:
                stranger.take_challenge(content)
                stranger.pending = stranger.pending or new_key()
                # refusals wait for their moment: not read here, so that the flood is one
                connection.request("POST", "/v1/enrol", stranger.ask_enrol())
                connection.close()
                connection = town.open(SimBox(f"YY-{burst}", b""))
        connection.close()
    town.join(box)
    after = size()
    print(f"statuses {statuses}; memory {before[0]} -> {after[0]}, store {before[1]} -> {after[1]}")
    assert after[0] - before[0] < 32 << 20
    assert after[1] - before[1] < 8 << 20
    assert len(town.department.admin.unknown(1000)) <= 1000


def test_many_at_once(town: Town) -> None:
    """As in `make bench-enrol`, one in ten losing a reply; no box gets two certificates."""
    boxes = town.buy(80)
    _seconds, tally = asyncio.run(run(town.department, boxes))
    assert len(tally.took) == 80
    assert tally.lost == 8
    assert [town.issued(box) for box in boxes] == [1] * 80


def test_rotation_of_the_issuing_ca(town: Town) -> None:
    """Old and new certificates are accepted without touching nginx or any box; each CA signs its own list."""
    old, new = town.buy(2)
    town.join(old)
    department = town.department
    offline = str(department.config.paths.offline)
    department.stop("authority")
    config = str(department.config.paths.authority_config)
    env = f"VIGIE_ROOT_PASSPHRASE={KEYHOLDERS[0]}"
    argv = ["env", env, tool("vigie-authority"), "--config", config, "rotate", "issuing", "--offline", offline]
    result = department.place.run(*argv)
    department.start("authority")
    assert result.code == 0, result
    town.join(new)
    assert old.credentials is not None
    assert new.credentials is not None
    assert old.credentials.chain[1] != new.credentials.chain[1]
    reply = town.post("renew", old.ask_renew(), old, old.credentials)
    assert reply.status == 200, reply
    old.take_reply(reply.body)
    assert town.confirm(old).status == 200
    assert old.credentials.chain[1] == new.credentials.chain[1]
    assert command(town, "crl").count("BEGIN X509 CRL") == 2


def test_every_command_answers(town: Town, tmp_path: Path) -> None:
    [box] = town.buy(1)
    town.join(box)
    assert box.serial in command(town, "boxes", "--state", "active")
    assert box.box in command(town, "show", box.serial)
    assert '"rule": "first"' in command(town, "events", "--after", "0")
    assert "BEGIN X509 CRL" in command(town, "crl")
    assert "challenge-1" in command(town, "status")
    assert "count" in command(town, "unknown")
    assert json.loads(command(town, "--json", "status"))["boxes"] >= 1
    command(town, "block", box.serial)
    command(town, "unblock", box.serial)
    register = tmp_path / "register.jsonl"
    register.write_bytes(town.room.register)
    assert "0 boxes added" in command(town, "import", str(register), "--new")
    command(town, "backup", str(tmp_path / "backup"))
    digests = json.loads((tmp_path / "backup" / "digests.json").read_text())
    assert "authority.db" in digests


def test_a_server_certificate_is_renewed_with_its_key(town: Town) -> None:
    pki = town.department.config.paths.pki
    before, key = (pki / "web.pem").read_bytes(), (pki / "web.key").read_bytes()
    assert "not due" in command(town, "issue-server", "web", "--if-due")
    command(town, "issue-server", "web", "--days", "300")
    assert (pki / "web.pem").read_bytes() != before
    assert (pki / "web.key").read_bytes() == key
    [box] = town.buy(1)
    town.join(box)  # nginx still shows the old certificate: the key is the same
