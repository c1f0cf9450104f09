"""What a box with a valid certificate and bad intentions cannot do to the others, and to the disk."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from tests.support.messages import Outbox, alert, box_id, metric
from vigie_department.config import Retention
from vigie_department.console.models import Alert, Box, Counter, Receipt
from vigie_department.console.services import audit
from vigie_department.ingest import registry
from vigie_department.ingest.decode import OURS, Poison, Report, decode
from vigie_department.ingest.quota import NEW_BOOT, Quota
from vigie_department.ingest.store import Store
from vigie_department.ops import retain

pytestmark = pytest.mark.usefixtures("db")

BOX, OTHER = box_id("greedy"), box_id("honest")


def reports(*messages: tuple[str, bytes]) -> list[Report | Poison]:
    return [decode(topic, payload) for topic, payload in messages]


def test_a_box_has_a_share_and_the_others_have_theirs() -> None:
    now, store = timezone.now(), Store(Quota(burst=NEW_BOOT + 3, per_s=0.5))
    greedy, honest = Outbox(BOX), Outbox(OTHER)
    flood = reports(*(greedy.message("alert", alert(n)) for n in range(1, 11)))
    assert store.write(flood, now) == {(BOX, greedy.boot): 3}
    assert Alert.objects.filter(box=BOX).count() == 3 and store.totals.over == 7
    assert store.write(reports(honest.message("alert", alert(1))), now) == {(OTHER, honest.boot): 1}
    # What was stored is confirmed again; what was not comes again later, and nothing is lost.
    assert store.write(flood[:3], now) == {(BOX, greedy.boot): 3}
    assert store.write(flood, now + timedelta(seconds=4)) == {(BOX, greedy.boot): 5}
    assert store.write(flood, now + timedelta(seconds=60)) == {(BOX, greedy.boot): 10}
    assert sorted(Alert.objects.filter(box=BOX).values_list("alert_id", flat=True)) == list(range(1, 11))


def test_new_boots_and_long_texts_cost_more() -> None:
    now, store = timezone.now(), Store(Quota(burst=100, per_s=0.001))
    boots = [Outbox(BOX, boot=f"{n:032x}") for n in range(1, 1001)]
    store.write(reports(*(outbox.message("alert", alert(1)) for outbox in boots)), now)
    assert Receipt.objects.count() == 100 // (NEW_BOOT + 1)
    other = Outbox(OTHER)
    body = {
        "command": "ab" * 16,
        "consent": {"at": 1, "by": "mairie"},
        "items": {f"item-{n}": "x" * 3900 for n in range(10)},
    }
    items = reports(*(other.message("diagnostic", body) for _ in range(5)))
    assert all(isinstance(item, Report) for item in items)
    assert store.write(items, now) == {(OTHER, other.boot): 1}


def test_a_share_is_not_spent_by_a_transaction_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, store, outbox = timezone.now(), Store(Quota(burst=NEW_BOOT + 1, per_s=0.001)), Outbox(BOX)
    one = reports(outbox.message("alert", alert(1)))

    def fails(*_: object) -> None:
        raise OSError("no disk")

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(store, "_save", fails)
        store.write(one, now)
    assert store.write(one, now) == {(BOX, outbox.boot): 1}


def test_no_box_stands_in_the_place_of_the_authoritys_alert() -> None:
    """Sent before, it would keep the alert from being made; sent after, it would make it harmless."""
    outbox = Outbox(BOX, boot=OURS)
    event = {"id": 7, "at": 1_790_000_000, "kind": "clone", "serial": "S-1", "box": BOX, "detail": {}}
    store = Store()
    for _ in range(2):
        (item,) = reports(outbox.message("alert", alert(7, severity=0), prev=0))
        assert isinstance(item, Poison) and item.header is None
        store.write([item])
        registry.apply(registry.Event.of(event))
    assert list(Alert.objects.values_list("rule", "severity")) == [("clone", Alert.Severity.CRITICAL)]


def test_a_box_of_the_year_9999_is_not_kept_until_then() -> None:
    Box.objects.create(id=BOX, state=Box.State.ACTIVE)
    outbox, far = Outbox(BOX), 253_402_000_000 // 3600
    Store().write(
        reports(
            outbox.message("alert", alert(1, first=far * 3600, last=far * 3600)),
            outbox.message("metric", metric(hour=far)),
        )
    )
    assert Alert.objects.count() == 1 and Counter.objects.count() > 0
    kept = Retention()
    later = timezone.now() + timedelta(days=max(kept.alerts, kept.counters) + 1)
    retain.run(audit.INGEST, kept, now=later)
    assert not Alert.objects.exists() and not Counter.objects.exists()


def test_the_topic_says_which_box_it_is() -> None:
    topic, payload = Outbox(BOX).message("alert", alert(1))
    item = decode(topic.replace(BOX, OTHER), payload)
    assert isinstance(item, Report) and item.box == OTHER and OTHER not in json.loads(payload)
