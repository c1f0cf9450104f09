"""The department's side of the filter, in the box: what it is told, and what its orders do to the machines.

pc, camera -- lan0 [ box ] wan0 -- router -- internet
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import plan
from lab.bare import make_base
from lab.box import Product
from lab.clients import tls
from lab.office import Office
from lab.topology import Topology
from tests.netns.town import INDICATORS
from vigie.contract.envelope import Upward
from vigie.contract.words import Kind
from vigie.errors import DaemonError, UsageError
from vigie.filter import client
from vigie.filter.base.basefile import write_base

BOX = "vg-abcdefgh23456723"
NAME = INDICATORS.toxic_names[0]
HOUR = 3600


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    """The box with a small base and a state of its own."""
    with Topology(INDICATORS) as lab:
        base = lab.world.temp / "small.vgb"
        write_base(make_base((INDICATORS.toxic4, INDICATORS.toxic6), INDICATORS.toxic_names, filler=1000), base)
        folders = {key: str(lab.world.temp / key) for key in ("trust", "box_state", "run_dir")}
        made = Office(lab, Product(lab, base, settings=folders))
        made.box.bring_up(made.times)
        lab.wait_until_ready()
        made.box.wait_roles()
        yield made


class Department:
    """Orders by the socket, each of the next version; rows as the link would take them."""

    def __init__(self, office: Office) -> None:
        self.socket = office.box.socket

    def call(self, op: str, **params: Any) -> dict[str, Any]:
        return client.call(self.socket, op, **params)

    def order(self, **parts: Any) -> dict[str, Any]:
        now = int(time.time())
        version = self.call("department-show")["version"] + 1
        policy = {"v": 1, "box": BOX, "version": version, "issued": now, "expires": now + 30 * 24 * HOUR}
        policy |= {"exceptions": [], "never_block": [], "essential": [], "isolation": None, "quarantine": []}
        return self.call("department", policy=policy | {"settings": {"volunteer": False}, "mass": None} | parts)

    def rows(self) -> list[dict[str, Any]]:
        """Rows since the last call, confirmed."""
        rows: list[dict[str, Any]] = self.call("outbox", limit=500)["rows"]
        for row in rows:
            self.call("outbox-received", boot=row["boot"], upto=row["seq"])
        return rows

    def wait_alert(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 5.0) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        seen: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            for row in self.rows():
                seen.append(row)
                if row["kind"] == "alert" and wanted(row["body"]):
                    return row
            time.sleep(0.1)
        raise AssertionError(f"no such alert within {seconds} s: {json.dumps(seen, indent=1)}")


@pytest.fixture
def department(office: Office) -> Iterator[Department]:
    """Nothing is ordered any more afterwards."""
    made = Department(office)
    made.rows()
    yield made
    made.order()


def until(hours: float = 1.0) -> int:
    return int(time.time() + hours * HOUR)


def test_a_blocked_name_is_told_within_seconds_and_no_more_than_may_be(office: Office, department: Department) -> None:
    asked = f"secretaire-de-mairie.{NAME}"
    before = time.monotonic()
    tls.dig(office["pc"], asked, plan.GATEWAY4)
    row = department.wait_alert(lambda body: body["rule"] == "toxic-name")
    assert time.monotonic() - before < 5
    body = row["body"]
    assert (body["indicator"], body["severity"], body["count"]) == (NAME, 3, 1)
    frame = {k: row[k] for k in ("boot", "seq", "prev", "ts", "clock")} | body | {"v": 1}
    assert Upward.from_dict(Kind.ALERT, frame).body.KIND is Kind.ALERT
    assert "secretaire" not in json.dumps(row) and plan.MACS["pc"] not in json.dumps(row)
    status = office.box.status()
    assert status["boot"] == row["boot"] == status["outbox"]["boot"]


def test_orders_hold_at_once_and_by_pseudonym(office: Office, department: Department) -> None:
    pc, camera = office["pc"], office["camera"]
    camera.must_reach(plan.CLOUD.v4, plan.HTTPS)
    tls.dig(camera, NAME, plan.GATEWAY4)
    device = department.wait_alert(lambda body: body["rule"] == "toxic-name")["body"]["device"]
    block = {"action": "block", "target": f"{plan.CLOUD.v4}/32", "device": device, "until": until(), "note": "essai"}
    answer = department.order(exceptions=[block])
    assert (answer["status"], answer["refused"]) == ("in_force", [])
    camera.must_refuse_fast(plan.CLOUD.v4, plan.HTTPS)
    pc.must_reach(plan.CLOUD.v4, plan.HTTPS)
    alert = department.wait_alert(lambda body: body["rule"] == "department-block")["body"]
    assert (alert["device"], alert["indicator"]) == (device, None)
    said = office.box.json("why", plan.CLOUD.v4, "--device", plan.MACS["camera"])
    assert "département" in next(o["text"] for o in said["opinions"] if o["layer"] == "exceptions")
    # The commune says otherwise, and that is that.
    office.box.cli("allow", plan.CLOUD.v4).require()
    camera.must_reach(plan.CLOUD.v4, plan.HTTPS)
    office.box.cli("allow", plan.CLOUD.v4, "--remove").require()
    camera.must_refuse_fast(plan.CLOUD.v4, plan.HTTPS)
    answer = department.order(quarantine=[{"device": device, "until": until()}])
    assert answer["quarantine"][0]["mac"] == plan.MACS["camera"]
    camera.must_refuse_fast(plan.TOWN.v4, plan.HTTPS)
    office.box.cli("quarantine", plan.MACS["camera"], "--remove").require()
    camera.must_reach(plan.TOWN.v4, plan.HTTPS)
    assert department.call("department-show")["refused"] == [{"code": "lifted-locally", "what": "quarantine[0]"}]
    department.wait_alert(lambda body: body["rule"] == "local-lift")


def test_names_ordered_never_to_be_blocked_and_essential_ones(office: Office, department: Department) -> None:
    """Both are in the base's image: an address that such a name points to is spared, or kept under isolation."""
    pc = office["pc"]
    assert "NXDOMAIN" in tls.dig(pc, NAME, plan.GATEWAY4).out
    department.order(
        never_block=[NAME], essential=[{"name": plan.TOWN.name, "rank": 1}], isolation={"level": 3, "until": until()}
    )
    answer = tls.dig(pc, NAME, plan.GATEWAY4)
    assert "NXDOMAIN" not in answer.out, answer.out
    tls.dig(pc, plan.TOWN.name, plan.GATEWAY4).require()
    pc.must_reach(plan.TOWN.v4, plan.HTTPS)
    pc.must_refuse_fast(plan.CLOUD.v4, plan.HTTPS)
    said = office.box.json("isolate", "0")
    assert said["ordered"]
    pc.must_reach(plan.CLOUD.v4, plan.HTTPS)
    answer = department.order(isolation={"level": 2, "until": until()})
    assert answer["refused"] == [{"code": "lifted-locally", "what": "isolation"}]
    pc.must_reach(plan.CLOUD.v4, plan.HTTPS)


