"""Every row of a box's outbox is in the department's database once, whatever is killed on the way."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

from lab.department import Department
from tests.integration.fleet.box_side import BoxSide
from tests.integration.fleet.conftest import Town
from tests.support.certificates import Client
from tests.support.ingest import BoxClient
from tests.support.ingest import Department as Served
from tests.support.messages import Outbox, alert
from vigie.enrol import credentials
from vigie_department.broker.plan import broker_plan

BACKLOG = 10_000
QUEUE = 2000
LOUD = QUEUE + 500


def arrived_once(town: Town, box: BoxSide, count: int, seconds: float = 90.0) -> None:
    """Outbox empty, nothing dropped, each alert one row."""
    box.until(lambda: box.filter.waiting == 0, "outbox empty", seconds)
    assert town.alerts(box.name) == (count, count), box.evidence()
    assert box.filter.lost == 0


def some(town: Town, box: BoxSide, least: int, most: int) -> None:
    """Until so many have arrived: the drain is under way, and not over."""
    box.until(lambda: town.alerts(box.name)[0] >= least, f"{least} rows in the database")
    there = town.alerts(box.name)[0]
    assert there < most, f"{there} rows arrived before anything was killed: the test proves nothing"


def test_broker_killed_twice_with_ten_thousand_rows_in_the_outbox(town: Town, box: BoxSide) -> None:
    """The second time it holds rows that it has acknowledged and not handed on: they die with it."""
    department = town.department
    box.filter.add_alerts(BACKLOG)
    some(town, box, 500, BACKLOG)
    department.stop("broker", kill=True)
    box.until(lambda: box.link_status.get("code") != "connected", "the link notices")
    assert box.filter.waiting > 0
    department.start("broker")
    box.until_code("connected")
    some(town, box, 2000, BACKLOG)
    department.stop("ingest")
    before = town.alerts(box.name)[0]
    box.until(lambda: box.link_status["outbox"]["waiting"] == 100, "the window is full of what nobody confirms")
    department.stop("broker", kill=True)
    department.start("broker", "ingest")
    assert before < BACKLOG
    arrived_once(town, box, BACKLOG)


def test_ingest_killed_in_the_middle_of_a_drain(town: Town, box: BoxSide) -> None:
    box.filter.add_alerts(1500)
    for least in (200, 700):
        some(town, box, least, 1500)
        town.department.stop("ingest", kill=True)
        town.department.start("ingest")
    arrived_once(town, box, 1500)


def test_ingest_away_while_more_is_published_than_the_broker_keeps(
    town: Town, box: BoxSide, new_box: Callable[[], BoxSide]
) -> None:
    """A loud neighbour fills the ingest's queue: what the quiet box sends is acknowledged and thrown away."""
    department, loud = town.department, new_box()
    loud.enrol()
    department.stop("ingest")
    with queue_of(department, QUEUE), raw_client(town, loud) as neighbour:
        acknowledged: list[int] = []
        neighbour.client.on_publish = lambda *said: acknowledged.append(said[2])
        outbox = Outbox(loud.name)
        for number in range(1, LOUD + 1):
            neighbour.put(number, *outbox.message("alert", alert(number)))
        box.until(lambda: len(acknowledged) == LOUD, "the neighbour's rows are acknowledged")
        box.until_code("connected")
        box.filter.add_alerts(500)
        box.until(lambda: box.link_status["outbox"]["sent"] >= 100, "the quiet box has sent what it may")
        assert (town.alerts(loud.name), town.alerts(box.name)) == ((0, 0), (0, 0))
        department.start("ingest")
        neighbour.drain(60)
        arrived_once(town, box, 500)
    assert town.alerts(loud.name) == (LOUD, LOUD)
    assert box.link_status["outbox"]["resent"] > 0, box.evidence()


@contextlib.contextmanager
def queue_of(department: Department, messages: int) -> Iterator[None]:
    """The broker keeps so many for each session, inside: sooner full than in the field, and no different then."""
    path = broker_plan(department.config).configuration
    usual = path.read_text()
    smaller, places = re.subn(r"(?m)^max_queued_messages \d+$", f"max_queued_messages {messages}", usual)
    assert places == 1, usual
    department.stop("broker")
    try:
        path.write_text(smaller)
        department.start("broker")
        yield
    finally:
        path.write_text(usual)
        department.stop("broker")
        department.start("broker")


def raw_client(town: Town, box: BoxSide) -> BoxClient:
    """The box's session without its link, so that nothing bounds what it sends."""
    found = credentials.load(box.enrolled.config.paths)
    config = town.department.config
    roots = SimpleNamespace(certificates=SimpleNamespace(roots=config.paths.pki / "roots.pem"))
    served = SimpleNamespace(config=config, servers=roots, log=lambda: town.department.log("ingest"))
    client = Client(box.name, found.cert_chain_path, found.key_path, None)  # type: ignore[arg-type]
    return BoxClient(cast(Served, served), client)
