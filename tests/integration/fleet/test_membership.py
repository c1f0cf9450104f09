"""Who may speak: a box for itself only, nobody under a list past its date, a revoked box not at all."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable
from datetime import timedelta

from tests.integration.fleet.box_side import BoxSide
from tests.integration.fleet.conftest import Town
from tests.support.messages import Outbox, alert, state
from tests.support.servers import eventually
from vigie.contract.topics import down, up
from vigie.contract.words import Kind, Order
from vigie.link.codes import LinkCode
from vigie_department.broker.plan import broker_plan
from vigie_department.signer.files import write_atomically
from vigie_provisioning.authority import ca, crl

NOT_AUTHORISED = 135


def online(town: Town, box: str) -> bool | None:
    """What the department's database says of its session; None: it never had one."""
    rows = town.rows("SELECT online FROM console_boxstatus WHERE box_id = ?", box)
    return bool(rows[0][0]) if rows else None


def heard(town: Town, box: BoxSide, count: int) -> None:
    """Until so many of its alerts are in the database, once each."""
    box.until(lambda: town.alerts(box.name) == (count, count), f"{count} alerts have arrived")


def test_a_box_publishes_under_its_own_name_only(town: Town, new_box: Callable[[], BoxSide]) -> None:
    """A thief with one box's key lies about another: alerts, states, orders, confirmations, last wills."""
    thief, honest = new_box(), new_box()
    for one in (thief, honest):
        one.enrol()
    honest.start("link")
    honest.until_code("connected")
    honest.until(lambda: online(town, honest.name) is True, "known to be online")
    before = town.rows("SELECT session, base_version FROM console_boxstatus WHERE box_id = ?", honest.name)
    other = Outbox(honest.name, boot="e" * 32)
    lies = [other.message("alert", alert(7)), other.message("state", state(99, base={"version": 666, "entries": 1}))]
    lies += [(up(honest.name, kind), b"{}") for kind in Kind]
    lies += [(down(box.name, order), b"{}") for box in (thief, honest) for order in Order]
    lies += [("vigie/v1/all/down/base", b'{"v":1,"version":9,"at":1}'), ("vigie/v1/+/up/alert2", b"x")]
    with thief.session() as session:
        for topic, payload in lies:
            if "+" not in topic:
                assert session.say(topic, payload) == NOT_AUTHORISED, topic
                assert session.say(topic, payload, retain=True) == NOT_AUTHORISED, topic
        assert session.say(*Outbox(thief.name).message("alert", alert(1))) in (0, 16), "its own name is not its own"
        thief.until(lambda: town.alerts(thief.name) == (1, 1), "its own alert arrives")
    with thief.session(down(honest.name, Order.DESIRED), "vigie/v1/+/up/+") as session:
        honest.filter.add_alerts(1)
        honest.until(lambda: town.alerts(honest.name) == (1, 1), "its own alert arrives, and no other")
        assert session.heard == []
    assert town.rows("SELECT session, base_version FROM console_boxstatus WHERE box_id = ?", honest.name) == before
    assert not town.rows("SELECT topic FROM console_aside"), "a lie went as far as the ingest"
    assert honest.link_status["code"] == "connected"


def test_a_revoked_box_is_cut_deaf_and_mute_and_the_others_notice_nothing(
    town: Town, new_box: Callable[[], BoxSide]
) -> None:
    department, lost, kept = town.department, new_box(), new_box()
    for one in (lost, kept):
        one.enrol()
        one.start("link")
        one.until_code("connected")
        one.filter.add_alerts(3)
        heard(town, one, 3)
    sessions = kept.link_status["session"]
    department.cli("box", "revoke", lost.name, "--why", "volé").require()
    lost.until(lambda: lost.link_status["code"] in REFUSED, "cut, and refused when it comes back")
    lost.until(lambda: online(town, lost.name) is False, "known to be away")
    lost.filter.add_alerts(5)
    order = department.cli("exception", "add", "later.example", "--all", "--for", "1j", "--why", "essai").require()
    kept.until(lambda: kept.filter.call("department-show")["exceptions"] == 1, f"the other box obeys {order.out}")
    kept.filter.add_alerts(5)
    kept.until(lambda: town.alerts(kept.name) == (8, 8), "the other box is heard")
    assert kept.link_status["session"] == sessions, f"the other box was disturbed\n{kept.evidence()}"
    assert town.alerts(lost.name) == (3, 3)
    assert lost.filter.waiting == 5, "what it could not tell waits"
    assert lost.filter.call("department-show")["exceptions"] == 0
    with lost.session(expect=False) as again:
        again.wait(lambda: bool(again.errors or again.ends), "refused")
        assert again.connections == []


REFUSED = {LinkCode.BOX_CERTIFICATE.value, LinkCode.DENIED.value}


def test_nobody_comes_in_under_a_list_past_its_date_and_all_come_back(
    town: Town, new_box: Callable[[], BoxSide]
) -> None:
    """The authority has been away for a month: what it published last runs out."""
    department, boxes = town.department, [new_box(), new_box()]
    for one in boxes:
        one.enrol()
        one.start("link")
        one.until_code("connected")
    department.stop("authority")
    publish_list(town, timedelta(seconds=6))
    eventually(lambda: list_ends(town) < time.time() + 10, lambda: watch_status(town) + department.log("watch"))
    time.sleep(max(0.0, list_ends(town) + 0.5 - time.time()))
    department.stop("broker", kill=True)
    department.start("broker")
    for one in boxes:
        one.until_code(LinkCode.BOX_CERTIFICATE.value)
        one.filter.add_alerts(4)
        assert one.filter.call("status")["base"]["version"] == 1, "filtering goes on"
    with boxes[0].session(expect=False) as outside:
        outside.wait(lambda: bool(outside.errors or outside.ends), "refused")
        assert outside.connections == []
    eventually(lambda: "crl-expired" in watch_status(town), lambda: watch_status(town))
    department.start("authority")
    for one in boxes:
        one.until_code("connected")
        heard(town, one, 4)


def publish_list(town: Town, life: timedelta) -> None:
    """As the authority does, with its keys and its store, but for a short time."""
    paths, now = town.department.config.paths, int(time.time())
    held = ca.load(ca.Places(paths.authority, paths.pki, paths.trust))
    (store,) = paths.authority.glob("*.db")
    with contextlib.closing(sqlite3.connect(store)) as database:
        database.row_factory = sqlite3.Row
        number = int(database.execute("SELECT value FROM facts WHERE name = 'crl_number'").fetchone()[0]) + 1
        what = crl.content(database, now, max(number, now))
    write_atomically(paths.pki / "crl.pem", crl.sign(held, what, now, life))


def watch_status(town: Town) -> str:
    """What the watch tells `doctor`."""
    return broker_plan(town.department.config).status.read_text()


def list_ends(town: Town) -> float:
    """When the list in force in the broker ends (time.time())."""
    return float(json.loads(watch_status(town))["crl"]["expires"])
