"""Nothing is lost and nothing is stored twice, whatever is away: the ingest, the broker, the database."""

from __future__ import annotations

import json
import signal
import time

from tests.support.ingest import BoxClient, Department
from tests.support.messages import Outbox, alert, metric, state
from tests.support.servers import eventually


def fill(box: BoxClient, outbox: Outbox, count: int) -> None:
    for number in range(outbox.seq + 1, outbox.seq + 1 + count):
        topic, payload = outbox.message("alert", alert(number))
        box.put(number, topic, payload)


def test_what_is_sent_is_stored_and_confirmed(department: Department, box: BoxClient) -> None:
    department.start_ingest()
    outbox = Outbox(box.name)
    fill(box, outbox, 500)
    eventually(lambda: not box.rows, lambda: f"{len(box.rows)} rows not confirmed\n{department.log()}")
    department.until("alert", 500)
    assert department.query("SELECT upto, beyond FROM console_receipt") in ([(500, "[]")], [(500, [])])


def test_every_kind_reaches_its_table(department: Department, box: BoxClient) -> None:
    department.start_ingest()
    outbox = Outbox(box.name)
    consent = {"at": 1_790_000_000, "by": "mairie"}
    request = {"indicator": "toxic.example", "device": None, "days": 30, "words": "Très urgent", "consent": consent}
    bodies = {
        "alert": alert(),
        "metric": metric(candidate=4, observed={"new.example": 2}),
        "request": request,
        "diagnostic": {"command": "ab" * 16, "consent": consent, "items": {"dmesg": "é"}},
        "ack": {"order": "command", "id": "c" * 32, "result": "done", "code": None, "detail": []},
    }
    for kind, body in bodies.items():
        box.put(outbox.seq + 1, *outbox.message(kind, body))
    topic, payload = Outbox(box.name, boot="d" * 32).message("state", state(base={"version": 8, "entries": 5}))
    box.client.publish(topic, payload, 1, retain=True)
    eventually(lambda: not box.rows, lambda: f"{box.rows}\n{department.log()}")
    for table in ("alert", "observation", "exceptionrequest", "diagnostic"):
        department.until(table, 1)
    department.until("counter", 4)
    department.until("boxstatus", 1, "base_version = 8 AND online")
    assert department.query("SELECT words FROM console_exceptionrequest") == [("Très urgent",)]


def test_the_ingest_is_away_and_killed(department: Department, box: BoxClient) -> None:
    """5,000 rows of which the broker keeps 2,000: the middle is lost on the way, and sent again."""
    department.start_ingest().stop()
    outbox = Outbox(box.name)
    fill(box, outbox, 3000)
    second = department.start_ingest()
    fill(box, outbox, 2000)
    eventually(lambda: department.count("alert") > 100, "nothing arrives")
    second.kill()
    department.start_ingest()
    box.drain(60)
    department.until("alert", 5000)
    assert department.query("SELECT count(DISTINCT alert_id) FROM console_alert") == [(5000,)]


def test_the_broker_is_killed(department: Department, box: BoxClient) -> None:
    department.start_ingest()
    outbox = Outbox(box.name)
    fill(box, outbox, 1000)
    department.servers.broker.kill()
    fill(box, outbox, 500)
    department.servers.start_broker()
    box.drain(60)
    department.until("alert", 1500)


def test_poison_is_kept_aside_and_stops_nobody(department: Department, box: BoxClient) -> None:
    department.start_ingest()
    outbox = Outbox(box.name)
    fill(box, outbox, 2)
    box.put(outbox.seq + 1, *outbox.message("alert", alert(99, colour="red")))
    box.client.publish(f"vigie/v1/{box.name}/up/alert", b"\x00\xff not JSON", 1)
    box.client.publish(f"vigie/v1/{box.name}/up/nonsense", b"{}", 1)  # the broker knows the six kinds
    fill(box, outbox, 2)
    eventually(lambda: not box.rows, lambda: f"{box.rows}\n{department.log()}")
    department.until("alert", 4)
    department.until("aside", 2)
    assert department.count("auditentry", "action = 'message.aside'") == 1, "one per box"
    assert not department.count("aside", f"topic = 'vigie/v1/{box.name}/up/nonsense'")