def test_a_daemon_that_dies_keeps_orders_numbers_and_boots_apart(office: Office, department: Department) -> None:
    department.order(exceptions=[{"action": "block", "target": f"{plan.CLOUD.v4}/32", "until": until(), "note": ""}])
    tls.dig(office["phone"], NAME, plan.GATEWAY4)
    time.sleep(1.5)
    before = department.call("outbox", limit=500)["rows"]
    assert before
    office.box.kill()
    office.box.start()
    office["pc"].must_refuse_fast(plan.CLOUD.v4, plan.HTTPS)
    after = department.call("outbox", limit=500)["rows"]
    assert after[: len(before)] == before
    stats = department.call("outbox-stats")
    assert stats["boot"] != before[0]["boot"] and stats["rows"] >= len(before)
    added = department.call("outbox-add", kind="ack", body={
        "order": "desired", "version": 3, "result": "partial", "code": "never-block",
        "detail": ["exceptions[3]:never-block"],
    })  # fmt: skip
    assert added["boot"] == stats["boot"]


def test_what_makes_no_sense_is_refused(office: Office, department: Department) -> None:
    for op, params in (
        ("outbox", {"limit": 0}),
        ("outbox-received", {"boot": "x", "upto": 1}),
        ("outbox-add", {"kind": "state", "body": {}}),
        ("outbox-add", {"kind": "ack", "body": {"order": "desired", "mac": plan.MACS["pc"]}}),
        ("department", {}),
        ("department", {"policy": {}}),
        ("department", {"envelope": {"payload": "e30=", "payloadType": "x", "signatures": []}}),
    ):
        with pytest.raises((UsageError, DaemonError)):
            department.call(op, **params)
    office.box.wait_holding()
    assert office.box.status()["problems"] == []