def test_a_box_speaks_for_itself_only(department: Department, box: BoxClient) -> None:
    department.start_ingest()
    other = department.servers.certificates.box().name
    topic, payload = Outbox(other).message("alert", alert())
    box.client.publish(topic, payload, 1)
    outbox = Outbox(box.name)
    fill(box, outbox, 1)
    department.until("alert", 1)
    assert department.query("SELECT box_id FROM console_alert") == [(box.name,)]


class TestDatabase:
    def test_it_is_away(self, department: Department, box: BoxClient) -> None:
        department.start_ingest()
        outbox = Outbox(box.name)
        fill(box, outbox, 200)
        department.until("alert", 200)
        if department.postgres is not None:
            department.postgres.stop(signal.SIGINT)
            fill(box, outbox, 300)
            department.ingests[0].wait_for_line("nothing is lost, trying again")
            assert len(box.rows) >= 300, "confirmed what is not committed"
            department.postgres.start()
        else:
            import sqlite3

            holder = sqlite3.connect(department.config.paths.data / "console.db", isolation_level=None)
            holder.execute("BEGIN EXCLUSIVE")
            fill(box, outbox, 300)
            time.sleep(1)
            assert len(box.rows) >= 300, "confirmed what is not committed"
            holder.execute("COMMIT")
            holder.close()
        box.drain(60)
        department.until("alert", 500)

    def test_it_crashes(self, department: Department, box: BoxClient) -> None:
        """What was confirmed before the crash is there after it."""
        if department.postgres is None:
            return
        department.start_ingest()
        outbox = Outbox(box.name)
        fill(box, outbox, 1000)
        eventually(lambda: box.confirmed > 0, "nothing is confirmed")
        department.postgres.stop(signal.SIGQUIT)
        confirmed = box.confirmed
        department.postgres.start()
        assert department.count("alert", f"seq <= {confirmed}") == confirmed
        box.drain(60)
        department.until("alert", 1000)


class TestOutgoing:
    def enqueue(self, department: Department, topic: str, payload: str, retain: bool) -> None:
        now = "now()" if department.postgres is not None else "'2026-11-22 10:00:00'"
        blob = f"'\\x{payload.encode().hex()}'" if department.postgres is not None else f"x'{payload.encode().hex()}'"
        department.query(
            "INSERT INTO console_outgoing (topic, payload, retain, response_topic, correlation, expiry_s, created) "  # noqa: S608
            f"VALUES ('{topic}', {blob}, {str(retain).lower()}, '{topic}/r', 'abc', 60, {now})"
        )

    def test_orders_arrive_in_order_with_their_properties(self, department: Department, box: BoxClient) -> None:
        department.start_ingest()
        for number in range(20):
            self.enqueue(department, f"vigie/v1/{box.name}/down/command", json.dumps({"n": number}), False)
        eventually(lambda: len(box.orders) == 20, lambda: f"{len(box.orders)} of 20\n{department.log()}")
        assert [json.loads(payload)["n"] for _topic, payload, _properties in box.orders] == list(range(20))
        properties = box.orders[0][2]
        assert properties.ResponseTopic == f"vigie/v1/{box.name}/down/command/r"
        assert properties.CorrelationData == b"abc"
        assert 0 < properties.MessageExpiryInterval <= 60
        department.until("outgoing", 20, "sent IS NOT NULL")

    def test_they_wait_for_the_broker(self, department: Department) -> None:
        client = department.servers.certificates.box()
        department.start_ingest()
        department.servers.broker.kill()
        self.enqueue(department, f"vigie/v1/{client.name}/down/desired", "{}", True)
        time.sleep(0.5)
        assert department.count("outgoing", "sent IS NULL") == 1
        department.servers.start_broker()
        department.until("outgoing", 1, "sent IS NOT NULL", 30)
        with BoxClient(department, client) as box:
            eventually(lambda: bool(box.orders), "the retained document does not arrive")


def test_one_ingest_per_department(department: Department) -> None:
    import subprocess

    from lab.loopback import tool

    department.start_ingest()
    argv = [tool("vigie-department"), "--config", str(department.config.path), "ingest"]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1, second
    assert "ingest" in second.stderr
